"""The jobs: what is computed, by the library here and by its opponents elsewhere, from the same numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import prod
from typing import Any, cast

import numpy as np

from l2lnp.benchmarks.problems import (
    NetworkProblem,
    StepProblem,
    UnrollProblem,
    network_problem,
    step_problem,
    unroll_problem,
)
from l2lnp.execution import Execution
from l2lnp.kernels import numba_version
from l2lnp.layers import Conv2D
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.network import Evaluation, Sequential
from l2lnp.optimizers import Context, InBasis, Inputs, Phi, make_optimizer

Numbers = Mapping[str, np.ndarray]
Problem = NetworkProblem | StepProblem | UnrollProblem
UNROLL_LENGTH = 20


@dataclass(frozen=True)
class Contender:
    """One way to do a job.

    Parameters
    ----------
    run
        What is timed.
    numbers
        Turns what ``run`` returned into arrays of the library's layout, by the names in
        `Job.tolerances`; they are compared with `Job.reference` before anything is timed.
    flops
        That a call needs, or None.
    """

    name: str
    run: Callable[[], Any]
    numbers: Callable[[Any], Numbers] = lambda _: {}
    flops: float | None = None


@dataclass(frozen=True)
class Job:
    """What is timed in turns: the library's contenders, and the problem for the opponents'.

    Parameters
    ----------
    reference
        The numbers that contenders must compute; called at most once.
    tolerances
        Largest relative error (Euclidean norm) of each.
    bytes
        Least traffic of the first contender, or None.
    """

    name: str
    what: str
    problem: Problem
    contenders: tuple[Contender, ...]
    reference: Callable[[], Numbers] = dict
    tolerances: Mapping[str, float] = field(default_factory=dict)
    bytes: float | None = None


def sweep(name: str, execution: Execution, batch_size: int = 128) -> Job:
    """Return the job of g and h, and of g alone, of a network."""
    problem = network_problem(name, execution, batch_size)
    network, (batch,) = problem.network, problem.batches

    def evaluate(curvature: str | None) -> Evaluation:
        return network.evaluate(problem.theta, batch.x, batch.labels, curvature, execution)

    def reference() -> Numbers:
        _, g, h = evaluate("hesscale")
        exact = evaluate("exact").h
        assert h is not None
        assert exact is not None
        return {"g": g, "h": h, "exact diagonal": exact, "draw of the diagonal": exact}

    gradient, both = (batch_size * n for n in sweep_flops(network))
    return Job(
        f"sweep-{name}",
        f"g and h of {name.upper()}, batch {batch_size}",
        problem,
        (
            Contender("l2lnp: g and h", lambda: evaluate("hesscale"), _g_and_h, both),
            Contender("l2lnp: g", lambda: evaluate(None), lambda e: {"g": e.g}, gradient),
        ),
        reference,
        {"g": 1e-4, "h": 1e-4, "exact diagonal": 1e-4, "draw of the diagonal": 6 * batch_size**-0.5},
        4.0 * batch_size * sum(6 * prod(shape) for shape in network.shapes),
    )


def _g_and_h(evaluation: Evaluation) -> Numbers:
    assert evaluation.h is not None
    return {"g": evaluation.g, "h": evaluation.h}


def sweep_flops(network: Sequential) -> tuple[int, int]:
    """Return the flops of one sample's matrix products, for g, and for g and h.

    Upwards W x, downwards g_W and g_x, h_W and h_x, the latter not in the lowest layer.
    """
    gradient = both = 0
    for i, layer in enumerate(network.layers):
        shapes = layer.param_shapes()
        if shapes:
            positions = prod(network.shapes[i + 1][1:]) if isinstance(layer, Conv2D) else 1
            product, wants_x = 2 * prod(shapes["w"]) * positions, i > network.first_with_params
            gradient += product * (2 + wants_x)
            both += product * (3 + 2 * wants_x)
    return gradient, both


def lstm_step(n_coordinates: int, execution: Execution) -> Job:
    """Return the job of one step of SLSTM, features and all."""
    problem = step_problem(n_coordinates, execution)

    def step() -> Any:
        return problem.optimizer.update(problem.phi, problem.state, problem.inputs)

    def numbers(result: Any) -> Numbers:
        u, state = result
        return {"u": u, "state": problem.optimizer.coordinatewise(state)}

    n_rows = (problem.state["lstm"].size + problem.state["moments"].size) // n_coordinates
    return Job(
        f"lstm-{n_coordinates:.0e}".replace("e+0", "e"),
        f"LSTM step over {n_coordinates:,} coordinates",
        problem,
        (Contender("l2lnp", step, numbers, n_coordinates * step_flops(4)), *_by_numpy_alone(step, numbers)),
        lambda: numbers(step()),
        {"u": 1e-4, "state": 1e-4},
        4.0 * n_coordinates * (2 * n_rows + 3),
    )


def _by_numpy_alone(run: Callable[[], Any], numbers: Callable[[Any], Numbers]) -> list[Contender]:
    """Return, where Numba is installed, the contender that does without it."""

    def alone() -> Any:
        before = os.environ.get("L2LNP_NUMBA", "")
        os.environ["L2LNP_NUMBA"] = "0"
        try:
            return run()
        finally:
            os.environ["L2LNP_NUMBA"] = before

    return [Contender("l2lnp, NumPy alone", alone, numbers)] if numba_version() else []


def step_flops(n_features: int) -> int:
    """Return the flops of one coordinate's matrix products in one step."""
    return 2 * (80 * (n_features + 20 + 1) + 80 * 41 + 21)


