"""Features that say where a whole tensor, or the whole run, stands: the same for all its coordinates."""

from __future__ import annotations

import math
from typing import ClassVar

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.optimizers.features.base import TINY, Feature
from l2lnp.optimizers.features.curvature import DAMPING, damped_newton
from l2lnp.optimizers.signals import Average, Cotangents, Segments, Signals
from l2lnp.scalars import like, log, scalar, sign
from l2lnp.tree import Layout

LIMIT = 3.0  # of logarithms of sizes, after they are divided by 5
LEAST = 1e-30  # beside means of squares
LEAST_LOSS = 0.05  # beside losses


class SignalShare(Feature):
    """y = log(mean m^2 / mean v) / 3 + 1/2 over the tensor; m has decay 0.9.

    About 1/2 where gradients agree, about -1/2 where they are noise.
    """

    n_statistics: ClassVar[int] = 3
    m_fast: ClassVar[Average] = Average("g", 0.9)

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g and of g^2."""
        return self.m_fast, self.v

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """Y, mean m^2 + least and mean v + least."""
        xp = array_module(signals.g)
        signal = tensors.rms(signals.averages[self.m_fast]) ** 2 + LEAST
        total = tensors.mean(signals.averages[self.v]) + LEAST
        return xp.stack([(xp.log(signal) - xp.log(total)) / 3.0 + 0.5, signal, total])

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        return [statistics[0]]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """dy/dm = 2 m / (3 n mean m^2), dy/dv = -1 / (3 n mean v) with n coordinates in the tensor."""
        _, signal, total = statistics
        a_y = tensors.spread(tensors.mean(a_rows[0])) / 3.0
        a.add(self.m_fast, a_y * 2.0 * (signals.averages[self.m_fast] / signal))
        a.add(self.v, -a_y / total)


class GradientSize(Feature):
    """z = log(RMS(g) unit / |f|) / 5 over the tensor, unit being the size of the layer's weights; within +-3.

    The share of the loss f that a step as large as the weights would take off, to first order.
    """

    n_statistics: ClassVar[int] = 2
    uses_theta: ClassVar[bool] = True

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """Z unclipped, and RMS(g) + tiny."""
        xp = array_module(signals.g)
        size = tensors.rms(signals.g) + TINY
        return xp.stack([_log_size(size * signals.units) - log(abs(signals.loss) + TINY) / 5.0, size])

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        return [array_module(statistics).clip(statistics[0], -LIMIT, LIMIT)]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """dz/dg = g / (5 n RMS(g)^2), dz/dunit = 1 / (5 unit), dz/df = -1 / (5 f)."""
        z, size = statistics
        a_z = tensors.mean(a_rows[0] * (abs(z) <= LIMIT)) / 5.0
        a.g += tensors.spread(a_z) * (signals.g / size) / size
        a.units += a_z * tensors.counts(a_z) / signals.units
        f = signals.loss
        a.loss = a.loss - scalar((a_z * tensors.counts(a_z)).sum()) * sign(f) / (abs(f) + TINY)


class NewtonSize(Feature):
    """z = log(RMS(m / (k + 0.1 mean k)) / unit) / 5: the Newton step in units of the weights."""

    n_statistics: ClassVar[int] = 3
    uses_curvature: ClassVar[bool] = True
    uses_theta: ClassVar[bool] = True

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g and of |h|."""
        return self.m, self.k

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """Z unclipped, the damping, and the root mean square of the Newton step + tiny."""
        floor, rms = damped_newton(signals.averages[self.m], signals.averages[self.k], tensors)
        size = rms + TINY
        return array_module(size).stack([_log_size(size / signals.units), floor, size])

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        return [array_module(statistics).clip(statistics[0], -LIMIT, LIMIT)]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """With r = m / (k + d): dz/dr = r / (5 n RMS(r)^2), dz/dunit = -1 / (5 unit)."""
        z, floor, size = statistics
        a_z = tensors.mean(a_rows[0] * (abs(z) <= LIMIT)) / 5.0
        curvature = signals.averages[self.k] + floor
        ratio = signals.averages[self.m] / curvature
        a_ratio = tensors.spread(a_z) * (ratio / size) / size
        a_curvature = -a_ratio * ratio / curvature
        a.add(self.m, a_ratio / curvature)
        a.add(self.k, a_curvature + DAMPING * tensors.spread(tensors.mean(a_curvature)))
        a.units -= a_z * tensors.counts(a_z) / signals.units


class Clock(Feature):
    """(2 t / T - 1, log(T / 300) / 2): how much of the run is over, and how long it is."""

    n_rows: ClassVar[int] = 2

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Two rows."""
        xp, g, share = array_module(signals.g), signals.g, signals.context.share
        length = log((signals.context.n_steps or 1) / 300.0) / 2.0
        return [like(value, g) * xp.ones_like(g) for value in (2.0 * share - 1.0, length)]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """Nothing: time goes by itself."""


class Loss(Feature):
    """log(|f| + 0.05) / 2: how far there is to go; and whether it has risen, to an LSTM that remembers."""

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        g = signals.g
        return [like(log(abs(signals.loss) + LEAST_LOSS) / 2.0, g) * array_module(g).ones_like(g)]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """dz/df = sgn f / (2 (|f| + 0.05))."""
        f = signals.loss
        a.loss = a.loss + scalar(a_rows[0].sum()) * sign(f) / (2.0 * (abs(f) + LEAST_LOSS))


class Shape(Feature):
    """(log(n / 64) / 3, log(L / 3), 2 l / (L - 1) - 1): n inputs of an output, layer l (from 0) of L.

    An only layer is the last one: its third number is 1.

    A step as large as the weights moves an output by a share that grows with sqrt(n), where the inputs
    agree on it, and all outputs above with it.
    """

    n_rows: ClassVar[int] = 3
    n_statistics: ClassVar[int] = 3

    @staticmethod
    def of_layout(layout: Layout, g: Array) -> Array:
        """Return the three numbers of each tensor, (3, n_tensors), like ``g``; not to be written to."""
        layers = list(layout.layers)
        last = len(layers) - 1
        width = (math.log(max(fan_in, 1) / 64.0) / 3.0 for fan_in in layout.fan_ins)
        depth = (math.log(len(layers) / 3.0) for _ in layout.tensors)
        place = (2.0 * layers.index(t.layer) / last - 1.0 if last else 1.0 for t in layout.tensors)
        return moved_once(array_module(g), (*width, *depth, *place), g.dtype).reshape(3, -1)

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """The rows."""
        return self.of_layout(tensors.layout, signals.g)

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Three rows."""
        return list(statistics)

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """Nothing: a network stays as it is."""


def _log_size(size: Array) -> Array:
    return array_module(size).log(size + TINY) / 5.0
