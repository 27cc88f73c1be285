"""Windows that slide over images: all of stride and padding."""

from __future__ import annotations

from dataclasses import dataclass

from l2lnp.errors import InputError
from l2lnp.layers.base import Shape

Pair = tuple[int, int]


def as_pair(value: int | Pair) -> Pair:
    """Return (rows, columns) of a size given as one number for both or as a pair."""
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns


@dataclass(frozen=True)
class Window:
    """Size, stride and padding of a window that slides over (rows, columns).

    ``padding`` is a number or pair of pixels added on both sides of each axis, ``"valid"`` (none),
    or ``"same"``: as many as give ceil(pixels / stride) outputs, the odd one at the end.
    """

    size: Pair
    stride: Pair
    padding: Pair | str

    @property
    def overlaps(self) -> bool:
        """Whether two positions of the window can share a pixel."""
        return self.size[0] > self.stride[0] or self.size[1] > self.stride[1]

    def tiles(self, image: Pair) -> bool:
        """Whether every pixel of ``image`` lies in one position of the window, and there is no padding."""
        return (
            self.size == self.stride
            and self.pads(image) == ((0, 0), (0, 0))
            and not any(pixels % size for pixels, size in zip(image, self.size, strict=True))
        )

    def pads(self, image: Pair) -> tuple[Pair, Pair]:
        """Return the pixels added (before, after) the rows and the columns of ``image``."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if self.padding == "same":
            totals = [
                max((-(-pixels // stride) - 1) * stride + size - pixels, 0)
                for pixels, size, stride in zip(image, self.size, self.stride, strict=True)
            ]
            return (totals[0] // 2, (totals[0] + 1) // 2), (totals[1] // 2, (totals[1] + 1) // 2)
        assert not isinstance(self.padding, str)
        rows, columns = self.padding
        return (rows, rows), (columns, columns)

    def output(self, image: Pair) -> Pair:
        """Return the number of positions (R, C) of the window over an ``image`` of (H, W) pixels."""
        r, c = (
            (pixels + sum(pads) - size) // stride + 1
            for pixels, pads, size, stride in zip(
                image, self.pads(image), self.size, self.stride, strict=True
            )
        )
        return r, c

    def output_shape(self, layer: str, input_shape: Shape) -> Shape:
        """Return (K, R, C) for an input of (K, H, W); ``layer`` names the layer in errors."""
        if len(input_shape) != 3:
            raise InputError(f"{layer}: takes images (channels, rows, columns), not {input_shape}")
        r, c = self.output((input_shape[1], input_shape[2]))
        if r < 1 or c < 1:
            size = " x ".join(map(str, self.size))
            rows, columns = input_shape[1:]
            raise InputError(f"{layer}: its window of {size} does not fit an image of {rows} x {columns}")
        return input_shape[0], r, c


def make_window(layer: str, size: int | Pair, stride: int | Pair, padding: int | Pair | str) -> Window:
    """Check the sizes of ``layer`` and return its `Window`."""
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise InputError(f"{layer}: padding must be 'same', 'valid' or pixels, not '{padding}'")
    pixels = 0 if isinstance(padding, str) else padding
    for name, value in (("size", size), ("stride", stride), ("padding", pixels)):
        numbers = value if isinstance(value, tuple | list) else (value, value)
        if len(numbers) != 2 or not all(type(n) is int for n in numbers):
            raise InputError(f"{layer}: {name} must be a whole number or two of them, not {value!r}")
    pads = padding if isinstance(padding, str) else as_pair(padding)
    window = Window(as_pair(size), as_pair(stride), pads)
    if min(*window.size, *window.stride) < 1 or (not isinstance(pads, str) and min(pads) < 0):
        raise InputError(
            f"{layer}: size and stride must be at least 1 and padding at least 0, "
            f"not size {size}, stride {stride}, padding {padding}"
        )
    return window
