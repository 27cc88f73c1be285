"""The jobs on a GPU: ours, as CUDA kernels launched one by one and as CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from l2lnp.backend import to_backend, to_host
from l2lnp.benchmarks import jobs as on_cpu
from l2lnp.benchmarks.jobs import Contender, Job, joined, run_unroll
from l2lnp.benchmarks.problems import NetworkProblem, StepProblem, UnrollProblem, unroll_problem
from l2lnp.errors import unknown_name
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda.graph import Graph
from l2lnp.meta.joint import JointLearner
from l2lnp.optimizers import make_optimizer
from l2lnp.runs.blocks import STEPS, Blocks
from l2lnp.runs.captured import CannotCaptureError, CapturedStep
from l2lnp.tasks.classification import Batch

T = TypeVar("T")


@dataclass(frozen=True)
class DeviceContender(Contender):
    """One way to do a job on a GPU.

    Parameters
    ----------
    wait
        Waits for what ``run`` returned, where that may be under way on a stream that our events do not see.
    per_call
        How often the job is done in one call of ``run``.
    versions
        Of the libraries that it runs on.
    """

    wait: Callable[[Any], Any] = lambda result: None
    per_call: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)


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


def _there(xp: ModuleType, problem: NetworkProblem) -> NetworkProblem:
    theta, batches = moved(xp, (problem.theta, problem.batches))
    return replace(problem, theta=theta, batches=batches, execution=Execution(**ON_A_GPU))


def in_graphs(xp: ModuleType, contenders: Sequence[DeviceContender]) -> list[DeviceContender]:
    """Return ``contenders``, and beside each the same as one CUDA graph.

    One that cannot be recorded is left out with a warning: the others are still worth their time on a card.
    """
    found = list(contenders)
    for contender in contenders:
        try:
            graph = Graph(xp, contender.run)
        except (NotImplementedError, RuntimeError) as error:
            warnings.warn(f"{contender.name} cannot be one graph: {error}", stacklevel=2)
        else:
            found.append(replace(contender, name=f"{contender.name}, one graph", run=graph.launch))
    return found


def sweep(xp: ModuleType, job: Job) -> list[DeviceContender]:
    """Return ours of the job of g and h."""
    assert isinstance(job.problem, NetworkProblem)
    problem = _there(xp, job.problem)
    execution = replace(problem.execution, waits=False)

    def evaluate(curvature: str | None) -> Any:
        batch = problem.batches[0]
        return problem.network.evaluate(problem.theta, batch.x, batch.labels, curvature, execution)

    with_h, alone = (contender.flops for contender in job.contenders)
    both = {
        "l2lnp: g and h": (
            lambda: evaluate("hesscale"),
            lambda e: {"g": to_host(e.g), "h": to_host(e.h)},
            with_h,
        ),
        "l2lnp: g": (lambda: evaluate(None), lambda e: {"g": to_host(e.g)}, alone),
    }
    return in_graphs(xp, [DeviceContender(name, *how) for name, how in both.items()])


def lstm_step(xp: ModuleType, job: Job) -> list[DeviceContender]:
    """Return ours of the job of one step of SLSTM."""
    host = job.problem
    assert isinstance(host, StepProblem)
    execution = Execution(**ON_A_GPU)
    optimizer = replace(host.optimizer, execution=execution)
    rows = host.optimizer.coordinatewise(host.state)  # one chunk on a GPU
    state = {**host.state, "lstm": rows.reshape(-1), "chunk": execution.chunk}
    phi, state, inputs = moved(xp, (host.phi, state, host.inputs))

    def numbers(result: Any) -> dict[str, np.ndarray]:
        u, after = result
        return {"u": to_host(u), "state": to_host(optimizer.coordinatewise(after))}

    nowhere = xp.zeros_like(inputs.g)  # from where theta goes to u
    made = DeviceContender("l2lnp", lambda: optimizer.step(phi, state, inputs, nowhere), numbers)
    return in_graphs(xp, [made])


def training_step(xp: ModuleType, job: Job) -> list[DeviceContender]:
    """Return ours of the job of one step of frozen SLSTM: launched kernel by kernel, and as one graph."""
    host = job.problem
    assert isinstance(host, NetworkProblem)
    problem = _there(xp, host)
    (learner, phi), task = slstm_learner(problem), problem.task
    training = learner.start(problem.theta, moved(xp, phi))
    blocks = Blocks(learner, task, xp)
    blocks.why_one_by_one = "measured beside it"
    batch: Batch = problem.batches[0]

    def in_block() -> Any:
        return list(blocks.run(training, [batch] * STEPS))[-1].training

    def alone() -> Any:
        ((_, after, _),) = blocks.run(training, [batch])
        return after

    def numbers(_: Any) -> dict[str, np.ndarray]:
        return {"u": to_host(alone().theta) - host.theta}

    found = [DeviceContender("l2lnp, slstm: step", in_block, numbers, per_call=STEPS)]
    try:
        captured = CapturedStep(learner, task, training, batch)
    except CannotCaptureError:
        return found
    losses, flag = xp.empty(STEPS, np.float64), xp.zeros(1, np.int32)

    def replayed(n: int = STEPS) -> Any:
        return captured.run(training, [batch] * n, losses, flag).theta

    def of_graph(_: Any) -> dict[str, np.ndarray]:
        return {"u": to_host(replayed(1)) - host.theta}

    return [*found, DeviceContender("l2lnp, slstm: step, one graph", replayed, of_graph, per_call=STEPS)]


def meta_gradient(xp: ModuleType, job: Job) -> list[DeviceContender]:
    """Return ours of the job of an unroll and its meta-gradient, of LSTM and of SLSTM; nothing waits."""
    assert isinstance(job.problem, UnrollProblem)
    found = []
    batch_size = job.problem.of_network.batches[0].x.shape[-1]
    with_h = unroll_problem(job.problem.n_steps, Execution(**ON_A_GPU), False, "slstm", batch_size)
    for name, host in (("l2lnp", job.problem), ("l2lnp, with h", with_h)):
        execution = Execution(**ON_A_GPU, waits=False)
        of_network = replace(_there(xp, host.of_network), execution=execution)
        optimizer = replace(host.optimizer, execution=execution)
        problem = replace(host, of_network=of_network, optimizer=optimizer, phi=moved(xp, host.phi))
        found.append(
            DeviceContender(
                name,
                partial(run_unroll, problem),
                (lambda phi: {"a_phi": joined({k: to_host(v) for k, v in phi.items()})})
                if name == "l2lnp"
                else (lambda _: {}),
            )
        )
    return in_graphs(xp, found)


def slstm_learner(problem: NetworkProblem) -> tuple[JointLearner, Any]:
    """Return a learner with a frozen SLSTM, and its phi on the host: the same for all contenders."""
    optimizer = make_optimizer("slstm", problem.network.layout, problem.execution)
    return JointLearner(optimizer, frozen=True), optimizer.init_phi(np.random.default_rng(3))


def slstm_step(batch_size: int = 128) -> Job:
    """Return the job of one training step by frozen SLSTM of SMALL, with the numbers that it must give."""
    problem = on_cpu.network_problem("small", Execution(), batch_size)

    def reference() -> dict[str, np.ndarray]:
        learner, phi = slstm_learner(problem)
        after, _ = learner.step(learner.start(problem.theta, phi), problem.task, problem.batches[0])
        return {"u": after.theta - problem.theta}

    what = f"one training step of SMALL by frozen SLSTM, batch {batch_size}"
    return Job("training-step", what, problem, (), reference, {"u": 1e-3})


def sweep_big() -> Job:
    """Return the job of g and h of BIG; convolutions that save multiplications, as cuDNN's do, round more."""
    job = on_cpu.sweep("big", Execution(), 1024)
    return replace(job, tolerances={**job.tolerances, "g": 3e-4})


JOBS: dict[str, tuple[Callable[[], Job], Callable[[ModuleType, Job], list[DeviceContender]]]] = {
    "sweep-small": (lambda: on_cpu.sweep("small", Execution()), sweep),
    "sweep-big": (sweep_big, sweep),
    "lstm-1e5": (lambda: on_cpu.lstm_step(10**5, Execution()), lstm_step),
    "lstm-1e6": (lambda: on_cpu.lstm_step(10**6, Execution()), lstm_step),
    "training-step": (slstm_step, training_step),
    "meta-first-order": (lambda: on_cpu.meta(False, Execution()), meta_gradient),
}


def check_jobs(jobs: Sequence[str]) -> None:
    """Raise `InputError` for a job that is not timed on a GPU."""
    for name in jobs:
        if name not in JOBS:
            raise unknown_name("job on a GPU", name, JOBS)
