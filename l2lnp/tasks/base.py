"""What can be optimised: anything that gives loss, g and h at a theta, and is exact about it backwards."""

from __future__ import annotations

from typing import Any, Protocol

from l2lnp.backend import Array
from l2lnp.scalars import Scalar
from l2lnp.tree import Layout, Moments


class Optimizee(Protocol):
    """A loss function of theta (P,), evaluated on one batch at a time.

    A batch is whatever the optimizee understands: pictures and labels, indices, or None.
    One whose layout has modes is an `OptimizeeWithModes`.
    """

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in theta; `Layout.of_vector` for a function that is no network."""

    def evaluate(self, theta: Array, batch: Any, wants_h: bool) -> tuple[float, Array, Array | None]:
        """Return loss, g (P,) and, where wanted, h (P,): the diagonal of the Hessian, or an approximation."""

    def adjoint(
        self, theta: Array, batch: Any, a_loss: Scalar, a_g: Array | None, a_h: Array | None
    ) -> Array:
        """Return a_theta (P,): how a_loss loss + <a_g, g> + <a_h, h> moves with theta.

        None stands for zero. Used only for exact meta-gradients (``second_derivatives=True``).
        """


class OptimizeeWithModes(Optimizee, Protocol):
    """One that the curvature basis can be formed for: its layout says how weights are cut into modes."""

    @property
    def has_h_in_basis(self) -> bool:
        """Whether it gives h in the basis, too; otherwise that is made of the moments."""

    def evaluate_with_moments(
        self, theta: Array, batch: Any, wants_h: bool, widest_mode: int, axes: Moments | None = None
    ) -> tuple[tuple[float, Array, Array | None], Moments]:
        """Return what `evaluate` does, and the moments of all modes: whole up to width ``widest_mode``.

        With ``axes`` h is in their basis.
        """
