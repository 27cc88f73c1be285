"""The size of a layer's weights: the unit that steps and features may be measured in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.optimizers.signals import Segments
from l2lnp.tree import Layout

LEAST_UNIT = 1e-3  # so that a layer whose weights vanish can move


@dataclass(frozen=True)
class WeightUnit:
    """The root mean square of a layer's weights, at least 0.001; biases take their layer's."""

    layout: Layout

    def of_tensors(self, theta: Array) -> Array:
        """Return the unit of each tensor, (n_tensors,)."""
        return array_module(theta).maximum(self._rms(theta), LEAST_UNIT)

    def adjoint(self, theta: Array, a_units: Array) -> Array:
        """Return a_theta for cotangents of the units: a_w = a_unit w / (n rms(w)), unless that is 0.001."""
        xp, rms = array_module(theta), self._rms(theta)
        moving, units = xp.where(rms > LEAST_UNIT, a_units, 0), xp.maximum(rms, LEAST_UNIT)
        a_theta = xp.zeros_like(theta)
        for index, weights in enumerate(self.weights_of_tensors):
            w = self.layout.tensors[weights].coordinates
            a_theta[w] += moving[index] / (units[index] * (w.stop - w.start)) * theta[w]
        return a_theta

    def _rms(self, theta: Array) -> Array:
        """Return for each tensor the root mean square of its layer's weights."""
        whole = Segments.of(self.layout, slice(0, self.layout.n_coordinates))
        xp = array_module(theta)
        return xp.take(whole.rms(theta), moved_once(xp, self.weights_of_tensors))

    @cached_property
    def weights_of_tensors(self) -> tuple[int, ...]:
        """For each tensor the index of its layer's weights "w" (or first tensor, where it has none)."""
        found: dict[int, int] = {}
        for index, tensor in reversed(list(enumerate(self.layout.tensors))):
            if tensor.name == "w" or tensor.layer not in found:
                found[tensor.layer] = index
        return tuple(found[tensor.layer] for tensor in self.layout.tensors)