def meta(exact: bool, execution: Execution, n_steps: int = UNROLL_LENGTH, batch_size: int = 128) -> Job:
    """Return the job of one unroll and its meta-gradient, first-order or exact."""
    problem = unroll_problem(n_steps, execution, exact, "lstm", batch_size)
    with_h = unroll_problem(n_steps, execution, exact, "slstm", batch_size)

    def numbers(phi: Phi) -> Numbers:
        return {"a_phi": joined(phi)}

    return Job(
        "meta-exact" if exact else "meta-first-order",
        f"{'exact' if exact else 'first-order'} meta-gradient, {n_steps} steps on SMALL, batch {batch_size}",
        problem,
        (
            Contender("l2lnp", lambda: run_unroll(problem), numbers),
            Contender("l2lnp, with h", lambda: run_unroll(with_h)),
            *_by_numpy_alone(lambda: run_unroll(problem), numbers),
        ),
        lambda: numbers(run_unroll(problem)),
        {"a_phi": 1e-3},
    )


def run_unroll(problem: UnrollProblem) -> Phi:
    """Return the meta-gradient of the mean loss after each of the steps."""
    of_network, optimizer = problem.of_network, problem.optimizer
    task, (*batches, last) = of_network.task, of_network.batches
    theta = of_network.theta
    end = unroll(optimizer, problem.phi, task, theta, optimizer.init_state(theta), batches)
    _, g, _ = task.evaluate(end.theta, last, optimizer.uses_curvature)
    a_theta = g / problem.n_steps
    return meta_gradient(
        optimizer, problem.phi, task, end.tape, a_theta, second_derivatives=problem.exact
    ).phi


