"""How downloads and imports show their progress: a live line on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from l2lnp.cli.progress import PAUSE_S, clock, is_live

if TYPE_CHECKING:
    from rich.progress import Progress

    from l2lnp.data.download import Report


@contextmanager
def shown_bytes() -> Iterator[Callable[[str], Report]]:
    """Give what shows, for the name of a file, how its download goes."""
    if not is_live():
        yield _plain_bytes
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=20),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bars:
        yield lambda name: _bar(bars, name)


def _bar(bars: Progress, name: str) -> Report:
    task = bars.add_task(name, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def _plain_bytes(name: str) -> Report:
    say = _Seldom()

    def report(done: int, total: int | None) -> None:
        of, per_s = f" of {total / 1e6:.1f}" if total else "", say.rate(done)
        left = _left(done, total, per_s) if total else ""
        say(f"{name}: {done / 1e6:.1f}{of} MB, {per_s / 1e6:.2f} MB/s{left}", last=done == total)

    return report


@contextmanager
def shown_pictures() -> Iterator[Callable[[int, int], None]]:
    """Give what shows how an import goes: pictures done, of how many, their rate, the remaining time."""
    say = _Seldom()
    if not is_live():
        yield lambda done, total: say(_pictures(done, total, say.rate(done)), last=done == total)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(bar_width=20), TextColumn("{task.description}"), refresh_per_second=4) as bar:
        task = bar.add_task("reading the list of pictures", total=None)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, description=_pictures(done, total, say.rate(done))
        )


def _pictures(done: int, total: int, per_s: float) -> str:
    if done == total:
        return f"{done:,}/{total:,} pictures; computing checksums"
    return f"{done:,}/{total:,} pictures, {per_s:,.0f}/s{_left(done, total, per_s)}"


def _left(done: int, total: int, per_s: float) -> str:
    return f", {clock((total - done) / per_s)} left" if per_s and done < total else ""


class _Seldom:
    """Prints a line when the last one was long ago, and the last one."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None  # when, and how many had been done
        self._said = time.monotonic()

    def rate(self, done: int) -> float:
        """Return how much has been done per second since the first report."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, done
        since, before = self._start
        return (done - before) / (now - since) if now > since else 0.0

    def __call__(self, line: str, last: bool) -> None:
        now = time.monotonic()
        if last or now - self._said >= PAUSE_S:
            self._said = now
            click.echo(line)
