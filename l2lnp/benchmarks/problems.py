"""The numbers that all contenders of a job work on: NumPy arrays, drawn from fixed seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l2lnp.execution import Execution
from l2lnp.network import Sequential
from l2lnp.networks import find_network
from l2lnp.optimizers import SLSTM, Inputs, Optimizer, Phi, State, make_optimizer
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.tree import Layout

N_CLASSES = 10
SHAPES = {"small": (1, 28, 28), "big": (3, 32, 32)}


@dataclass(frozen=True)
class NetworkProblem:
    """A network, its parameters theta (P,), and batches of random pictures with random labels."""

    network: Sequential
    execution: Execution
    theta: np.ndarray
    batches: tuple[Batch, ...]

    @property
    def task(self) -> Classification:
        """The network as an optimizee."""
        return Classification(self.network, execution=self.execution)


@dataclass(frozen=True)
class StepProblem:
    """One step of a learned optimizer: u and the next state from phi, state, loss, g and h."""

    optimizer: SLSTM
    phi: Phi
    state: State
    inputs: Inputs


@dataclass(frozen=True)
class UnrollProblem:
    """Steps on all of the batches but the last, on which only the meta-loss is evaluated."""

    of_network: NetworkProblem
    optimizer: Optimizer  # reads g alone: what other frameworks can do as well
    phi: Phi
    exact: bool

    @property
    def n_steps(self) -> int:
        """T, the length of the unroll."""
        return len(self.of_network.batches) - 1


def network_problem(
    name: str, execution: Execution, batch_size: int = 128, n_batches: int = 1
) -> NetworkProblem:
    """Return the network called ``name`` and random batches."""
    rng = np.random.default_rng(1)
    shape = SHAPES[name]
    network = find_network(name, shape).build(shape, N_CLASSES)
    batches = tuple(
        Batch(
            step,
            rng.standard_normal((*shape, batch_size), dtype=np.float32),
            rng.integers(0, N_CLASSES, batch_size),
        )
        for step in range(n_batches)
    )
    return NetworkProblem(network, execution, network.init(rng), batches)


def step_problem(n_coordinates: int, execution: Execution) -> StepProblem:
    """Return a step over one tensor of ``n_coordinates``, the third of a run."""
    rng = np.random.default_rng(2)
    optimizer = SLSTM(Layout.of_vector(n_coordinates), execution=execution)
    phi = optimizer.init_phi(rng)
    inputs = [
        Inputs(
            2.0,
            rng.standard_normal(n_coordinates, dtype=np.float32) * np.float32(0.01),
            rng.standard_exponential(n_coordinates, dtype=np.float32) * np.float32(0.01),
        )
        for _ in range(2)
    ]
    state = optimizer.init_state(inputs[0].g)
    for before in inputs:
        _, state = optimizer.update(phi, state, before)
    return StepProblem(optimizer, phi, state, inputs[0])


def unroll_problem(
    n_steps: int, execution: Execution, exact: bool, name: str = "lstm", batch_size: int = 128
) -> UnrollProblem:
    """Return an unroll of ``n_steps`` on SMALL by the optimizer called ``name``."""
    of_network = network_problem("small", execution, batch_size, n_steps + 1)
    optimizer = make_optimizer(name, of_network.network.layout, execution)
    return UnrollProblem(of_network, optimizer, optimizer.init_phi(np.random.default_rng(3)), exact)
