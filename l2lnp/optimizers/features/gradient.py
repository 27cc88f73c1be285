"""Features of the gradient alone."""

from __future__ import annotations

from math import exp
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.features.base import TINY, Feature
from l2lnp.optimizers.signals import Average, Cotangents, Segments, Signals


class LogSign(Feature):
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


class LogSignG(LogSign):
    """The logarithm and the sign of g."""

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Two rows."""
        return self._rows(signals.g)

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """1 / (p g) where the logarithm is taken, e^p elsewhere."""
        a.g += self._adjoint(signals.g, a_rows)


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


class Momenta(Feature):
    """(g / sqrt(v), m_fast / sqrt(v), m_slow / sqrt(v_slow)): the gradient of now, of lately, of some time.

    m_fast is the mean of g with decay 0.9, the slow ones have decay 0.99, v the feature's own.
    """

    n_rows: ClassVar[int] = 3
    m_fast: ClassVar[Average] = Average("g", 0.9)
    m_slow: ClassVar[Average] = Average("g", 0.99)
    v_slow: ClassVar[Average] = Average("g^2", 0.99)

    @property
    def averages(self) -> tuple[Average, ...]:
        """Two means of g and two of g^2."""
        return self.v, self.m_fast, self.m_slow, self.v_slow

    def rows(self, signals: Signals, statistics: Array) -> list[Array]:
        """Three rows."""
        scale, slow_scale = self._scales(signals)
        averages = signals.averages
        return [signals.g * scale, averages[self.m_fast] * scale, averages[self.m_slow] * slow_scale]

    def adjoint(
        self, signals: Signals, statistics: Array, tensors: Segments, a_rows: Array, a: Cotangents
    ) -> None:
        """With s = (v + tiny)^-1/2: ds/dv = -s^3 / 2."""
        scale, slow_scale = self._scales(signals)
        g, m_fast, m_slow = signals.g, signals.averages[self.m_fast], signals.averages[self.m_slow]
        a_g, a_fast, a_slow = a_rows
        a.g += a_g * scale
        a.add(self.m_fast, a_fast * scale)
        a.add(self.m_slow, a_slow * slow_scale)
        a.add(self.v, -0.5 * scale**2 * (a_g * (g * scale) + a_fast * (m_fast * scale)))
        a.add(self.v_slow, -0.5 * slow_scale**2 * a_slow * (m_slow * slow_scale))

    def _scales(self, signals: Signals) -> tuple[Array, Array]:
        averages = signals.averages
        return (averages[self.v] + TINY) ** -0.5, (averages[self.v_slow] + TINY) ** -0.5
