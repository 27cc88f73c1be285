"""Timing: contenders take turns in one process, so that all meet the same machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np

_SHORT_S = 0.25  # shorter calls are preceded by some that are not counted: caches and thread pools are warm,
_SETTLE_S = 0.05  # for so long, in which idle threads of the contender before stop spinning
_LONG_S, _LONG_RATIO = 2.0, 3.0  # calls longer than this, and than so many of the first contender's


class Call(NamedTuple):
    """How long one call took, and the processor time of all threads in it."""

    wall_s: float
    cpu_s: float


class Times(NamedTuple):
    """Median and quartiles of the counted calls, in seconds, and the median of their processor time.

    On one core the latter leaves out what other processes took of it.
    """

    median_s: float
    lower_s: float
    upper_s: float
    cpu_s: float
    n_calls: int

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Times:
        """Summarise the counted calls."""
        lower, median, upper = np.percentile([call.wall_s for call in calls], [25, 50, 75])
        cpu_s = np.median([call.cpu_s for call in calls])
        return cls(float(median), float(lower), float(upper), float(cpu_s), len(calls))


def time_in_turns(
    runs: Sequence[Callable[[], Any]], repetitions: int, in_every_turn: Collection[int] = ()
) -> list[Times]:
    """Return the times of ``runs``, called A B C A B C ...; all have been called once before.

    One that takes seconds, and several times as long as the first, only joins every fourth turn,
    unless its number is in ``in_every_turn``.
    """
    first_s = [_timed(run).wall_s for run in runs]
    calls: list[list[Call]] = [[] for _ in runs]
    for turn in range(repetitions):
        for i, (run, expected_s, counted) in enumerate(zip(runs, first_s, calls, strict=True)):
            is_long = expected_s > max(_LONG_S, _LONG_RATIO * first_s[0])
            if is_long and turn % 4 and i not in in_every_turn:
                continue
            if expected_s < _SHORT_S:
                start = perf_counter()
                run()
                while perf_counter() - start < _SETTLE_S:
                    run()
            counted.append(_timed(run))
    return [Times.of(counted) for counted in calls]


def time_alone(run: Callable[[], Any], repetitions: int, budget_s: float) -> Times:
    """Return the times of ``run`` after a first call; at least three, then no more than fit in the budget."""
    run()
    calls: list[Call] = []
    while len(calls) < repetitions and (len(calls) < 3 or sum(call.wall_s for call in calls) < budget_s):
        calls.append(_timed(run))
    return Times.of(calls)


def best_s(run: Callable[[], Any], repetitions: int) -> float:
    """Return the shortest of ``repetitions`` calls: for limits of the machine."""
    return min(_timed(run).wall_s for _ in range(repetitions))


def _timed(run: Callable[[], Any]) -> Call:
    start, cpu_start = perf_counter(), process_time()
    run()
    return Call(perf_counter() - start, process_time() - cpu_start)


class Neighbours:
    """How much of this process's cores others have used since this object was made."""

    def __init__(self) -> None:
        self._start = _busy_s(), _own_s(), perf_counter()

    def share(self) -> float | None:
        """Return it as a share of the cores' time; None where the system does not tell."""
        busy_s, own_s, start = self._start
        now_s = _busy_s()
        if busy_s is None or now_s is None:
            return None
        cores_s = len(os.sched_getaffinity(0)) * (perf_counter() - start)
        return max(0.0, (now_s - busy_s) - (_own_s() - own_s)) / cores_s


def _own_s() -> float:
    spent = os.times()
    return spent.user + spent.system


def _busy_s() -> float | None:
    """Return the time that this process's cores have not been idle, stolen time included (Linux)."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    lines = (line.split() for line in stat.read_text().splitlines())
    ticks = {name: [int(v) for v in values] for name, *values in lines if name.startswith("cpu")}
    mine = [ticks[f"cpu{core}"] for core in os.sched_getaffinity(0)]
    # user, nice, system, idle, iowait, irq, softirq, steal
    return sum(sum(core[:3]) + sum(core[5:8]) for core in mine) / os.sysconf("SC_CLK_TCK")
