"""Layers that only route: a linear map of x with equal weights, fixed or chosen by the forward pass.

With y_j = weight * (sum of the x_i routed to j), every pass is one of two maps, `scatter`
(from y to x) and its adjoint `gather` (from x to y)::

    g_x = weight   scatter(g_y)        a_g_y = weight   gather(a_g_x)
    h_x = weight^2 scatter(h_y)        a_h_y = weight^2 gather(a_h_x)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l2lnp.backend import Array
from l2lnp.errors import InputError
from l2lnp.layers.base import FRESH, Layer, Shape
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


@dataclass(frozen=True)
class Routing(Layer):
    """Base of flatten, rows and pooling."""

    @property
    def weight(self) -> float:
        """The weight of each routed input in its output."""
        return 1.0

    def gather(self, cache: Any, v_x: Array) -> Array:
        """Return for each output the sum of ``v_x`` over the inputs routed to it."""
        raise NotImplementedError

    def scatter(self, cache: Any, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        """Return for each input the sum of ``v_y`` over the outputs it is routed to."""
        raise NotImplementedError

    def backward(
        self, params: Params, cache: Any, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
    ) -> tuple[Array, Params]:
        return _scaled(self.weight, self.scatter(cache, g_y, space, "g_x")), {}

    def curvature(
        self,
        params: Params,
        cache: Any,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        return _scaled(self.weight**2, self.scatter(cache, h_y, space, "h_x")), {}

    def backward_adjoint(
        self, params: Params, cache: Any, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array | None, None, Params]:
        return None if a_g_x is None else _scaled(self.weight, self.gather(cache, a_g_x)), None, {}

    def curvature_adjoint(
        self, params: Params, cache: Any, g_y: Array | None, h_y: Array, a_h_x: Array | None, a_h: Params
    ) -> tuple[Array | None, None, None, Params]:
        a_h_y = None if a_h_x is None else _scaled(self.weight**2, self.gather(cache, a_h_x))
        return a_h_y, None, None, {}


def _scaled(weight: float, v: Array) -> Array:
    return v if weight == 1.0 else weight * v


@dataclass(frozen=True)
class Flatten(Routing):
    """Every sample as one column of features: (K, H, W, N) -> (K H W, N)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        n = 1
        for size in input_shape:
            n *= size
        return (n,)

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Shape]:
        return x.reshape(-1, x.shape[-1]), x.shape

    def gather(self, cache: Shape, v_x: Array) -> Array:
        return v_x.reshape(-1, v_x.shape[-1])

    def scatter(self, cache: Shape, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        return v_y.reshape(cache)


@dataclass(frozen=True)
class Rows(Routing):
    """An image as the sequence of its rows, top to bottom: (K, H, W, N) -> (K W features, H steps, N)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise InputError(f"rows layer: takes images (channels, rows, columns), not {input_shape}")
        k, h, w = input_shape
        return (k * w, h)

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Shape]:
        return self.gather(x.shape, x), x.shape

    def gather(self, cache: Shape, v_x: Array) -> Array:
        k, h, w, n = cache
        return v_x.transpose(0, 2, 1, 3).reshape(k * w, h, n)

    def scatter(self, cache: Shape, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        k, h, w, n = cache
        return v_y.reshape(k, w, h, n).transpose(0, 2, 1, 3)
