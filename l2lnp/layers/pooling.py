"""Max and average pooling, over windows that may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.layers.base import FRESH, Shape
from l2lnp.layers.patches import Pair, Window, blank, make_window, pad, taps
from l2lnp.layers.routing import Routing
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
    """Which tap won in each window, one mask in the form of y per tap, and the image's rows and columns."""

    won: list[Array]
    image: Pair


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """y = max over each window; of equal maxima the first in row-major order wins. Pads with -inf.

    Notes
    -----
    Not differentiable where two pixels of a window are equal; the winner's derivative is taken.
    """

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, MaxPoolCache]:
        xp = array_module(x)
        image = x.shape[1:3]
        padded = pad(x, self.window, fill=-xp.inf, space=space)
        shape = (x.shape[0], *self.window.output(image), x.shape[3])
        y = space.empty("y", shape, x)
        for tap, (_, _, pixels) in enumerate(taps(padded, self.window, shape[1:3])):
            xp.maximum(y if tap else pixels, pixels, out=y)
        won, still_free = [], xp.ones(shape, bool)
        for _, _, pixels in taps(padded, self.window, shape[1:3]):
            won.append((pixels == y) & still_free)
            still_free &= ~won[-1]
        return y, MaxPoolCache(won, image)

    def gather(self, cache: MaxPoolCache, v_x: Array) -> Array:
        padded = pad(v_x, self.window)
        positions = cache.won[0].shape[1:3]
        every_tap = taps(padded, self.window, positions)
        return sum(pixels * won for (_, _, pixels), won in zip(every_tap, cache.won, strict=True))

    def scatter(self, cache: MaxPoolCache, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        shape = (v_y.shape[0], *cache.image, v_y.shape[3])
        fill = None if self.window.tiles(cache.image) else 0.0
        padded, image = blank(shape, self.window, v_y, space, key, fill)
        every_tap = taps(padded, self.window, v_y.shape[1:3])
        for (_, _, pixels), won in zip(every_tap, cache.won, strict=True):
            if self.window.overlaps:
                pixels += v_y * won
            else:
                array_module(v_y).multiply(v_y, won, out=pixels)
        return image


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
        padded = pad(v_x, self.window)
        positions = self.window.output(cache)
        return sum(pixels for _, _, pixels in taps(padded, self.window, positions))

    def scatter(self, cache: Pair, v_y: Array, space: Fresh = FRESH, key: str = "v_x") -> Array:
        padded, image = blank((v_y.shape[0], *cache, v_y.shape[3]), self.window, v_y, space, key)
        for _, _, pixels in taps(padded, self.window, v_y.shape[1:3]):
            pixels += v_y
        return image
