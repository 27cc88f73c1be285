"""What the output of a learned optimizer is multiplied by: a number, or one in units of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.base import Inputs
from l2lnp.optimizers.signals import Segments
from l2lnp.tree import Layout

STEP_UNITS = ("fixed", "weights")
LEAST_UNIT = 1e-3  # so that a layer whose weights vanish can move


@dataclass(frozen=True)
class StepScale:
    """``factor``, times the root mean square of the layer's weights where ``unit`` is "weights".

    Biases take the unit of their layer's weights.
    """

    layout: Layout
    unit: str
    factor: float

    def of_tensors(self, inputs: Inputs) -> Array:
        """Return the scale of each tensor, (n_tensors,)."""
        xp = array_module(inputs.g)
        if self.unit == "fixed":
            return xp.full(len(self.layout.tensors), self.factor, inputs.g.dtype)
        return self.factor * xp.maximum(self._rms(inputs.theta), LEAST_UNIT)

    def adjoint(self, inputs: Inputs, a_scales: Array) -> Array | None:
        """Return a_theta, from the mean over each tensor of the cotangents of its scale.

        a_w = factor w / (n rms(w)) sum of the cotangents over all coordinates of the layer.
        """
        if self.unit == "fixed":
            return None
        theta: Array = inputs.theta
        rms = self._rms(theta)
        a_theta = array_module(theta).zeros_like(theta)
        for index, weights in enumerate(self._weights_of_tensors):
            tensor, w = self.layout.tensors[index], self.layout.tensors[weights].coordinates
            if rms[index] > LEAST_UNIT:
                a_rms = self.factor * a_scales[index] * (tensor.stop - tensor.start)
                a_theta[w] += a_rms / (rms[index] * (w.stop - w.start)) * theta[w]
        return a_theta

    def _rms(self, theta: Array) -> Array:
        """Return for each tensor the root mean square of its layer's weights."""
        whole = Segments.of(self.layout, slice(0, self.layout.n_coordinates))
        return whole.rms(theta)[self._weights_of_tensors]

    @cached_property
    def _weights_of_tensors(self) -> list[int]:
        """For each tensor the index of its layer's weights "w" (or first tensor, where it has none)."""
        found: dict[int, int] = {}
        for index, tensor in reversed(list(enumerate(self.layout.tensors))):
            if tensor.name == "w" or tensor.layer not in found:
                found[tensor.layer] = index
        return [found[tensor.layer] for tensor in self.layout.tensors]
