"""Convolution as an affine map over patches: every pass is `affine`'s, between `patches` and `unpatch`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from l2lnp import initializers
from l2lnp.backend import Array, array_module, to_backend
from l2lnp.errors import InputError
from l2lnp.layers import affine
from l2lnp.layers.base import FRESH, Layer, Shape, check_positive
from l2lnp.layers.patches import Pair, Window, make_window, patches, unpatch, unpatch_product
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


class ConvCache(NamedTuple):
    """The patches as columns (K I J, R C N), their full shape, and the image's rows and columns."""

    columns: Array
    windows_shape: Shape  # (K, I, J, R, C, N)
    image: Pair


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution y = W * x + b (no flip); x (K, H, W, N), y (O, R, C, N), W (O, K I J), b (O,).

    Notes
    -----
    ``curvature`` drops the products between two output positions that share a weight, and
    between two output channels.
    """

    n_in: int
    n_out: int
    size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair | str = 0

    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        check_positive("conv layer", n_in=self.n_in, n_out=self.n_out)
        assert self.window

    @cached_property
    def window(self) -> Window:
        """The window that slides over the image."""
        return make_window("conv layer", self.size, self.stride, self.padding)

    @property
    def fan_in(self) -> int:
        """K I J, the inputs of one output."""
        return self.n_in * self.window.size[0] * self.window.size[1]

    def output_shape(self, input_shape: Shape) -> Shape:
        _, r, c = self.window.output_shape("conv layer", input_shape)
        if input_shape[0] != self.n_in:
            raise InputError(f"conv layer: takes {self.n_in} channels, not {input_shape[0]}")
        return self.n_out, r, c

    def param_shapes(self) -> dict[str, Shape]:
        return {"w": (self.n_out, self.fan_in), "b": (self.n_out,)}

    def init_params(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"w": initializers.he_normal(rng, (self.n_out, self.fan_in)), "b": np.zeros(self.n_out)}

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, ConvCache]:
        windows = patches(x, self.window, space)  # (K, I, J, R, C, N)
        columns = windows.reshape(self.fan_in, -1)  # (K I J, R C N)
        y = affine.forward(params, columns, space)
        return y.reshape(self.n_out, *windows.shape[3:]), ConvCache(columns, windows.shape, x.shape[1:3])

    def backward(
        self, params: Params, cache: Any, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
    ) -> tuple[Array, Params]:
        g_y = self._rows(g_y)
        _, g = affine.backward(params, cache.columns, g_y, space, wants_x=False)
        return self._v_x(params["w"], cache, g_y, space, "g_image") if wants_x else None, g

    def curvature(
        self,
        params: Params,
        cache: Any,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        h_y, w = self._rows(h_y), params["w"]
        # squaring commutes with taking patches: patches(x^2) = patches(x)^2
        _, h = affine.curvature(params, cache.columns, h_y, space, wants_x=False)
        return self._v_x(w * w, cache, h_y, space, "h_image") if wants_x else None, h

    def backward_adjoint(
        self, params: Params, cache: Any, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array, Array, Params]:
        a_g_y, a_columns, a_params = affine.backward_adjoint(
            params, cache.columns, self._rows(g_y), self._columns(a_g_x), a_g
        )
        return a_g_y.reshape(g_y.shape), self._unpatch(cache, a_columns), a_params

    def curvature_adjoint(
        self, params: Params, cache: Any, g_y: Array | None, h_y: Array, a_h_x: Array | None, a_h: Params
    ) -> tuple[Array, Array | None, Array, Params]:
        a_h_y, a_columns, a_params = affine.curvature_adjoint(
            params, cache.columns, self._rows(h_y), self._columns(a_h_x), a_h
        )
        return a_h_y.reshape(h_y.shape), None, self._unpatch(cache, a_columns), a_params

    def squared_gradients(
        self,
        params: Params,
        cache: Any,
        g_y: Array,
        signs: Array,
        modes: Shape = (),
        axes: Mapping[int, Array] | None = None,
    ) -> Params:
        n = g_y.shape[-1]
        x = cache.columns.reshape(self.fan_in, -1, n)
        return affine.squared_gradients(x, g_y.reshape(self.n_out, -1, n), signs, modes, axes)

    def modes(self, input_shape: Shape) -> Shape:
        return self.n_out, self.fan_in

    def moments(
        self, params: Params, cache: Any, g_y: Array, n_total: int, modes: Shape, widest: int
    ) -> dict[int, Array]:
        """Of many positions only some are looked at (`looked_at`); in M_0 they stand for all."""
        rows, columns, n = g_y.shape[1:]
        seen = looked_at(rows, columns, max(LEAST_POSITIONS, -(-COLUMNS_PER_ROW * self.fan_in // n_total)))
        x, g_y = _at(seen, cache.columns, n), _at(seen, g_y, n)
        factors = affine.moments(x, g_y, n_total, len(seen), modes, widest)
        return {**factors, 0: factors[0] * (rows * columns / len(seen))}

    def _rows(self, v_y: Array) -> Array:
        return v_y.reshape(self.n_out, -1)  # (O, R, C, N) -> (O, R C N)

    def _columns(self, v_x: Array | None) -> Array | None:
        return None if v_x is None else patches(v_x, self.window).reshape(self.fan_in, -1)

    def _v_x(self, w: Array, cache: ConvCache, v_y: Array, space: Fresh, key: str) -> Array:
        """v_x = unpatch(W^T v_y)."""
        return unpatch_product(w, v_y, cache.windows_shape, cache.image, self.window, space, key)

    def _unpatch(self, cache: ConvCache, v_columns: Array | None) -> Array | None:
        if v_columns is None:
            return None
        return unpatch(v_columns.reshape(cache.windows_shape), cache.image, self.window)


LEAST_POSITIONS = 16  # of each picture that go into the moments; and as many more
COLUMNS_PER_ROW = 4  # as give so many columns of patches for each of their rows


@lru_cache
def looked_at(rows: int, columns: int, n: int) -> np.ndarray:
    """Return about ``n`` of the positions 0 .. rows columns - 1, or all where there are no more.

    One is drawn, once and for all, from each of n equal runs of them: any grid might fall in with that
    of a pooling, whose gradients are at one place of each window.
    """
    n_positions = rows * columns
    if n_positions <= n:
        return np.arange(n_positions)
    drawn = np.arange(n) + np.random.default_rng(0).random(n)
    return np.unique((drawn * n_positions / n).astype(int))


def _at(positions: np.ndarray, v: Array, n_samples: int) -> Array:
    """Return the columns of ``v`` (rows, R C N) at ``positions``."""
    xp = array_module(v)
    v = v.reshape(v.shape[0], -1, n_samples)
    return v.take(to_backend(xp, positions), axis=1).reshape(v.shape[0], -1)
