"""``l2lnp compare``: all optimizers side by side."""

from __future__ import annotations

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


@click.command("compare")
@shared_options
@network_option("small")
@added(RUNS)
@optimizers_option
@learned_option(DEFAULT_LEARNED[0])
@click.option(
    "--reference", help="The contender that others are tested against.  [default: the first learned]"
)
@basis_options
@tuning_options
@added(REPORT)
def command(learned: tuple[str, ...], optimizers: tuple[str, ...] | None, **options: Any) -> None:
    """Compare optimizers, seed by seed.

    Every contender starts from the same initial weights and sees the same mini-batches; hand-designed
    ones are tuned first, for each number of steps that is reported. Writes tables (Markdown), figures
    (PNG, SVG) and all numbers (CSV, JSON) into a folder. Interrupted, the same command goes on.
    """
    from l2lnp.experiments.contenders import Learned

    asked = [Learned.parse(text) for text in learned or DEFAULT_LEARNED if text != "none"]
    compare_and_report("compare", asked, optimizers, **options)
