"""The size of a layer's weights: the unit that steps and features may be measured in.

Random steps of a fixed share of the weights make the weights grow, and the steps with them, without
end. So the unit does not grow beyond what initial weights would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.optimizers.signals import Segments
from l2lnp.tree import Layout

LEAST_UNIT = 1e-3  # so that a layer whose weights vanish can move


@dataclass(frozen=True)
class WeightUnit:
    """The root mean square of a layer's weights, between 0.001 and a largest; biases take their layer's.

    Parameters
    ----------
    limit
        The largest unit, in shares of sqrt(2 / fan-in), the deviation of He's initial weights
        (`l2lnp.initializers.he_normal`). Parameters that are no matrix have none.
    full_width
        Fan-in up to which steps in this unit have their full length, see `of_steps`. 0: always.
    """

    layout: Layout
    limit: float = inf
    full_width: int = 0

    def of_tensors(self, theta: Array) -> Array:
        """Return the unit of each tensor, (n_tensors,)."""
        return self._within(self._rms(theta))

    def of_steps(self, units: Array) -> Array:
        """Return what steps are measured in, (n_tensors,): less than the ``units`` in wide layers."""
        return units * self.step_shares(units) if self.full_width else units

    def step_shares(self, like: Array) -> Array:
        """Return the share of the unit that steps in each tensor have, (n_tensors,).

        full_width / fan-in for the weights of layers wider than that, but for the last one, else 1. With
        weights of size 1 / sqrt(fan-in), steps fall as 1 / fan-in: the many that add up in an output
        move it as far in a wide layer as in another (Yang & Hu 2021, arXiv 2011.14522).
        """
        return moved_once(array_module(like), self._step_shares, like.dtype)

    @cached_property
    def _step_shares(self) -> tuple[float, ...]:
        last = self.layout.tensors[-1].layer
        widest = self.full_width or inf
        return tuple(
            widest / fan_in if fan_in > widest and t.name == "w" and t.layer != last else 1.0
            for t, fan_in in zip(self.layout.tensors, self.layout.fan_ins, strict=True)
        )

    def adjoint(self, theta: Array, a_units: Array) -> Array:
        """Return a_theta for cotangents of the units: a_w = a_unit w / (n rms(w)), 0 beyond the bounds."""
        xp, rms = array_module(theta), self._rms(theta)
        units = self._within(rms)
        moving = xp.where(units == rms, a_units, 0)
        a_theta = xp.zeros_like(theta)
        for index, weights in enumerate(self.layout.weights_of_tensors):
            w = self.layout.tensors[weights].coordinates
            a_theta[w] += moving[index] / (units[index] * (w.stop - w.start)) * theta[w]
        return a_theta

    def _within(self, rms: Array) -> Array:
        xp = array_module(rms)
        return xp.clip(rms, LEAST_UNIT, moved_once(xp, self.largest, rms.dtype))

    def _rms(self, theta: Array) -> Array:
        """Return for each tensor the root mean square of its layer's weights."""
        whole = Segments.of(self.layout, slice(0, self.layout.n_coordinates))
        xp = array_module(theta)
        return xp.take(whole.rms(theta), moved_once(xp, self.layout.weights_of_tensors))

    @cached_property
    def largest(self) -> tuple[float, ...]:
        """The largest unit of each tensor."""
        return tuple(
            max(LEAST_UNIT, self.limit * sqrt(2 / fan_in)) if fan_in else inf
            for fan_in in self.layout.fan_ins
        )
