"""How a run shows its progress: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from l2lnp.runs.training import Progress, Watcher


@contextmanager
def shown_progress(steps: int, step: int) -> Iterator[Watcher]:
    """Give what shows a run of ``steps`` steps that stands at ``step``, fitting for the standard output."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield PlainLines()
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(bar_width=20), TextColumn("{task.description}"), refresh_per_second=8) as bar:
        yield LiveLine(bar, bar.add_task(f"step {step}/{steps}", total=steps, completed=step))


def describe(progress: Progress) -> str:
    """Return step, loss, test error, speed and remaining time in one line."""
    width, rate = len(str(progress.steps)), progress.steps_per_s
    error = "  -  " if progress.test_error is None else f"{100 * progress.test_error:5.2f}"
    return (
        f"step {progress.step:{width}}/{progress.steps}  loss {progress.loss:<8.3g}  "
        f"test error {error} %  {rate:.{0 if rate >= 10 else 1}f} steps/s  {clock(progress.remaining_s)} left"
    )


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, or hours, minutes and seconds.

    >>> clock(65), clock(3600)
    ('1:05', '1:00:00')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


class PlainLines:
    """One line of text whenever the test error was measured."""

    def step(self, progress: Progress) -> None:
        """Show the step if it is one of those."""
        if progress.is_measured:
            click.echo(describe(progress))

    def message(self, text: str) -> None:
        """Show ``text``."""
        click.echo(text)


class LiveLine:
    """One line that is written over and over."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def step(self, progress: Progress) -> None:
        """Show the step."""
        self._bar.update(self._task, completed=progress.step, description=describe(progress))

    def message(self, text: str) -> None:
        """Show ``text`` above the live line."""
        self._bar.console.print(text, markup=False, highlight=False)
