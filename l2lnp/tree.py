"""Where each parameter tensor of a network lies in the one vector of coordinates theta (P,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from l2lnp.backend import Array
from l2lnp.errors import InputError
from l2lnp.kernels import joins, twin

Params = dict[str, Array]  # the tensors of one layer by name: {"w": ..., "b": ...}, or {}
Moments = dict[tuple[int, int], Array]  # symmetric matrices by layer and mode of its weights


@dataclass(frozen=True)
class Tensor:
    """One parameter tensor and its place ``theta[start:stop]``."""

    layer: int  # index in the network
    kind: str  # "conv", "fully_connected" or "lstm"
    name: str  # "w" or "b"
    shape: tuple[int, ...]
    start: int
    modes: tuple[int, ...] = ()  # sizes that the curvature basis cuts it into; none: left alone

    @property
    def stop(self) -> int:
        """One past the tensor's last coordinate."""
        return self.start + prod(self.shape)

    @property
    def coordinates(self) -> slice:
        """The tensor's slice of theta."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """The tensors of a network in the order of their coordinates; layers lie one after the other."""

    tensors: tuple[Tensor, ...]

    @classmethod
    def of_layers(
        cls,
        layers: Sequence[tuple[str, Mapping[str, tuple[int, ...]]]],
        modes: Sequence[tuple[int, ...]] | None = None,
    ) -> Layout:
        """Lay out ``layers``: for each its kind and the shapes of its tensors by name.

        ``modes`` says for each layer how the curvature basis cuts its weights "w"
        (`l2lnp.layers.base.Layer.modes`); its biases "b" have the first of these modes.
        """
        tensors: list[Tensor] = []
        start = 0
        for index, (kind, shapes) in enumerate(layers):
            for name, shape in shapes.items():
                of_layer = modes[index] if modes else ()
                own = {"w": of_layer, "b": of_layer[:1]}.get(name, ())
                tensors.append(Tensor(index, kind, name, tuple(shape), start, own))
                start = tensors[-1].stop
        return cls(tuple(tensors))

    @classmethod
    def of_vector(cls, n_coordinates: int, kind: str = "fully_connected") -> Layout:
        """Lay out a plain vector of parameters as one tensor: for loss functions that are no network."""
        return cls((Tensor(0, kind, "w", (n_coordinates,), 0),))

    @property
    def n_coordinates(self) -> int:
        """P, the number of parameters."""
        return self.tensors[-1].stop if self.tensors else 0

    @cached_property
    def layers(self) -> dict[int, tuple[str, slice]]:
        """Kind and coordinates of every layer that has parameters, by its index in the network."""
        found: dict[int, tuple[str, slice]] = {}
        for t in self.tensors:
            start = found[t.layer][1].start if t.layer in found else t.start
            found[t.layer] = (t.kind, slice(start, t.stop))
        return found

    @cached_property
    def weights(self) -> dict[int, int]:
        """For each layer with parameters the index of its tensor "w" (or the first, where it has none)."""
        found: dict[int, int] = {}
        for index, tensor in enumerate(self.tensors):
            if tensor.name == "w" or tensor.layer not in found:
                found[tensor.layer] = index
        return found

    @cached_property
    def weights_of_tensors(self) -> tuple[int, ...]:
        """For each tensor the index of its layer's `weights`."""
        return tuple(self.weights[tensor.layer] for tensor in self.tensors)

    @cached_property
    def fan_ins(self) -> tuple[int, ...]:
        """For each tensor the inputs of one of its layer's outputs; 0 where its weights are no matrix."""
        weights = [self.tensors[index].shape for index in self.weights_of_tensors]
        return tuple(prod(shape[1:]) if len(shape) > 1 else 0 for shape in weights)

    def check(self, **vectors: Array | None) -> None:
        """Raise `InputError` unless the named vectors, None left out, are (P,) and of one dtype."""
        there = {name: v for name, v in vectors.items() if v is not None}
        for name, v in there.items():
            if v.shape != (self.n_coordinates,):
                raise InputError(f"{name} must be a vector of {self.n_coordinates} parameters, not {v.shape}")
        if len(kinds := {v.dtype: name for name, v in there.items()}) > 1:
            (one, name), (other, second), *_ = kinds.items()
            raise InputError(f"{name} and {second} must be of one dtype, not {one} and {other}")

    def split(self, theta: Array) -> dict[int, Params]:
        """Return the tensors of each layer with parameters as views into ``theta`` (P,)."""
        params: dict[int, Params] = {}
        for t in self.tensors:
            params.setdefault(t.layer, {})[t.name] = theta[t.coordinates].reshape(t.shape)
        return params

    def join(self, params: Mapping[int, Mapping[str, Array]]) -> Array:
        """Copy the tensors of all layers into one new vector (P,); the inverse of `split`."""
        parts = [params[t.layer][t.name] for t in self.tensors]
        joined: Array = twin(joins, parts[0]).join(parts)
        return joined


def add_params(total: Mapping[str, Array], part: Mapping[str, Array]) -> Params:
    """Return the sum of two sets of tensors; a missing name stands for zero."""
    summed = {name: total[name] + part[name] for name in total if name in part}
    return {**total, **part, **summed}
