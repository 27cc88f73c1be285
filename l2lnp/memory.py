"""How much memory training takes on a GPU: numbers kept at the highest point, by parameter and by sample.

The coefficients were counted by running steps and unrolls with every allocation traced, for optimizers of
several sizes; within a tenth they are what ``tests/test_memory.py`` finds. With S units in both layers
of a learned optimizer, F rows of features, M moving averages and unroll length T, a parameter takes

    frozen        3 (2 S) + 3 M + 12                   states: before the block, before and after the step
    joint         6 (2 S) + 7 M + 13 + T (2 S + 2 F + 7)    if one layer holds nearly all parameters
    hand-designed 5 (arrays of state) + 6

and a sample, for g and h in one sweep, twice every layer's output, twice every convolution's
patches, and once more those of all convolutions but the first; for g alone about half.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from l2lnp.layers import Conv2D, lstm
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

    The axes of a curvature basis come beside them: two matrices for each mode of a tensor.
    """
    inner = optimizer.inner if isinstance(optimizer, InBasis | HeldCurvature) else optimizer
    if not isinstance(inner, LSTM):
        arrays = inner.init_state(np.zeros(1)).values()
        return 5.0 * sum(np.size(a) for a in arrays if not isinstance(a, int)) + 6
    f, (m, *_) = inner.n_features, inner.init_state(np.zeros(1))["moments"].shape
    two_s = 2 * sum(inner.n_units)
    if unroll_length_steps is None:
        return 3.0 * two_s + 3 * m + 12
    return 6.0 * two_s + 7 * m + 13 + unroll_length_steps * (two_s + 2 * f + 7)


def numbers_per_sample(network: Sequential, with_h: bool = True) -> float | None:
    """Return the numbers kept for a sample of a mini-batch; None for a network with LSTM layers."""
    if any(isinstance(layer, lstm.LSTM) for layer in network.layers):
        return None
    outputs = sum(prod(shape) for shape in network.shapes[1:])
    patches = [
        layer.fan_in * prod(network.shapes[i + 1][1:])
        for i, layer in enumerate(network.layers)
        if isinstance(layer, Conv2D)
    ]
    return (2.0 if with_h else 1.4) * outputs + (2 if with_h else 1) * sum(patches) + sum(patches[1:])


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
