"""Max and average pooling, over windows that may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from l2lnp.backend import Array
from l2lnp.errors import InputError
from l2lnp.kernels import twin, windows
from l2lnp.kernels.windows import blank, pad, taps
from l2lnp.layers.base import FRESH, Shape
from l2lnp.layers.routing import Routing
from l2lnp.layers.window import Pair, Window, make_window
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


@dataclass(frozen=True)
class _Pool2D(Routing):
    size: int | Pair
    stride: int | Pair | None = None  # None: as the size, windows side by side
    padding: int | Pair | str = 0

    def __post_init__(self) -> None:
        for pixels, size in zip(self.window.padding, self.window.size, strict=False):
            if isinstance(pixels, int) and pixels >= size:
                raise InputError(
                    f"pooling layer: padding {self.padding} must be smaller than the window {self.size}"
                )

    @cached_property
    def window(self) -> Window:
        """The window that slides over the image."""
        stride = self.size if self.stride is None else self.stride
        return make_window("pooling layer", self.size, stride, self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.window.output_shape("pooling layer", input_shape)


class MaxPoolCache(NamedTuple):
    """Which tap won in each window, as `l2lnp.kernels` has it, and the shape of x."""

    won: Any
    shape: tuple[int, ...]


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """y = max over each window; of equal maxima the first in row-major order wins. Pads with -inf.

    Notes
    -----
    Not differentiable where two pixels of a window are equal; the winner's derivative is taken.
    x may also come by tap, (K, A, B, R, C, N), from a convolution that is ``pooled``.
    """

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, MaxPoolCache]:
        y, won = twin(windows, x).max_pool(x, self.window, space)
        return y, MaxPoolCache(won, x.shape)

    def gather(self, cache: MaxPoolCache, v_x: Array) -> Array:
        return twin(windows, v_x).max_gather(cache.won, v_x, self.window, FRESH)

    def scatter(self, cache: MaxPoolCache, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        return twin(windows, v_y).max_scatter(cache.won, v_y, cache.shape, self.window, space, key)


@dataclass(frozen=True)
class AvgPool2D(_Pool2D):
    """y = mean over each window, its padding counted as zeros."""

    @property
    def weight(self) -> float:
        """1 / (I J): g is carried by it and h by its square."""
        return 1.0 / (self.window.size[0] * self.window.size[1])

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Pair]:
        return self.weight * self.gather(x.shape[1:3], x), x.shape[1:3]

    def gather(self, cache: Pair, v_x: Array) -> Array:
        padded = pad(v_x, self.window, FRESH)
        positions = self.window.output(cache)
        return sum(pixels for _, _, pixels in taps(padded, self.window, positions))

    def scatter(self, cache: Pair, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        padded, image = blank((v_y.shape[0], *cache, v_y.shape[3]), self.window, v_y, space, key)
        for _, _, pixels in taps(padded, self.window, v_y.shape[1:3]):
            pixels += v_y
        return image
