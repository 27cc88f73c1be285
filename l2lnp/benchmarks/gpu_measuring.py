"""Times of jobs on a GPU, by CUDA events: ours and opponents' on one card, checked before they are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.benchmarks import gpu_jobs
from l2lnp.benchmarks.gpu_jobs import DeviceContender
from l2lnp.benchmarks.gpu_limits import measure_gpu_limits
from l2lnp.benchmarks.jobs import step_flops
from l2lnp.benchmarks.measuring import checked
from l2lnp.benchmarks.opponents import check_names, opponents_of
from l2lnp.benchmarks.problems import StepProblem
from l2lnp.version import VERSION

_WARM_UP = 3  # calls: kernels are compiled, memory pools filled
_CALLS = 10  # between two events


def measure_on_gpu(
    xp: ModuleType,
    jobs: Sequence[str],
    against: Sequence[str],
    repetitions: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return card, versions, limits, and for each contender of each job the quartiles of its time.

    Raises
    ------
    InputError
        If a job or an opponent is unknown, a framework is missing or sees no GPU, or one of the
        contenders computes other numbers than NumPy does.
    """
    gpu_jobs.check_jobs(jobs)
    check_names(against, on_gpu=True)
    runtime, device = xp.cuda.runtime, xp.cuda.Device()
    versions: dict[str, str] = {"l2lnp": VERSION, "cupy": xp.__version__, "numpy": np.__version__}
    limits, rows = measure_gpu_limits(xp), []
    for name in jobs:
        say(name)
        make, ours = gpu_jobs.JOBS[name]
        job = make()
        xp.get_default_memory_pool().free_all_blocks()
        contenders: list[Any] = ours(xp, job)
        for opponent in against:
            theirs = opponents_of(job, opponent, on_gpu=True)
            for contender in theirs:
                assert isinstance(contender, DeviceContender)
                versions |= contender.versions
            contenders += theirs
        errors = checked(job, contenders)
        pool = xp.get_default_memory_pool().total_bytes()
        for contender, times, error in zip(
            contenders, times_ms(xp, contenders, repetitions), errors, strict=True
        ):
            rows.append(_row(job.name, contender.name, times) | {"errors": error, "pool_bytes": pool})
        if isinstance(job.problem, StepProblem):
            floor_ms = 1e3 * lstm_floor_s(limits, len(job.problem.inputs.g))
            rows.append(_row(job.name, "floor", [floor_ms]))
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "card": runtime.getDeviceProperties(device.id)["name"].decode(),
        "versions": versions,
        "cuda": runtime.runtimeGetVersion(),
        "driver": runtime.driverGetVersion(),
        "repetitions": repetitions,
        "limits": limits,
        "memory_bytes": int(device.mem_info[1]),
        "rows": rows,
    }


def lstm_floor_s(limits: dict[str, float], n_coordinates: int) -> float:
    """Return the least time of one step of SLSTM: its traffic or its products, whichever takes longer.

    States, moving averages and theta are read once and written once, in float32.
    """
    n_bytes = 4.0 * n_coordinates * 2 * (2 * 40 + 3 + 1)
    flops = n_coordinates * step_flops(4)
    return max(n_bytes / limits["copy_bytes_per_s"], flops / limits["flops_per_s"])


def _row(job: str, contender: str, times: Sequence[float]) -> dict[str, Any]:
    lower, median, upper = (float(v) for v in np.percentile(times, [25, 50, 75]))
    return {
        **{"job": job, "contender": contender, "threads": 0},
        **{"median_ms": median, "lower_ms": lower, "upper_ms": upper},
    }


def times_ms(xp: ModuleType, contenders: Sequence[DeviceContender], repetitions: int) -> list[list[float]]:
    """Return the times of each contender, who take turns: between two events lie a few calls."""
    times: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        for _ in range(_WARM_UP):
            contender.wait(contender.run())
    for _ in range(repetitions):
        for contender, found in zip(contenders, times, strict=True):
            n_calls = max(1, _CALLS // contender.per_call)
            xp.cuda.Device().synchronize()
            start, end = xp.cuda.Event(), xp.cuda.Event()
            start.record()
            for _ in range(n_calls):
                result = contender.run()
            contender.wait(result)
            end.record()
            end.synchronize()
            elapsed = float(xp.cuda.get_elapsed_time(start, end))
            found.append(elapsed / (n_calls * contender.per_call))
    return times
