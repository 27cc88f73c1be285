"""How long work shows its progress: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from l2lnp.runs.training import Progress, Watcher

PAUSE_S = 5.0  # between plain lines


def is_live() -> bool:
    """Whether the standard output is a terminal on which a line can be written over."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Line(Protocol):
    """What shows how far something is."""

    def show(self, text: str, done: int, total: int, stays: bool = False) -> None:
        """Show ``text``, where ``done`` of ``total`` is done; in any case, and for good, if it ``stays``."""

    def message(self, text: str) -> None:
        """Say ``text`` in a line of its own, which stays."""


@contextmanager
def shown_line(pause_s: float = PAUSE_S) -> Iterator[Line]:
    """Give a line that is written over and over, or plain ones, ``pause_s`` seconds between them."""
    if not is_live():
        yield SeldomLine(pause_s)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(bar_width=20), TextColumn("{task.description}"), refresh_per_second=8) as bar:
        yield LiveLine(bar)


class LiveLine:
    """One line that is written over and over."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1)

    def show(self, text: str, done: int, total: int, stays: bool = False) -> None:
        """Show ``text`` behind a bar; and above the line, if it ``stays``."""
        if stays:
            self.message(text)
        self._bar.update(self._task, completed=done, total=total, description=text)

    def message(self, text: str) -> None:
        """Show ``text`` above the live line."""
        self._bar.console.print(text, markup=False, highlight=False)


class SeldomLine:
    """A line of text when the last one was long ago, and one at the end."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._next_s = time.monotonic()

    def show(self, text: str, done: int, total: int, stays: bool = False) -> None:
        """Show ``text`` if it is time, or it ``stays``."""
        if stays or done == total or time.monotonic() >= self._next_s:
            self.message(text)

    def message(self, text: str) -> None:
        """Show ``text``."""
        click.echo(text)
        self._next_s = time.monotonic() + self._pause_s


@contextmanager
def shown_progress(steps: int, step: int) -> Iterator[Watcher]:
    """Give what shows a run of ``steps`` steps that stands at ``step``."""
    if not is_live():
        yield PlainSteps()
        return
    with shown_line() as line:
        line.show(f"step {step}/{steps}", step, steps)
        yield LiveSteps(line)


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


class PlainSteps:
    """One line of text whenever the test error was measured."""

    def step(self, progress: Progress) -> None:
        """Show the step if it is one of those."""
        if progress.is_measured:
            click.echo(describe(progress))

    def message(self, text: str) -> None:
        """Show ``text``."""
        click.echo(text)


class LiveSteps:
    """All steps in one line that is written over and over."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.message = line.message

    def step(self, progress: Progress) -> None:
        """Show the step."""
        self._line.show(describe(progress), progress.step, progress.steps)
