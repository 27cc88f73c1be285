"""Jobs on a GPU, timed by CUDA events after warm-up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from l2lnp.backend import to_backend
from l2lnp.benchmarks.jobs import run_unroll
from l2lnp.benchmarks.problems import (
    NetworkProblem,
    UnrollProblem,
    network_problem,
    step_problem,
    unroll_problem,
)
from l2lnp.errors import unknown_name
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.meta.joint import JointLearner
from l2lnp.optimizers import make_optimizer
from l2lnp.version import VERSION

T = TypeVar("T")
_WARM_UP = 3  # calls: kernels are compiled, memory pools filled


def moved(xp: ModuleType, tree: T) -> T:
    """Return ``tree`` (tuples and dictionaries) with its NumPy arrays moved to ``xp``."""
    result: Any = tree
    if isinstance(tree, np.ndarray):
        result = to_backend(xp, tree)
    elif isinstance(tree, dict):
        result = {key: moved(xp, value) for key, value in tree.items()}
    elif isinstance(tree, tuple):
        parts = [moved(xp, value) for value in tree]
        result = type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return result


def _network(xp: ModuleType, problem: NetworkProblem) -> NetworkProblem:
    return replace(problem, theta=moved(xp, problem.theta), batches=moved(xp, problem.batches))


def _sweep(xp: ModuleType, name: str, batch_size: int) -> Callable[[], Any]:
    problem = _network(xp, network_problem(name, _execution(), batch_size))
    return lambda: problem.task.evaluate(problem.theta, problem.batches[0], True)


def _step(xp: ModuleType, n_coordinates: int) -> Callable[[], Any]:
    problem = step_problem(n_coordinates, _execution())
    phi, state, inputs = moved(xp, (problem.phi, problem.state, problem.inputs))
    return lambda: problem.optimizer.update(phi, state, inputs)


def _training_step(xp: ModuleType) -> Callable[[], Any]:
    problem = _network(xp, network_problem("small", _execution()))
    optimizer = make_optimizer("slstm", problem.network.layout, problem.execution)
    learner = JointLearner(optimizer, frozen=True)
    training = learner.start(problem.theta, moved(xp, optimizer.init_phi(np.random.default_rng(3))))
    return lambda: learner.step(training, problem.task, problem.batches[0])


def _meta_gradient(xp: ModuleType) -> Callable[[], Any]:
    host = unroll_problem(20, _execution(), False, "slstm")
    problem: UnrollProblem = replace(host, of_network=_network(xp, host.of_network), phi=moved(xp, host.phi))
    return lambda: run_unroll(problem)


def _execution() -> Execution:
    return Execution(**ON_A_GPU)


JOBS: dict[str, Callable[[ModuleType], Callable[[], Any]]] = {
    "sweep-small": lambda xp: _sweep(xp, "small", 128),
    "sweep-big": lambda xp: _sweep(xp, "big", 1024),
    "lstm-1e5": lambda xp: _step(xp, 10**5),
    "lstm-1e6": lambda xp: _step(xp, 10**6),
    "training-step": _training_step,
    "meta-first-order": _meta_gradient,
}


def check_jobs(jobs: Sequence[str]) -> None:
    """Raise `InputError` for a job that is not timed on a GPU."""
    for name in jobs:
        if name not in JOBS:
            raise unknown_name("job on a GPU", name, JOBS)


def measure_on_gpu(
    xp: ModuleType, jobs: Sequence[str], repetitions: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return card, versions, and for each job the quartiles of its time and the memory it took."""
    check_jobs(jobs)
    runtime, pool = xp.cuda.runtime, xp.get_default_memory_pool()
    card = runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    rows = []
    for name in jobs:
        say(name)
        pool.free_all_blocks()
        run = JOBS[name](xp)
        lower, median, upper = np.percentile(_times_ms(xp, run, repetitions), [25, 50, 75])
        rows.append(
            {
                "job": name,
                "median_ms": median,
                "lower_ms": lower,
                "upper_ms": upper,
                "pool_bytes": pool.total_bytes(),
            }
        )
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "card": card,
        "l2lnp": VERSION,
        "cupy": xp.__version__,
        "cuda": runtime.runtimeGetVersion(),
        "driver": runtime.driverGetVersion(),
        "repetitions": repetitions,
        "rows": rows,
    }


def _times_ms(xp: ModuleType, run: Callable[[], Any], repetitions: int) -> list[float]:
    for _ in range(_WARM_UP):
        run()
    times = []
    for _ in range(repetitions):
        start, end = xp.cuda.Event(), xp.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(xp.cuda.get_elapsed_time(start, end)))
    return times


def as_markdown(results: dict[str, Any]) -> str:
    """Return the table of `measure_on_gpu`."""
    head = ", ".join(
        f"{key} {results[key]}" for key in ("card", "l2lnp", "cupy", "cuda", "driver", "started")
    )
    lines = [head, "", "| job | median ms | quartiles | memory pool, MB |", "|---|---|---|---|"]
    lines += [
        f"| {row['job']} | {row['median_ms']:.3f} | {row['lower_ms']:.3f}-{row['upper_ms']:.3f} "
        f"| {row['pool_bytes'] / 1e6:.0f} |"
        for row in results["rows"]
    ]
    return "\n".join([*lines, ""])
