"""A whole benchmark: one process for each number of threads, fresh ones for memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from l2lnp.benchmarks.goals import MEMORY_JOBS
from l2lnp.benchmarks.jobs import JOBS
from l2lnp.benchmarks.machine import describe_machine
from l2lnp.benchmarks.opponents import check_names
from l2lnp.benchmarks.worker import ask
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import available_cores


def run_benchmark(
    jobs: Sequence[str], against: Sequence[str], threads: Sequence[int], repetitions: int
) -> dict[str, Any]:
    """Measure ``jobs`` (`JOBS`) and return machine, limits and rows, ready for JSON."""
    for name in jobs:
        if name not in JOBS:
            raise unknown_name("job", name, JOBS)
    check_names(against)
    check_threads(threads)
    results: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
        "machine": describe_machine(),
        "repetitions": repetitions,
        "processes": [],
    }
    for n in threads:
        process = ask("measure_jobs", n, jobs=list(jobs), against=list(against), repetitions=repetitions)
        for row in process["rows"]:
            if row["job"] in MEMORY_JOBS:
                row |= ask(
                    "measure_memory", n, job=row["job"], contender=row["contender"], against=list(against)
                )
        results["processes"].append(process)
    return results


def check_threads(threads: Sequence[int]) -> None:
    """Raise `InputError` where there are fewer cores than threads."""
    for n in threads:
        if not 1 <= n <= available_cores():
            raise InputError(f"--threads {n}: this process may use 1 to {available_cores()} cores")
