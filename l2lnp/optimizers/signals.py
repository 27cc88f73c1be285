"""What the features of a learned optimizer look at: loss, g, h and their moving averages.

Everything here is elementwise, so it works on all coordinates and on any chunk of them;
what a tensor has in common is computed over whole tensors, with `Segments`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import reductions, twin
from l2lnp.optimizers.base import Context, Inputs, moving_average
from l2lnp.scalars import Scalar, like
from l2lnp.tree import Layout


class Average(NamedTuple):
    """A moving average that is kept in the state: of ``"g"``, ``"g^2"`` or ``"|h|"``."""

    of: str
    decay: float

    def observe(self, g: Array, h: Array) -> Array:
        """Return the quantity that is averaged, from g and h (n,)."""
        if self.of == "g":
            return g
        return g**2 if self.of == "g^2" else abs(h)

    def correction(self, t: Scalar) -> Scalar:
        """Return the share of the average that t steps have filled, 1 - decay^t (Kingma & Ba 2015)."""
        return 1.0 - self.decay**t


class Signals(NamedTuple):
    """What features may look at, over n coordinates."""

    loss: Scalar
    g: Array  # (n,)
    h: Array  # (n,), or None where no feature reads it
    averages: dict[Average, Array]  # (n,) each, bias-corrected
    units: Array  # (n_tensors,) sizes of the weights (`WeightUnit`), or None where no feature reads them
    context: Context


@dataclass
class Cotangents:
    """Sums of the cotangents of `Signals`; features add to them."""

    like: Array
    loss: Scalar = 0.0
    g: Array = field(init=False)
    h: Array = field(init=False)
    averages: dict[Average, Array] = field(default_factory=dict)
    units: Array = 0.0  # (n_tensors,), or zero

    def __post_init__(self) -> None:
        xp = array_module(self.like)
        self.g, self.h = xp.zeros_like(self.like), xp.zeros_like(self.like)

    def add(self, average: Average, a: Array) -> None:
        """Add ``a`` (n,) to the cotangent of a bias-corrected average."""
        self.averages[average] = self.averages.get(average, 0.0) + a


def advance(averages: Sequence[Average], moments: Array, g: Array, h: Array | None) -> Array:
    """Return the moments (n_moments, n) after a step that saw g and h."""
    after = array_module(g).empty_like(moments)
    for row, average in enumerate(averages):
        after[row, ...] = moving_average(average.decay, moments[row, ...], average.observe(g, h))
    return after


def look(
    averages: Sequence[Average],
    moments: Array,
    t: Scalar,
    inputs: Inputs,
    units: Array | None = None,
    wanted: Container[Average] | None = None,
) -> Signals:
    """Return the signals of step number ``t`` (from 1), with the ``moments`` after it.

    ``wanted`` are the averages that will be looked at; None: all.
    """
    corrected = {
        a: moments[row, ...] / like(a.correction(t), moments)
        for row, a in enumerate(averages)
        if wanted is None or a in wanted
    }
    return Signals(inputs.loss, inputs.g, inputs.h, corrected, units, inputs.context)


def advance_adjoint(
    averages: Sequence[Average], t: int, inputs: Inputs, a: Cotangents, a_moments: Array
) -> Array:
    """Return the cotangent of the moments before a step; adds to ``a.g`` and ``a.h``.

    ``a_moments`` (n_moments, n) is the cotangent of the moments after the step, beside
    what the features say in ``a.averages``.
    """
    g, h = inputs.g, inputs.h
    xp = array_module(g)
    before = xp.empty_like(a_moments)
    for row, average in enumerate(averages):
        a_after = a_moments[row, ...] + a.averages.get(average, 0.0) / average.correction(t)
        before[row, ...] = average.decay * a_after
        a_observed = (1.0 - average.decay) * a_after
        if average.of == "g":
            a.g += a_observed
        elif average.of == "g^2":
            a.g += 2.0 * g * a_observed
        else:
            a.h += xp.sign(h) * a_observed
    return before


@dataclass(frozen=True)
class Segments:
    """The tensors that a range of coordinates runs through."""

    first: int  # index of the first tensor
    sizes: tuple[int, ...]  # coordinates of each that lie in the range
    layout: Layout

    @classmethod
    def of(cls, layout: Layout, coordinates: slice) -> Segments:
        """Return the tensors of ``layout`` in the range ``coordinates``."""
        spans = [
            (index, min(t.stop, coordinates.stop) - max(t.start, coordinates.start))
            for index, t in enumerate(layout.tensors)
        ]
        inside = [(index, size) for index, size in spans if size > 0]
        return cls(inside[0][0], tuple(size for _, size in inside), layout)

    def spread(self, values: Array) -> Array:
        """Return numbers per tensor (..., n_tensors) as numbers per coordinate (..., n), to be read only."""
        xp, mine = array_module(values), values[..., self.first : self.first + len(self.sizes)]
        if len(self.sizes) == 1:
            return xp.broadcast_to(mine, (*values.shape[:-1], *self.sizes))
        if xp is np:
            return xp.repeat(mine, self.sizes, axis=-1)
        return xp.take(mine, _tensor_of(xp, self.sizes), axis=-1)  # CuPy's repeat copies sizes from the host

    def counts(self, like: Array) -> Array:
        """Return the number of coordinates of each tensor, (n_tensors,), as an array like ``like``."""
        return array_module(like).asarray(self.sizes, like.dtype)

    def mean(self, x: Array) -> Array:
        """Return the mean of x (n,) over each tensor, summed in float64, as (n_tensors,) of x's dtype."""
        means: Array = twin(reductions, x).means(x, self.sizes)
        return means

    def rms(self, x: Array) -> Array:
        """Return the root mean square of x (n,) over each tensor; does not overflow where x does not."""
        xp = array_module(x)
        return (self.mean(xp.square(x, dtype=np.float64)) ** 0.5).astype(x.dtype)


@cache
def _tensor_of(xp: ModuleType, sizes: tuple[int, ...]) -> Array:
    """Return for each coordinate the number of its tensor, on the device; moved there once."""
    return xp.asarray(np.repeat(np.arange(len(sizes)), sizes))
