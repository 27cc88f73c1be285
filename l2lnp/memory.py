"""How much memory training takes on a GPU: numbers kept at the highest point, by parameter and by sample.

The coefficients were counted by running steps and unrolls with every allocation traced, for optimizers of
several sizes; within a tenth they are what ``tests/test_memory.py`` finds. With S units in both layers
of a learned optimizer, M moving averages and unroll length T, a parameter takes

    frozen        3 (2 S) + 3 M + 12                   states: before the block, before and after the step
    joint         3 (2 S) + 2 M + 10 + T (2 S + M + 3)    one more in T (...) if it reads theta
    hand-designed 4 (arrays of state) + 6

and a sample, for g and h in one sweep, twice every layer's output; for g alone about two thirds of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from l2lnp.layers import lstm
from l2lnp.network import Sequential
from l2lnp.optimizers import LSTM, SLSTM, HeldCurvature, InBasis, Optimizer
from l2lnp.tree import Layout


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs on a device, about."""

    of_parameters: float
    of_samples: float  # of a mini-batch

    @property
    def total(self) -> float:
        """Both together."""
        return self.of_parameters + self.of_samples

    def __str__(self) -> str:
        whole, parameters, samples = (_size(n) for n in (self.total, self.of_parameters, self.of_samples))
        return f"about {whole}: {parameters} for the parameters, {samples} for a mini-batch"


def numbers_per_parameter(optimizer: Optimizer, unroll_length_steps: int | None = None) -> float:
    """Return the numbers kept for a parameter; ``unroll_length_steps`` is None for a frozen optimizer.

    The axes of a curvature basis come beside them: two matrices for each mode of a tensor. So do, where
    optimizers learn, derivatives of their weights in 512 blocks for each layer: 12 MB with 20 + 20 units.
    """
    inner = optimizer.inner if isinstance(optimizer, InBasis | HeldCurvature) else optimizer
    if not isinstance(inner, LSTM):
        arrays = inner.init_state(np.zeros(1)).values()
        return 4.0 * sum(np.size(a) for a in arrays if not isinstance(a, int)) + 6
    m, two_s = len(inner.init_state(np.zeros(1))["moments"]), 2 * sum(inner.n_units)
    if unroll_length_steps is None:
        return 3.0 * two_s + 3 * m + 12
    return 3.0 * two_s + 2 * m + 10 + unroll_length_steps * (two_s + m + 3 + inner.uses_theta)


def numbers_per_sample(network: Sequential, with_h: bool = True) -> float | None:
    """Return the numbers kept for a sample of a mini-batch; None for a network with LSTM layers."""
    if any(isinstance(layer, lstm.LSTM) for layer in network.layers):
        return None
    return (2.05 if with_h else 1.35) * sum(prod(shape) for shape in network.shapes[1:])


def needed(
    network: Sequential,
    optimizer: Optimizer,
    batch_size: int,
    unroll_length_steps: int | None = None,
    itemsize: int = 4,
) -> Memory:
    """Return what training ``network`` by ``optimizer`` needs, in numbers of ``itemsize`` bytes."""
    of_parameter = numbers_per_parameter(optimizer, unroll_length_steps)
    of_sample = numbers_per_sample(network, optimizer.uses_curvature) or 0.0
    return Memory(itemsize * of_parameter * network.layout.n_coordinates, itemsize * of_sample * batch_size)


def largest_network(memory_bytes: float, optimizer: Optimizer, unroll_length_steps: int | None = None) -> int:
    """Return the most parameters that can be trained in so much memory, in float32, samples aside."""
    return int(memory_bytes / (4 * numbers_per_parameter(optimizer, unroll_length_steps)))


def default_slstm() -> Optimizer:
    """Return the SLSTM with the default sizes."""
    return SLSTM(Layout.of_vector(1))
