"""What a feature is.

A feature gives a few rows of numbers of order one. In three parts:

* ``statistics``: what a tensor has in common, computed over all coordinates before they
  are cut into chunks;
* ``rows``: elementwise, for any chunk, given the statistics spread over its coordinates;
* ``adjoint``: the exact reverse of both, over all coordinates.

All are finite whatever the sign of g and h, where they are tiny, and where they vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array
from l2lnp.optimizers.signals import Average, Cotangents, Segments, Signals

TINY = 1e-20  # beside squares and curvatures: far below what either is in float32 training


@dataclass(frozen=True)
class Feature:
    """The base of all features."""

    decay: float = 0.95  # of the moving averages it reads

    n_rows: ClassVar[int] = 1
    n_statistics: ClassVar[int] = 0
    uses_curvature: ClassVar[bool] = False
    uses_theta: ClassVar[bool] = False  # reads the size of the weights, `Signals.units`

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
