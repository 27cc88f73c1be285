"""Features that read second derivatives, coordinate by coordinate."""

from __future__ import annotations

from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.features.base import TINY, Feature
from l2lnp.optimizers.features.gradient import LogSign
from l2lnp.optimizers.signals import Average, Cotangents, Segments, Signals
from l2lnp.scalars import like, scalar, sign

DAMPING = 0.1


def damped_newton(m: Array, k: Array, tensors: Segments) -> tuple[Array, Array]:
    """Return for each tensor d = 0.1 mean(k) + tiny, and the root mean square of r = m / (k + d)."""
    floor = DAMPING * tensors.mean(k) + TINY
    return floor, tensors.rms(m / (k + tensors.spread(floor)))


class LogSignH(LogSign):
    """The logarithm and the sign of h."""

    uses_curvature: ClassVar[bool] = True

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Two rows."""
        return self._rows(signals.h)

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """1 / (p h) where the logarithm is taken, e^p elsewhere."""
        a.h += self._adjoint(signals.h, a_rows)


class NewtonRatio(Feature):
    """q = r / RMS(r), clipped at 5, of the damped Newton step r = m / (k + 0.1 mean(k)).

    RMS and mean run over the tensor, so q is free of the tensor's common scale.
    """

    n_statistics: ClassVar[int] = 2
    uses_curvature: ClassVar[bool] = True
    limit: ClassVar[float] = 5.0

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g and of |h|."""
        return self.m, self.k

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """0.1 mean(k) + tiny, and 1 / RMS(r), or 0 where all of r vanishes."""
        floor, rms = damped_newton(signals.averages[self.m], signals.averages[self.k], tensors)
        xp = array_module(rms)
        return xp.stack([floor, (rms > TINY) / xp.maximum(rms, TINY)])

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        floor, inverse_rms = statistics
        ratio = signals.averages[self.m] / (signals.averages[self.k] + floor)
        return [array_module(ratio).clip(ratio * inverse_rms, -self.limit, self.limit)]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """a_r = (a_q - q mean(a_q q)) / RMS(r), with a_q = 0 where q is clipped."""
        floor, inverse_rms = statistics
        curvature = signals.averages[self.k] + floor
        ratio = signals.averages[self.m] / curvature
        q = ratio * inverse_rms
        a_q = a_rows[0] * (abs(q) <= self.limit)
        a_ratio = (a_q - q * tensors.spread(tensors.mean(a_q * q))) * inverse_rms
        a_curvature = -a_ratio * ratio / curvature
        a.add(self.m, a_ratio / curvature)
        a.add(self.k, a_curvature + DAMPING * tensors.spread(tensors.mean(a_curvature)))


class LogNoise(Feature):
    """log(v / (k |f|)) / 5 with the loss f: does not change when one coordinate or the loss is rescaled.

    Near a minimum of a log-likelihood the square of one sample's gradient is about its
    curvature, so v / k says how noisy the mini-batch gradients are, and that against f
    how far there is to go. 0 where both parts vanish.
    """

    uses_curvature: ClassVar[bool] = True

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g^2 and of |h|."""
        return self.v, self.k

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """One row."""
        v, k = signals.averages[self.v], signals.averages[self.k]
        xp = array_module(v)
        return [(xp.log(v + TINY) - xp.log(k * abs(signals.loss) + TINY)) / 5.0]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """The logarithm's derivatives in v, k and f."""
        v, k, f = signals.averages[self.v], signals.averages[self.k], signals.loss
        size = like(abs(f), k)
        a_product = -a_rows[0] / 5.0 / (k * size + TINY)
        a.add(self.v, a_rows[0] / 5.0 / (v + TINY))
        a.add(self.k, a_product * size)
        a.loss = a.loss + scalar((a_product * k).sum()) * sign(f)


class Significance(Feature):
    """(clip(g s, +-6) / 2, clip(m s, +-6) / 2, log(v s^2) / 4) with s^2 = B / k, B the batch size.

    Near a minimum of a log-likelihood the gradient of a mini-batch is pure noise of
    variance k / B: these say how far above it a gradient stands. m has decay 0.9.
    """

    n_rows: ClassVar[int] = 3
    uses_curvature: ClassVar[bool] = True
    limit: ClassVar[float] = 6.0
    m_fast: ClassVar[Average] = Average("g", 0.9)

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g, of g^2 and of |h|."""
        return self.m_fast, self.v, self.k

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Three rows."""
        xp, noise = array_module(signals.g), self._noise(signals)
        of_g, of_m = signals.g * noise**-0.5, signals.averages[self.m_fast] * noise**-0.5
        clipped = [xp.clip(ratio, -self.limit, self.limit) / 2.0 for ratio in (of_g, of_m)]
        return [*clipped, (xp.log(signals.averages[self.v] + TINY) - xp.log(noise)) / 4.0]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """With n = k / B + tiny: d(n^-1/2)/dn = -n^-3/2 / 2; nothing passes where a ratio is clipped."""
        noise = self._noise(signals)
        scale = noise**-0.5
        of_g, of_m = signals.g * scale, signals.averages[self.m_fast] * scale
        a_of_g = a_rows[0] / 2.0 * (abs(of_g) <= self.limit)
        a_of_m = a_rows[1] / 2.0 * (abs(of_m) <= self.limit)
        a_noise = -(0.5 * (a_of_g * of_g + a_of_m * of_m) + a_rows[2] / 4.0) / noise
        a.g += a_of_g * scale
        a.add(self.m_fast, a_of_m * scale)
        a.add(self.v, a_rows[2] / 4.0 / (signals.averages[self.v] + TINY))
        a.add(self.k, a_noise / signals.context.samples)

    def _noise(self, signals: Signals) -> Array:
        """Return k / B + tiny."""
        return signals.averages[self.k] / signals.context.samples + TINY
