"""``l2lnp ablate``: what the second derivatives are worth to a learned optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from l2lnp.cli.bench import Listed
from l2lnp.cli.comparing import REPORT, RUNS, added, compare_and_report, learned_option
from l2lnp.cli.experiment_options import network_option, shared_options
from l2lnp.cli.settings_options import OF_BASIS
from l2lnp.errors import InputError

DEFAULT_LEARNED = "slstm-coordinates=slstm-coordinates"


@click.command("ablate")
@shared_options
@network_option("small")
@added(RUNS)
@learned_option(DEFAULT_LEARNED, may_be_none=False)
@click.option(
    "--modes",
    type=Listed("names", str),
    help="Curvature modes to compare, separated by commas, or none.  [default: all that apply]",
)
@added(REPORT)
def command(learned: tuple[str, ...], modes: tuple[str, ...] | None, **options: Any) -> None:
    """Say what h is worth.

    The first --learned optimizer trains the network with its h as it is, with h = 0, with h shuffled over the
    coordinates of each tensor, and with h by every curvature mode; frozen, and nothing is trained anew for
    it. Further --learned ones, such as its twin without h, run beside it. Otherwise as `l2lnp compare`.
    """
    from l2lnp.curvature import BASIS_MODES, MODES, check_basis
    from l2lnp.experiments.ablation import CHANGES
    from l2lnp.experiments.contenders import Learned
    from l2lnp.pretrained import load_learned_optimizer

    first, *others = (Learned.parse(text) for text in learned or (DEFAULT_LEARNED,))
    own = None
    if first.file is not None:
        own = first.settings.get("curvature", load_learned_optimizer(first.file).curvature)
    if own is None:
        raise InputError(
            f"{first.name} has no h to take away: give a pretrained slstm in coordinates first, "
            "or one in the curvature basis with curvature=ekfac"
        )
    in_basis = own in BASIS_MODES
    chosen = () if modes == ("none",) else modes or tuple(m for m in MODES if (m in BASIS_MODES) == in_basis)
    for mode in chosen:
        if mode in MODES and (mode in BASIS_MODES) != in_basis:
            raise InputError(
                f"--modes: '{mode}' is not for {first.name}, which is in "
                f"{'the curvature basis' if in_basis else 'coordinates'}: give another --learned first, "
                f"or take one of: {', '.join(m for m in MODES if (m in BASIS_MODES) == in_basis)}"
            )
        check_basis(mode, in_basis)
    asked = [
        first,
        *(first._replace(name=f"{first.name}-h-{change}", h=change) for change in CHANGES[1:]),
        *(
            first._replace(name=f"{first.name}-{mode}", settings={**first.settings, "curvature": mode})
            for mode in chosen
            if mode != own
        ),
        *others,
    ]
    title = (
        f"What h is worth: {Path(options['data']).stem}, {Path(options['network']).stem} network, "
        f"batch {options['batch_size']}"
    )
    options |= {"tuned": None, "n_tuning_seeds": 1, **dict.fromkeys(OF_BASIS)}
    compare_and_report("ablate", asked, ("none",), default_title=title, **options)
