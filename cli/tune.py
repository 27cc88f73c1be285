"""``l2lnp tune``: find the best settings of hand-designed optimizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from l2lnp.cli.bench import Listed
from l2lnp.cli.experiment_options import (
    basis_options,
    network_option,
    shared_options,
    shown_runner,
    tuning_options,
)
from l2lnp.cli.settings_options import asked_basis
from l2lnp.errors import InputError


@click.command("tune")
@shared_options
@network_option("small")
@basis_options
@tuning_options
@click.option(
    "--optimizers",
    type=Listed("names", str),
    help="Which, each NAME[:SETTING=VALUE], separated by commas.  [default: all hand-designed]",
)
@click.option(
    "--steps",
    "horizons",
    type=Listed("numbers", int),
    default="100,200",
    show_default=True,
    help="Tune for the mean loss over so many first steps; one or more numbers, separated by commas.",
)
def command(
    cache: Path,
    workers: int | None,
    tuned: Path | None,
    n_tuning_seeds: int,
    optimizers: tuple[str, ...] | None,
    horizons: tuple[int, ...],
    **common: Any,
) -> None:
    """Tune hand-designed optimizers.

    Learning rates (for sou also its damping epsilon) are searched on the grid 2^(k/2) for the lowest
    mean training loss over the first n steps; the answer never lies at the edge of what was tried.
    `l2lnp compare` reads the file and completes it.
    """
    from l2lnp.experiments.contenders import CONTENDERS, in_basis
    from l2lnp.experiments.page import table
    from l2lnp.experiments.tuned import TunedFile
    from l2lnp.experiments.tuning import tune, tuning_seeds

    if optimizers == ("none",):
        raise InputError("nothing to tune: leave out --optimizers none, or name some")
    file = TunedFile(tuned or cache / "tuned.json")
    names, _ = in_basis(optimizers or tuple(CONTENDERS), (), asked_basis(common))
    asked = [(name, n) for name in names for n in horizons]
    with shown_runner(cache, workers, common["backend"]) as runner:
        found = tune(common, asked, file, runner, tuning_seeds(n_tuning_seeds), click.echo)
    rows = [
        [
            name,
            str(n),
            ", ".join(f"{v:.4g}" for v in found[name, n].settings.values()),
            f"{found[name, n].loss:.4f}",
        ]
        for name, n in asked
    ]
    click.echo("\n" + table(["optimizer", "steps", "learning rate (and epsilon)", "mean loss"], rows))
    click.echo(f"\nwritten to {file.path}")
