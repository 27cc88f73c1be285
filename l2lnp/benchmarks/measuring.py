"""What is measured in one process: jobs in turns, or one contender's memory, or one point of a curve."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2lnp.benchmarks.goals import named_in_goals
from l2lnp.benchmarks.jobs import JOBS, Contender, Job, lstm_step, meta, sweep
from l2lnp.benchmarks.machine import lstm_floor_s, measure_limits
from l2lnp.benchmarks.opponents import opponents_of
from l2lnp.benchmarks.problems import StepProblem, step_problem
from l2lnp.benchmarks.timing import Neighbours, Times, time_alone, time_in_turns
from l2lnp.errors import InputError
from l2lnp.execution import Execution

POINT_BUDGET_S = 10.0


def measure_jobs(
    jobs: Sequence[str],
    against: Sequence[str],
    threads: int,
    repetitions: int,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return limits of the machine and rows of times: contenders of a job take turns."""
    limits = measure_limits()
    rows: list[dict[str, Any]] = []
    for name in jobs:
        say(f"{name}, {threads} thread{'s' if threads > 1 else ''}")
        job = JOBS[name](Execution(threads=threads))
        contenders = contenders_of(job, against)
        errors = checked(job, contenders)
        gc.collect()
        neighbours = Neighbours()
        named = [i for i, contender in enumerate(contenders) if contender.name in named_in_goals(name)]
        times = time_in_turns([contender.run for contender in contenders], repetitions, named)
        others = neighbours.share()
        for contender, time, error in zip(contenders, times, errors, strict=True):
            rows.append(row(job, contender, threads, time) | {"errors": error, "others": others})
        if isinstance(job.problem, StepProblem):
            floor_s = lstm_floor_s(limits, len(job.problem.inputs.g), threads)
            rows.append(
                row(job, Contender("floor", int), threads, Times(floor_s, floor_s, floor_s, floor_s, 0))
            )
    return {"threads": threads, "limits": limits._asdict(), "rows": rows}


def contenders_of(job: Job, against: Sequence[str]) -> list[Contender]:
    """Return the library's contenders, then those of the opponents."""
    return [*job.contenders, *(c for name in against for c in opponents_of(job, name))]


def checked(job: Job, contenders: Sequence[Contender]) -> list[dict[str, float]]:
    """Run each once and return the relative errors of its numbers.

    Raises
    ------
    InputError
        If one computes something else than `Job.reference`.
    """
    reference = job.reference()
    errors: list[dict[str, float]] = []
    for contender in contenders:
        numbers = contender.numbers(contender.run())
        found = {
            name: float(np.linalg.norm(value - reference[name]) / np.linalg.norm(reference[name]))
            for name, value in numbers.items()
        }
        for name, error in found.items():
            if not error <= job.tolerances[name]:
                raise InputError(
                    f"{job.name}: {contender.name} is off by {error:.1e} in '{name}', "
                    f"more than {job.tolerances[name]:.0e}: not the same computation"
                )
        errors.append(found)
    return errors


def row(job: Job, contender: Contender, threads: int, times: Times) -> dict[str, Any]:
    """Return what the table needs to know of a contender."""
    return {
        "job": job.name,
        "what": job.what,
        "contender": contender.name,
        "threads": threads,
        **times._asdict(),
        "flops": contender.flops,
        "bytes": job.bytes if contender is job.contenders[0] else None,
    }


def measure_memory(job: str, contender: str, against: Sequence[str], threads: int) -> dict[str, Any]:
    """Return the memory that two calls of a contender add to a process that has all loaded, in bytes."""
    contenders = contenders_of(JOBS[job](Execution(threads=threads)), against)
    (chosen,) = (c for c in contenders if c.name == contender)
    _load_compiled()
    before = resident_bytes("VmRSS")
    chosen.run()
    chosen.run()
    return {"added": resident_bytes("VmHWM") - before, "baseline": before}


def _load_compiled() -> None:
    """Make a step of one coordinate there and back: Numba compiles, or loads, at the first call."""
    p = step_problem(1, Execution())
    p.optimizer.update(p.phi, p.state, p.inputs)
    p.optimizer.unroll_adjoint(p.phi, p.state, [p.inputs], [p.inputs.g], {})


def measure_point(curve: str, value: int, threads: int, repetitions: int) -> dict[str, Any]:
    """Return time and added memory of one point of a curve."""
    contender = CURVES[curve](value, Execution(threads=threads)).contenders[0]
    _load_compiled()
    before = resident_bytes("VmRSS")
    times = time_alone(contender.run, repetitions, POINT_BUDGET_S)
    return times._asdict() | {"added": resident_bytes("VmHWM") - before}


CURVES: dict[str, Callable[[int, Execution], Job]] = {
    "LSTM step": lstm_step,
    "g and h, SMALL": lambda value, execution: sweep("small", execution, value),
    "g and h, BIG": lambda value, execution: sweep("big", execution, value),
    "first-order": lambda value, execution: meta(False, execution, value),
    "exact": lambda value, execution: meta(True, execution, value),
}


def resident_bytes(field: str) -> int:
    """Return VmRSS (now) or VmHWM (the most so far) of this process; Linux alone tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise InputError("memory can be measured on Linux only")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])
