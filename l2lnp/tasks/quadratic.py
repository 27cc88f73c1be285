"""Least squares: the optimizee whose Hessian is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l2lnp.backend import Array
from l2lnp.network import Evaluation
from l2lnp.tree import Layout


@dataclass(frozen=True, eq=False)
class Quadratic:
    """f(theta) = |W theta - y|^2 / (2 m), the mean over the m rows that a batch names.

    Parameters
    ----------
    w : (M, P)
    y : (M,)

    Notes
    -----
    A batch is a slice or an array of indices of rows; None stands for all of them. h is
    the exact diagonal of the Hessian W^T W / m.

    References
    ----------
    Andrychowicz et al. 2016 (arXiv 1606.04474), section 3.1.
    """

    w: Array
    y: Array

    @classmethod
    def random(cls, rng: np.random.Generator, n_coordinates: int, n_rows: int | None = None) -> Quadratic:
        """Draw W and y from the normal distribution, in float64; as many rows as coordinates by default."""
        m = n_rows or n_coordinates
        return cls(rng.normal(size=(m, n_coordinates)), rng.normal(size=m))

    @property
    def layout(self) -> Layout:
        """One tensor of P coordinates."""
        return Layout.of_vector(self.w.shape[1])

    def evaluate(self, theta: Array, batch: Any = None, wants_h: bool = True) -> Evaluation:
        """Return f, g = W^T r / m with r = W theta - y, and h = diag(W^T W) / m."""
        w, residual, m = self._rows(theta, batch)
        h = (w**2).sum(0) / m if wants_h else None
        return Evaluation(float(residual @ residual) / (2 * m), residual @ w / m, h)

    def adjoint(
        self,
        theta: Array,
        batch: Any = None,
        a_loss: float = 0.0,
        a_g: Array | None = None,
        a_h: Array | None = None,
    ) -> Array:
        """Return a_theta = a_loss g + W^T W a_g / m; h does not move."""
        w, residual, m = self._rows(theta, batch)
        moved = a_loss * residual if a_g is None else a_loss * residual + w @ a_g
        return moved @ w / m

    def _rows(self, theta: Array, batch: Any) -> tuple[Array, Array, int]:
        rows = slice(None) if batch is None else batch
        w = self.w[rows]
        return w, w @ theta - self.y[rows], len(w)
