"""``l2lnp transfer``: LSTMs learned on the small network train the big one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from l2lnp.cli.comparing import (
    DEFAULT_LEARNED,
    REPORT,
    RUNS,
    added,
    compare_and_report,
    learned_option,
    optimizers_option,
)
from l2lnp.cli.experiment_options import basis_options, network_option, shared_options, tuning_options
from l2lnp.cli.settings_options import Name, known_names


@click.command("transfer")
@shared_options
@network_option("big")
@click.option(
    "--learned-on",
    type=Name(known_names("network")),
    default="small",
    show_default=True,
    help="The network that files with one LSTM for each layer were learned on.",
)
@added(RUNS)
@optimizers_option
@learned_option(DEFAULT_LEARNED[0])
@click.option(
    "--joint/--no-joint", default=True, show_default=True, help="Let each learn on, too, beside frozen."
)
@basis_options
@tuning_options
@added(REPORT)
def command(
    learned: tuple[str, ...], learned_on: str, joint: bool, optimizers: tuple[str, ...] | None, **options: Any
) -> None:
    """Take learned optimizers to another network.

    The paper's experiment: LSTMs learned on the small network train the big one, frozen and learning on,
    against hand-designed optimizers tuned for the big one. An LSTM for each layer serves all layers of its
    kind. Otherwise as `l2lnp compare`.
    """
    from l2lnp.experiments.contenders import Learned
    from l2lnp.experiments.transfer import file_by_kind, layout_of

    asked: list[Learned] = []
    if not options["sources"]:
        layout = layout_of(options["data"], options["data_dir"], learned_on)
        for one in (Learned.parse(text) for text in learned or DEFAULT_LEARNED if text != "none"):
            if one.file is not None:
                one = one._replace(file=file_by_kind(one.file, layout, Path(options["cache"])))
            asked.append(one)
            if joint and not one.joint:
                asked.append(one._replace(name=f"{one.name}-joint", joint=True))
    title = (
        f"Transfer: {Path(options['data']).stem}, from the {Path(learned_on).stem} network "
        f"to the {Path(options['network']).stem} one"
    )
    compare_and_report("transfer", asked, optimizers, default_title=title, **options)