def joined(phi: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the entries of phi as one vector, in the order of their names."""
    return np.concatenate([phi[key].reshape(-1) for key in sorted(phi)])


def training_step(execution: Execution, batch_size: int = 128) -> Job:
    """Return the job of whole training steps, by frozen SLSTM and by Adam, and of their parts."""
    problem = network_problem("small", execution, batch_size)
    whole, sweep_alone, update = _parts_of_step(problem, "adam")
    adam = Contender(whole.name, whole.run, lambda theta: {"u": theta - problem.theta})
    return Job(
        "training-step",
        f"one training step of SMALL, batch {batch_size}, with its parts",
        problem,
        (*_parts_of_step(problem, "slstm"), adam, sweep_alone, update),
        lambda: adam.numbers(adam.run()),
        {"u": 1e-3},
    )


def _parts_of_step(problem: NetworkProblem, name: str) -> tuple[Contender, Contender, Contender]:
    """Return the whole step by the optimizer called ``name``, its sweep and its update; always the first."""
    task, (batch,), theta = problem.task, problem.batches, problem.theta
    optimizer = make_optimizer(name, problem.network.layout, problem.execution)
    learner = JointLearner(optimizer, frozen=True)
    training = learner.start(theta, optimizer.init_phi(np.random.default_rng(3)))
    inputs = Inputs(*task.evaluate(theta, batch, optimizer.uses_curvature))
    return (
        Contender(f"l2lnp, {name}: step", lambda: learner.step(training, task, batch)[0].theta),
        Contender(f"l2lnp, {name}: sweep", lambda: task.evaluate(theta, batch, optimizer.uses_curvature)),
        Contender(f"l2lnp, {name}: update", lambda: optimizer.update(training.phi, training.state, inputs)),
    )


def meta_training_step(execution: Execution, n_steps: int = 5, batch_size: int = 128) -> Job:
    """Return the job of ``n_steps`` steps of joint learning, the optimizer changed once on the way."""
    problem = unroll_problem(n_steps - 1, execution, False, "slstm", batch_size)
    return Job(
        "meta-training",
        f"{n_steps} steps of joint learning on SMALL, one of them a meta-step, batch {batch_size}",
        problem.of_network,
        tuple(
            Contender(f"l2lnp, {name}", _joint_steps(problem.of_network, name, n_steps))
            for name in ("lstm", "slstm")
        ),
    )


def curvature_basis(name: str, execution: Execution, batch_size: int = 128) -> Job:
    """Return the job of what the curvature basis adds to g of a network, for SLSTM after a few refreshes."""
    problem = network_problem(name, execution, batch_size)
    task, (batch,), theta = problem.task, problem.batches, problem.theta
    slstm, sgd = (
        cast(InBasis, make_optimizer(inner, problem.network.layout, execution, basis="kronecker"))
        for inner in ("slstm", "sgd")
    )
    phi, state = sgd.init_phi(np.random.default_rng(3)), slstm.init_state(theta)
    for _ in range(3):
        inputs, state = slstm.look(task, theta, batch, Context(), state)  # at step 0: a refresh
    _, moments = task.evaluate_with_moments(theta, batch, False, slstm.max_width)

    def rotations() -> Any:  # a step of SGD is nothing else
        return sgd.update(phi, state, inputs)

    return Job(
        f"basis-{name}",
        f"g of {name.upper()} and the curvature basis, batch {batch_size}",
        problem,
        (
            Contender("l2lnp: g", lambda: task.evaluate(theta, batch, False)),
            Contender(
                "l2lnp: g, refresh, rotations",
                lambda: (slstm.look(task, theta, batch, Context(), state), rotations()),
            ),
            Contender(
                "l2lnp: g and moments",
                lambda: task.evaluate_with_moments(theta, batch, False, slstm.max_width),
            ),
            Contender("l2lnp: refresh from moments", lambda: slstm.refreshed(state, inputs.g, moments)),
            Contender("l2lnp: rotations", rotations),
        ),
    )


def _joint_steps(problem: NetworkProblem, name: str, n_steps: int) -> Callable[[], None]:
    optimizer = make_optimizer(name, problem.network.layout, problem.execution)
    learner = JointLearner(optimizer, n_steps)
    training = learner.start(problem.theta, optimizer.init_phi(np.random.default_rng(3)))
    numbers = count()

    def steps() -> None:
        nonlocal training
        for _ in range(n_steps):
            batch = problem.batches[next(numbers) % len(problem.batches)]
            training, _ = learner.step(training, problem.task, batch)

    return steps


JOBS: dict[str, Callable[[Execution], Job]] = {
    "sweep-small": lambda execution: sweep("small", execution),
    "sweep-big": lambda execution: sweep("big", execution),
    "lstm-1e5": lambda execution: lstm_step(10**5, execution),
    "lstm-1e6": lambda execution: lstm_step(10**6, execution),
    "meta-first-order": lambda execution: meta(False, execution),
    "meta-exact": lambda execution: meta(True, execution),
    "training-step": training_step,
    "meta-training": meta_training_step,
    "basis-small": lambda execution: curvature_basis("small", execution),
    "basis-big": lambda execution: curvature_basis("big", execution),
}
