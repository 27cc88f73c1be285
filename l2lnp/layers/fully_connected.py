"""Fully connected layer: affine over the features of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar

import numpy as np

from l2lnp import initializers
from l2lnp.backend import Array
from l2lnp.errors import InputError, check_positive
from l2lnp.layers import affine
from l2lnp.layers.base import FRESH, Layer, Shape, n_features
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


@dataclass(frozen=True)
class FullyConnected(Layer):
    """y = W x + b; x (K, N), W (O, K), b (O,).

    Notes
    -----
    ``curvature`` drops the products between two outputs of the layer.
    """

    n_in: int
    n_out: int

    kind: ClassVar[str] = "fully_connected"

    def __post_init__(self) -> None:
        check_positive("fully connected layer", n_in=self.n_in, n_out=self.n_out)

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (self.n_in,):
            raise InputError(
                f"fully connected layer: takes ({self.n_in},) features, not {input_shape}"
                + ("; put a flatten layer before it" if len(input_shape) > 1 else "")
            )
        return (self.n_out,)

    def param_shapes(self) -> dict[str, Shape]:
        return {"w": (self.n_out, self.n_in), "b": (self.n_out,)}

    def init_params(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"w": initializers.he_normal(rng, (self.n_out, self.n_in)), "b": np.zeros(self.n_out)}

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Any]:
        return affine.forward(params, x, space), x

    def backward(
        self, params: Params, cache: Any, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
    ) -> tuple[Array, Params]:
        return affine.backward(params, cache, g_y, space, wants_x)

    def curvature(
        self,
        params: Params,
        cache: Any,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        return affine.curvature(params, cache, h_y, space, wants_x)

    def backward_adjoint(
        self, params: Params, cache: Any, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array, Array, Params]:
        return affine.backward_adjoint(params, cache, g_y, a_g_x, a_g)

    def curvature_adjoint(
        self, params: Params, cache: Any, g_y: Array | None, h_y: Array, a_h_x: Array | None, a_h: Params
    ) -> tuple[Array, Array | None, Array, Params]:
        a_h_y, a_x, a_params = affine.curvature_adjoint(params, cache, h_y, a_h_x, a_h)
        return a_h_y, None, a_x, a_params

    def squared_gradients(
        self,
        params: Params,
        cache: Any,
        g_y: Array,
        signs: Array,
        modes: Shape = (),
        axes: Mapping[int, Array] | None = None,
    ) -> Params:
        return affine.squared_gradients(cache[:, None, :], g_y[:, None, :], signs, modes, axes)

    def modes(self, input_shape: Shape) -> Shape:
        return self.n_out, *cut_in_two(input_shape)

    def moments(
        self, params: Params, cache: Any, g_y: Array, n_total: int, modes: Shape, widest: int
    ) -> dict[int, Array]:
        return affine.moments(cache, g_y, n_total, 1, modes, widest)


_FEW_CHANNELS = 64  # pixels of a picture for each channel, from which on rows go with the channels
_FAR_APART = 8  # ratio of two factors


def cut_in_two(input_shape: Shape) -> Shape:
    """Return how the inputs of a fully connected layer are cut into modes.

    Pictures (K, H, W) are cut into (K, H W), or (K H, W) where there are few channels; plain features
    into the two factors nearest to each other, unless they are far apart, as those of a prime number are.
    """
    n = n_features(input_shape)
    if len(input_shape) == 3 and n // input_shape[0] > 1:
        k, h, w = input_shape
        return (k, h * w) if h * w < _FEW_CHANNELS * k else (k * h, w)
    less = max(d for d in range(1, isqrt(n) + 1) if n % d == 0)
    return (less, n // less) if less > 1 and n // less < _FAR_APART * less else (n,)
