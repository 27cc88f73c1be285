"""Classification of pictures by a network: loss, g and h of a mini-batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module, to_host
from l2lnp.curvature import MODES
from l2lnp.data import Split
from l2lnp.execution import Execution
from l2lnp.layers import MeanSquaredError
from l2lnp.network import Evaluation, Sequential
from l2lnp.randomness import generator
from l2lnp.scalars import Scalar
from l2lnp.tree import Layout, Moments


class Batch(NamedTuple):
    """The mini-batch of one step; the step also fixes the draws of random curvature modes."""

    step: int
    x: Array  # (C, H, W, N)
    labels: Array  # (N,)


class Measured(NamedTuple):
    """What a network makes of a whole split."""

    loss: float
    error: float  # share of pictures classified wrongly
    confusion: np.ndarray  # (classes, classes): pictures of class (row) taken for class (column)


@dataclass(frozen=True)
class Classification:
    """An optimizee (`l2lnp.tasks.base.Optimizee`): a network that tells classes apart.

    Parameters
    ----------
    curvature
        The mode of h; None for an optimizer that does not ask for h.
    seed
        Of the draws in random curvature modes.
    """

    network: Sequential
    curvature: str | None = "hesscale"
    execution: Execution = field(default_factory=Execution)
    seed: int = 0

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in theta."""
        return self.network.layout

    def evaluate(self, theta: Array, batch: Batch, wants_h: bool) -> Evaluation:
        """Return the batch's loss, its g and, where wanted, h at ``theta``."""
        return self.evaluate_with_moments(theta, batch, wants_h, 0)[0]

    @property
    def has_h_in_basis(self) -> bool:
        """Whether the mode of h is of the curvature basis."""
        return self.curvature in MODES and MODES[self.curvature].in_basis

    def evaluate_with_moments(
        self, theta: Array, batch: Batch, wants_h: bool, widest_mode: int, axes: Moments | None = None
    ) -> tuple[Evaluation, Moments]:
        """Return what `evaluate` does, and the moments of all modes: whole up to width ``widest_mode``.

        With ``axes`` h is in their basis.
        """
        mode = self.curvature if wants_h else None
        rng = generator(self.seed, "curvature", batch.step)
        return self.network.evaluate_with_moments(
            theta, batch.x, self._targets(batch), widest_mode, mode, self.execution, rng, axes=axes
        )

    def adjoint(
        self, theta: Array, batch: Batch, a_loss: Scalar, a_g: Array | None, a_h: Array | None
    ) -> Array:
        """Return a_theta: how a_loss loss + <a_g, g> + <a_h, h> moves with theta."""
        mode = self.curvature or "hesscale"
        targets = self._targets(batch)
        return self.network.adjoint(theta, batch.x, targets, a_loss, a_g, a_h, mode, self.execution)

    def measure(self, theta: Array, split: Split, xp: ModuleType = np, block: int = 1000) -> Measured:
        """Return loss, error and confusion over all of ``split``, computed ``block`` pictures at a time."""
        n_classes = self.network.output_shape[0]
        loss, confusion = 0.0, np.zeros((n_classes, n_classes), np.int64)
        for x, labels in split.in_order(block, xp, theta.dtype):
            z = self.network.predict(theta, x, self.execution)
            total, _ = self.network.loss.forward(z, self._targets(Batch(0, x, labels)), split.n_samples)
            loss += float(total)
            np.add.at(confusion, (to_host(labels), to_host(z.argmax(0))), 1)
        return Measured(loss, 1.0 - np.trace(confusion) / split.n_samples, confusion)

    def _targets(self, batch: Batch) -> Array:
        if not isinstance(self.network.loss, MeanSquaredError):
            return batch.labels
        classes = array_module(batch.labels).arange(self.network.output_shape[0])
        return (classes[:, None] == batch.labels).astype(batch.x.dtype)  # one-hot (C, N)
