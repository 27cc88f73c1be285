"""An optimizee seen through other units: for meta-training that does not get used to one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l2lnp.backend import Array
from l2lnp.execution import Execution
from l2lnp.network import Evaluation
from l2lnp.scalars import Scalar
from l2lnp.tasks.base import Optimizee
from l2lnp.tree import Layout


@dataclass(frozen=True)
class Rescaled:
    """f(c theta) for the optimizee f and a positive scale c (P,) for every coordinate.

    Its gradient is c g and its curvature c^2 h, taken at c theta.

    References
    ----------
    Lv, Jiang & Li 2017 (arXiv 1703.03633), section 4: random scaling, log c uniform in (-R, R).
    """

    optimizee: Optimizee
    scale: Array

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in theta."""
        return self.optimizee.layout

    @property
    def execution(self) -> Execution | None:
        """How the work of f is cut and shared out."""
        return getattr(self.optimizee, "execution", None)

    def evaluate(self, theta: Array, batch: Any, wants_h: bool) -> Evaluation:
        """Return loss, c g and, where wanted, c^2 h."""
        loss, g, h = self.optimizee.evaluate(self.scale * theta, batch, wants_h)[:3]
        return Evaluation(loss, self.scale * g, None if h is None else self.scale**2 * h)

    def adjoint(
        self, theta: Array, batch: Any, a_loss: Scalar, a_g: Array | None, a_h: Array | None
    ) -> Array:
        """Return a_theta."""
        c = self.scale
        scaled_g = None if a_g is None else c * a_g
        scaled_h = None if a_h is None else c**2 * a_h
        return c * self.optimizee.adjoint(c * theta, batch, a_loss, scaled_g, scaled_h)
