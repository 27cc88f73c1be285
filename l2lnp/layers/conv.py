"""Convolution: every pass is `affine`'s, over the patches of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from l2lnp import initializers
from l2lnp.backend import Array, array_module, to_backend
from l2lnp.errors import InputError, check_positive
from l2lnp.kernels import convolution, twin
from l2lnp.kernels.convolution import Patches
from l2lnp.layers import affine
from l2lnp.layers.base import FRESH, Layer, Shape
from l2lnp.layers.window import Pair, Window, make_window
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution y = W * x + b (no flip); x (K, H, W, N), y (O, R, C, N), W (O, K I J), b (O,).

    Notes
    -----
    ``pooled`` is set by the network before a max pooling whose windows (A, B) tile the positions:
    y is then (O, A, B, R / A, C / B, N), an image for each pixel of the pooling's window.

    ``curvature`` drops the products between two output positions that share a weight, and
    between two output channels.
    """

    n_in: int
    n_out: int
    size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair | str = 0
    pooled: Pair = (1, 1)

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

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Patches]:
        patches = self._patches(x, space)
        return self._image(affine.forward(params, patches, space), patches), patches

    def backward(
        self, params: Params, cache: Any, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
    ) -> tuple[Array, Params]:
        return affine.backward(params, cache, self._columns(g_y), space, wants_x)

    def curvature(
        self,
        params: Params,
        cache: Any,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        return affine.curvature(params, cache, self._columns(h_y), space, wants_x)

    def backward_adjoint(
        self, params: Params, cache: Any, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array, Array, Params]:
        of_a_g_x = None if a_g_x is None else self._patches(a_g_x)
        a_g_y, a_x, a_params = affine.backward_adjoint(params, cache, self._columns(g_y), of_a_g_x, a_g)
        return self._image(a_g_y, cache), a_x, a_params

    def curvature_adjoint(
        self, params: Params, cache: Any, g_y: Array | None, h_y: Array, a_h_x: Array | None, a_h: Params
    ) -> tuple[Array, Array | None, Array, Params]:
        of_a_h_x = None if a_h_x is None else self._patches(a_h_x)
        a_h_y, a_x, a_params = affine.curvature_adjoint(params, cache, self._columns(h_y), of_a_h_x, a_h)
        return self._image(a_h_y, cache), None, a_x, a_params

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
        x = cache.as_view().reshape(self.fan_in, -1, n)
        return affine.squared_gradients(x, g_y.reshape(self.n_out, -1, n), signs, modes, axes)

    def modes(self, input_shape: Shape) -> Shape:
        return self.n_out, self.fan_in

    def moments(
        self, params: Params, cache: Any, g_y: Array, n_total: int, modes: Shape, widest: int
    ) -> dict[int, Array]:
        """Of many positions only some are looked at (`looked_at`); in M_0 they stand for all."""
        rows, columns = self.window.output(cache.image_shape[1:3])
        seen = looked_at(rows, columns, max(LEAST_POSITIONS, -(-COLUMNS_PER_ROW * self.fan_in // n_total)))
        seen = to_backend(array_module(g_y), seen)
        x, g_y = cache.at(seen), cache.values_at(seen, self._columns(g_y))
        factors = affine.moments(x, g_y, n_total, len(seen), modes, widest)
        return {**factors, 0: factors[0] * (rows * columns / len(seen))}

    def _patches(self, x: Array, space: Fresh = FRESH) -> Patches:
        found: Patches = twin(convolution, x).Patches.of(x, self.window, self.pooled, space)
        return found

    def _columns(self, v_y: Array) -> Array:
        return v_y.reshape(self.n_out, -1)  # (O, R, C, N) -> (O, R C N)

    def _image(self, v_y: Array, patches: Patches) -> Array:
        positions = patches.positions if self.pooled != (1, 1) else patches.positions[2:]
        return v_y.reshape(self.n_out, *positions, -1)  # (O, R C N) -> (O, R, C, N)


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
