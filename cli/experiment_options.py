"""Options that the experiments share, and how their jobs are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l2lnp.cli.interrupts import caught_interrupts
from l2lnp.cli.progress import clock, shown_line
from l2lnp.cli.settings_options import (
    BASIS_EVERY_HELP,
    BASIS_MAX_WIDTH_HELP,
    Name,
    Setting,
    backend_option,
    known_names,
)

if TYPE_CHECKING:
    from l2lnp.experiments.running import JobsProgress, Runner

_SHARED = (
    click.option(
        "--data",
        type=Name(known_names("data")),
        default="digits",
        show_default=True,
        help="A data set by name, or a data file FILE.h5.",
    ),
    click.option("--data-dir", type=click.Path(), help="Folder with the official files of a named data set."),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=128,
        show_default=True,
        help="Pictures in a mini-batch.",
    ),
    click.option(
        "--cache",
        type=click.Path(path_type=Path),
        default=Path("runs/experiments"),
        show_default=True,
        help="Folder of finished jobs: what was interrupted goes on where it stopped.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        help="Processes, each with one thread.  [default: all cores; 1 on a GPU]",
    ),
    backend_option,
)

_BASIS = (
    click.option(
        "--basis",
        type=Name(known_names("basis")),
        help="What contenders work in that do not say themselves: coordinates, or kronecker, the curvature "
        "basis. soap and pretrained files do say.  [default: coordinates]",
    ),
    click.option("--basis-every", type=click.IntRange(1), cls=Setting, help=BASIS_EVERY_HELP),
    click.option("--basis-max-width", type=click.IntRange(1), cls=Setting, help=BASIS_MAX_WIDTH_HELP),
)

_TUNING = (
    click.option(
        "--tuned",
        type=click.Path(path_type=Path),
        help="File of tuned settings, read and completed.  [default: tuned.json in --cache]",
    ),
    click.option(
        "--tuning-seeds",
        "n_tuning_seeds",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        help="How many seeds, from 1000 on, are used for tuning; they are never reported.",
    ),
)


def network_option(default: str) -> Callable[[Any], Any]:
    """Return the decorator of ``--network``."""
    return click.option(
        "--network",
        type=Name(known_names("network")),
        default=default,
        show_default=True,
        help="A network by name, or a file FILE.toml.",
    )


def shared_options(command: Any) -> Any:
    """Add the options of all experiments."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def tuning_options(command: Any) -> Any:
    """Add the options of experiments with tuned optimizers."""
    for option in reversed(_TUNING):
        command = option(command)
    return command


def basis_options(command: Any) -> Any:
    """Add the options about the curvature basis of experiments with tuned optimizers."""
    for option in reversed(_BASIS):
        command = option(command)
    return command


@contextmanager
def shown_runner(cache: Path, workers: int | None, backend: str) -> Iterator[Runner]:
    """Give a runner that shows its jobs; after an interruption say how to go on."""
    from l2lnp.execution import available_cores
    from l2lnp.experiments.running import Runner

    n_workers = workers or (available_cores() if backend == "numpy" else 1)
    with caught_interrupts() as is_interrupted, shown_line() as line:

        def watch(progress: JobsProgress) -> None:
            line.show(describe(progress), progress.n_done, progress.n_jobs)

        try:
            yield Runner(cache, n_workers, watch, is_interrupted)
        except KeyboardInterrupt:
            click.echo(f"finished jobs are kept in {cache}: the same command goes on from there")
            raise


def describe(progress: JobsProgress) -> str:
    """Return jobs done, time used and time left in one line."""
    return (
        f"{progress.what}: {progress.n_done}/{progress.n_jobs} jobs  {clock(progress.elapsed_s)} used  "
        f"{clock(progress.remaining_s)} left"
    )
