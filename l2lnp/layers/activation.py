"""Elementwise activations y = f(x): every pass in terms of f', f'' and f'''.

g_x = f' g_y                       a_g_y = f' a_g_x,   a_x = f'' g_y a_g_x
h_x = f'^2 h_y + f'' g_y           a_h_y = f'^2 a_h_x, a_g_y = f'' a_h_x,
                                   a_x = (2 f' f'' h_y + f''' g_y) a_h_x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from l2lnp.backend import Array, array_module
from l2lnp.errors import unknown_name
from l2lnp.kernels import masks, twin
from l2lnp.layers.base import FRESH, Layer, Shape
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


class Function(NamedTuple):
    """f and its derivatives as functions of x and y = f(x); no second and third where they are zero.

    ``value`` takes x and an array of its form that it may write y to.
    """

    value: Callable[[Array, Array], Array]
    first: Callable[[Array, Array], Array]
    second: Callable[[Array, Array], Array] | None = None
    third: Callable[[Array, Array], Array] | None = None
    is_monotone: bool = False  # max(f(x)) = f(max(x)): it may change places with a max pooling
    is_rectifier: bool = False  # f' is 1 where x > 0, else 0, and so is its square


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by tanh so that no exponential overflows."""
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


def _positive(x: Array) -> Array:
    return (x > 0).astype(x.dtype)


def _exp_below(x: Array) -> Array:
    """exp(x) where x <= 0, else 0: the second and third derivative of elu."""
    return array_module(x).exp(array_module(x).minimum(x, 0)) * (x <= 0)


def _leaky_relu(slope: float) -> Function:
    return Function(
        lambda x, out: array_module(x).where(x > 0, x, slope * x),
        lambda x, y: slope + (1 - slope) * _positive(x),
        is_monotone=True,
    )


FUNCTIONS: dict[str, Function] = {
    "identity": Function(lambda x, out: x, lambda x, y: array_module(x).ones_like(x), is_monotone=True),
    "relu": Function(
        lambda x, out: array_module(x).maximum(x, 0, out=out),
        lambda x, y: x > 0,  # 0 or 1, as truth values
        is_monotone=True,
        is_rectifier=True,
    ),
    "leaky_relu": _leaky_relu(0.01),
    "tanh": Function(
        lambda x, out: array_module(x).tanh(x, out=out),
        lambda x, y: 1 - y * y,
        lambda x, y: -2 * y * (1 - y * y),
        lambda x, y: (6 * y * y - 2) * (1 - y * y),
        is_monotone=True,
    ),
    "sigmoid": Function(
        lambda x, out: sigmoid(x),
        lambda x, y: y * (1 - y),
        lambda x, y: y * (1 - y) * (1 - 2 * y),
        lambda x, y: y * (1 - y) * (1 - 6 * y + 6 * y * y),
        is_monotone=True,
    ),
    "softplus": Function(
        lambda x, out: array_module(x).logaddexp(x, 0).astype(x.dtype),
        lambda x, y: sigmoid(x),
        lambda x, y: sigmoid(x) * sigmoid(-x),
        lambda x, y: sigmoid(x) * sigmoid(-x) * (1 - 2 * sigmoid(x)),
        is_monotone=True,
    ),
    "elu": Function(
        lambda x, out: array_module(x).where(x > 0, x, array_module(x).expm1(array_module(x).minimum(x, 0))),
        lambda x, y: _positive(x) + _exp_below(x),
        lambda x, y: _exp_below(x),
        lambda x, y: _exp_below(x),
        is_monotone=True,
    ),
}


class ActivationCache(NamedTuple):
    """The input and the output."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Activation(Layer):
    """y = f(x) for each element; ``name`` is a key of `FUNCTIONS`.

    Notes
    -----
    ``curvature`` is exact: no products between units arise. relu and leaky relu are not
    differentiable at 0, where the derivative from below is taken (0 for relu).
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise unknown_name("activation", self.name, FUNCTIONS)

    @cached_property
    def function(self) -> Function:
        """f and its derivatives."""
        return FUNCTIONS[self.name]

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, ActivationCache]:
        y = self.function.value(x, space.empty("y", x.shape, x))
        return y, ActivationCache(x, y)

    def backward(
        self,
        params: Params,
        cache: ActivationCache,
        g_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        out = space.empty("g_x", g_y.shape, g_y)
        if self.function.is_rectifier:
            return twin(masks, g_y).where_positive(cache.x, g_y, out), {}
        first = self.function.first(*cache)
        return array_module(g_y).multiply(first, g_y, out=out), {}

    def curvature(
        self,
        params: Params,
        cache: ActivationCache,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        out = space.empty("h_x", h_y.shape, h_y)
        if self.function.is_rectifier:
            return twin(masks, h_y).where_positive(cache.x, h_y, out), {}
        first = self.function.first(*cache)
        h_x = array_module(h_y).multiply(first * first, h_y, out=out)
        if self.function.second is not None and g_y is not None:
            h_x += self.function.second(*cache) * g_y
        return h_x, {}

    def backward_adjoint(
        self, params: Params, cache: ActivationCache, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array | None, Array | None, Params]:
        if a_g_x is None:
            return None, None, {}
        a_g_y = self.function.first(*cache) * a_g_x
        if self.function.second is None:
            return a_g_y, None, {}
        return a_g_y, self.function.second(*cache) * g_y * a_g_x, {}

    def curvature_adjoint(
        self,
        params: Params,
        cache: ActivationCache,
        g_y: Array | None,
        h_y: Array,
        a_h_x: Array | None,
        a_h: Params,
    ) -> tuple[Array | None, Array | None, Array | None, Params]:
        if a_h_x is None:
            return None, None, None, {}
        first = self.function.first(*cache)
        a_h_y = first * first * a_h_x
        if self.function.second is None or self.function.third is None:
            return a_h_y, None, None, {}
        second = self.function.second(*cache)
        a_x = 2 * first * second * h_y * a_h_x
        if g_y is None:
            return a_h_y, None, a_x, {}
        a_x += self.function.third(*cache) * g_y * a_h_x
        return a_h_y, second * a_h_x, a_x, {}
