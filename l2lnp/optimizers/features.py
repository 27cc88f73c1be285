"""What a learned optimizer reads of each coordinate: features, selectable by name.

A feature gives a few rows of numbers of order one. In three parts:

* ``statistics``: what a tensor has in common, computed over all coordinates before they
  are cut into chunks;
* ``rows``: elementwise, for any chunk, given the statistics spread over its coordinates;
* ``adjoint``: the exact reverse of both, over all coordinates.

All are finite whatever the sign of g and h, where they are tiny, and where they vanish.
A new feature is a class with these three and an entry in `FEATURES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.signals import Average, Cotangents, Segments, Signals

TINY = 1e-20  # beside squares and curvatures: far below what either is in float32 training


@dataclass(frozen=True)
class Feature:
    """The base of all features."""

    decay: float = 0.95  # of the moving averages it reads

    n_rows: ClassVar[int] = 1
    uses_curvature: ClassVar[bool] = False

    @property
    def m(self) -> Average:
        """The mean of g."""
        return Average("g", self.decay)

    @property
    def v(self) -> Average:
        """The mean of g^2."""
        return Average("g^2", self.decay)

    @property
    def k(self) -> Average:
        """The mean of |h|."""
        return Average("|h|", self.decay)

    @property
    def averages(self) -> tuple[Average, ...]:
        """The moving averages it reads."""
        return ()

    def statistics(self, signals: Signals, tensors: Segments) -> Array | None:
        """Return what ``rows`` needs to know of whole tensors, (n_statistics, n_tensors)."""
        return None

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Return the rows (n,) of the feature; ``statistics`` is (n_statistics, n), or None."""
        raise NotImplementedError

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """Add to ``a`` the cotangents of the signals, for those of the rows (n_rows, P)."""
        raise NotImplementedError


class _LogSign(Feature):
    """(log|x| / p, sgn x) where |x| >= e^-p, else (-1, e^p x); p = 10.

    References
    ----------
    Andrychowicz et al. 2016 (arXiv 1606.04474), appendix A.
    """

    p: ClassVar[int] = 10
    n_rows: ClassVar[int] = 2

    def _rows(self, x: Array) -> list[Array]:
        xp = array_module(x)
        size = xp.maximum(abs(x), exp(-self.p))
        return [xp.log(size) / self.p, xp.clip(exp(self.p) * x, -1.0, 1.0)]

    def _adjoint(self, x: Array, a_rows: Array) -> Array:
        xp = array_module(x)
        large = abs(x) >= exp(-self.p)
        a_log = a_rows[0] / (self.p * xp.where(large, x, 1.0))
        return xp.where(large, a_log, exp(self.p) * a_rows[1])


class LogSignG(_LogSign):
    """The logarithm and the sign of g."""

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Two rows."""
        return self._rows(signals.g)

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """1 / (p g) where the logarithm is taken, e^p elsewhere."""
        a.g += self._adjoint(signals.g, a_rows)


class LogSignH(_LogSign):
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


class RNNprop(Feature):
    """(m / sqrt(v), g / sqrt(v)): free of the scale of each coordinate.

    References
    ----------
    Lv, Jiang & Li 2017 (arXiv 1703.03633), section 4.
    """

    n_rows: ClassVar[int] = 2

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g and of g^2."""
        return self.m, self.v

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Two rows."""
        scale = (signals.averages[self.v] + TINY) ** -0.5
        return [signals.averages[self.m] * scale, signals.g * scale]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """With s = (v + tiny)^-1/2: ds/dv = -s^3 / 2."""
        scale = (signals.averages[self.v] + TINY) ** -0.5
        a_m, a_g = a_rows
        a.add(self.m, a_m * scale)
        a.g += a_g * scale
        a.add(
            self.v, -0.5 * scale**2 * (a_m * (signals.averages[self.m] * scale) + a_g * (signals.g * scale))
        )


class NewtonRatio(Feature):
    """q = r / RMS(r), clipped at 5, of the damped Newton step r = m / (k + 0.1 mean(k)).

    RMS and mean run over the tensor, so q is free of the tensor's common scale.
    """

    uses_curvature: ClassVar[bool] = True
    damping: ClassVar[float] = 0.1
    limit: ClassVar[float] = 5.0

    @property
    def averages(self) -> tuple[Average, ...]:
        """The means of g and of |h|."""
        return self.m, self.k

    def statistics(self, signals: Signals, tensors: Segments) -> Array:
        """0.1 mean(k) + tiny, and 1 / RMS(r), or 0 where all of r vanishes."""
        k = signals.averages[self.k]
        xp = array_module(k)
        floor = self.damping * tensors.mean(k) + TINY
        rms = tensors.rms(signals.averages[self.m] / (k + tensors.spread(floor)))
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
        a.add(self.k, a_curvature + self.damping * tensors.spread(tensors.mean(a_curvature)))


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
        sign = (f > 0) - (f < 0)
        a_product = -a_rows[0] / 5.0 / (k * abs(f) + TINY)
        a.add(self.v, a_rows[0] / 5.0 / (v + TINY))
        a.add(self.k, a_product * abs(f))
        a.loss += float((a_product * k).sum()) * sign


FEATURES: dict[str, type[Feature]] = {
    "log_sign_g": LogSignG,
    "log_sign_h": LogSignH,
    "rnnprop": RNNprop,
    "newton_ratio": NewtonRatio,
    "log_noise": LogNoise,
}
