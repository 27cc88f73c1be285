"""What h is worth: an optimizee whose h is taken away, or given to other coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from l2lnp.backend import Array, array_module, to_backend
from l2lnp.execution import Execution
from l2lnp.network import Evaluation
from l2lnp.randomness import generator
from l2lnp.scalars import Scalar
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.tree import Layout, Moments

CHANGES = ("as it is", "zero", "shuffled")


@dataclass(frozen=True)
class ChangedCurvature:
    """An optimizee (`l2lnp.tasks.base.Optimizee`) that gives another one's loss and g, and its h changed.

    Parameters
    ----------
    change
        ``"zero"``: h = 0; ``"shuffled"``: h_i becomes h_p(i), with one permutation p inside each tensor,
        drawn by ``seed`` and kept for the whole run. So every tensor keeps its distribution of h; which
        coordinate it belongs to is lost.
    """

    task: Classification
    change: str
    seed: int = 0

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in theta."""
        return self.task.layout

    @property
    def execution(self) -> Execution:
        """How the other one's work is cut and shared out."""
        return self.task.execution

    def evaluate(self, theta: Array, batch: Batch, wants_h: bool) -> Evaluation:
        """Return loss, g and, where wanted, the changed h."""
        return self._with_changed_h(self.task.evaluate(theta, batch, wants_h))

    @property
    def has_h_in_basis(self) -> bool:
        """Whether the other one gives h in the curvature basis."""
        return self.task.has_h_in_basis

    def evaluate_with_moments(
        self, theta: Array, batch: Batch, wants_h: bool, widest_mode: int, axes: Moments | None = None
    ) -> tuple[Evaluation, Moments]:
        """Return what `evaluate` does, and the moments as they are."""
        found, moments = self.task.evaluate_with_moments(theta, batch, wants_h, widest_mode, axes)
        return self._with_changed_h(found), moments

    def adjoint(
        self, theta: Array, batch: Batch, a_loss: Scalar, a_g: Array | None, a_h: Array | None
    ) -> Array:
        """Return a_theta; the cotangent of h goes back by the inverse permutation."""
        if a_h is not None:
            a_h = None if self.change == "zero" else a_h[to_backend(array_module(a_h), self._inverse)]
        return self.task.adjoint(theta, batch, a_loss, a_g, a_h)

    def _with_changed_h(self, found: Evaluation) -> Evaluation:
        if found.h is None:
            return found
        xp = array_module(found.h)
        zero = self.change == "zero"
        return found._replace(h=xp.zeros_like(found.h) if zero else found.h[to_backend(xp, self._order)])

    @cached_property
    def _order(self) -> np.ndarray:
        rng = generator(self.seed, "shuffled curvature")
        order = np.arange(self.layout.n_coordinates)
        for tensor in self.layout.tensors:
            order[tensor.coordinates] = rng.permutation(order[tensor.coordinates])
        return order

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.argsort(self._order)


def changed(task: Classification, change: str, seed: int) -> Classification | ChangedCurvature:
    """Return ``task`` with its h changed (`CHANGES`)."""
    return task if change == "as it is" else ChangedCurvature(task, change, seed)
