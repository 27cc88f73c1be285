"""Windows that slide over images: patches (im2col) and their adjoint, and max pooling.

``window`` is an `l2lnp.layers.patches.Window`; images are (K, H, W, N).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from l2lnp.backend import Array, array_module
from l2lnp.kernels.products import matmul
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.patches import Pair, Window

_CACHED = 600_000  # numbers that are still in cache when they are read just after they were written


def pad(x: Array, window: Window, space: Fresh, fill: float = 0.0) -> Array:
    """Return ``x`` (K, H, W, N) with the window's padding around it, filled with ``fill``."""
    if window.pads(x.shape[1:3]) == ((0, 0), (0, 0)):
        return x
    padded, image = blank(x.shape, window, x, space, "padded", fill)
    image[...] = x
    return padded


def taps(padded: Array, window: Window, positions: Pair) -> Iterator[tuple[int, int, Array]]:
    """Yield i, j and the view (K, R, C, N) of the pixels that tap (i, j) of the window meets."""
    (s_r, s_c), (r, c) = window.stride, positions
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            yield i, j, padded[:, i : i + s_r * (r - 1) + 1 : s_r, j : j + s_c * (c - 1) + 1 : s_c]


def blank(
    shape: tuple[int, ...], window: Window, like: Array, space: Fresh, key: str, fill: float | None = 0.0
) -> tuple[Array, Array]:
    """Return a padded image of ``shape`` (K, H, W, N) and the view without its padding.

    ``fill`` is what it is full of; None leaves what the memory held.
    """
    k, h, w, n = shape
    (top, bottom), (left, right) = window.pads((h, w))
    padded = space.empty(key, (k, top + h + bottom, left + w + right, n), like)
    if fill is not None:
        padded.fill(fill)
    return padded, padded[:, top : top + h, left : left + w]


def patches(x: Array, window: Window, space: Fresh) -> Array:
    """Copy every window of ``x`` (K, H, W, N) into a column: (K, I, J, R, C, N)."""
    r, c = window.output(x.shape[1:3])
    padded = pad(x, window, space)
    s_k, s_h, s_w, s_n = padded.strides
    shape = (x.shape[0], *window.size, r, c, x.shape[3])
    view = array_module(x).lib.stride_tricks.as_strided(
        padded, shape, (s_k, s_h, s_w, s_h * window.stride[0], s_w * window.stride[1], s_n)
    )
    columns = space.empty("columns", shape, x)
    columns[...] = view
    return columns


def unpatch(columns: Array, image: Pair, window: Window, space: Fresh, key: str) -> Array:
    """Add every column (K, I, J, R, C, N) to its pixels (K, H, W, N): the adjoint of `patches`."""
    k, *_, n = columns.shape
    padded, pixels_of_image = blank((k, *image, n), window, columns, space, key)
    _add_columns(padded, columns, window)
    return pixels_of_image


def unpatch_product(
    w: Array, v_y: Array, shape: tuple[int, ...], image: Pair, window: Window, space: Fresh, key: str
) -> Array:
    """Return `unpatch` of the columns w^T v_y, which have the ``shape`` (K, I, J, R, C, N); w (O, K I J).

    A few channels at a time: their columns are added up while they are in cache.
    """
    k, i, j, r, c, n = shape
    padded, pixels_of_image = blank((k, *image, n), window, v_y, space, key)
    step = max(1, min(k, _CACHED // (i * j * r * c * n)))
    for start in range(0, k, step):
        w_part = w[:, start * i * j : (start + step) * i * j]
        columns = space.empty("v_columns", (w_part.shape[1], r * c * n), v_y)
        matmul(w_part.T, v_y, out=columns)
        _add_columns(padded[start : start + step], columns.reshape(-1, i, j, r, c, n), window)
    return pixels_of_image


def _add_columns(padded: Array, columns: Array, window: Window) -> None:
    for i, j, pixels in taps(padded, window, columns.shape[3:5]):
        pixels += columns[:, i, j]


def max_pool(x: Array, window: Window, space: Fresh) -> tuple[Array, list[Array]]:
    """Return the maxima y (K, R, C, N), and who won: one mask in the form of y per tap."""
    xp = array_module(x)
    padded = pad(x, window, space, fill=-xp.inf)
    shape = (x.shape[0], *window.output(x.shape[1:3]), x.shape[3])
    y = space.empty("y", shape, x)
    for tap, (_, _, pixels) in enumerate(taps(padded, window, shape[1:3])):
        xp.maximum(y if tap else pixels, pixels, out=y)
    won, still_free = [], xp.ones(shape, bool)
    for _, _, pixels in taps(padded, window, shape[1:3]):
        won.append((pixels == y) & still_free)
        still_free &= ~won[-1]
    return y, won


def max_gather(won: list[Array], v_x: Array, window: Window, space: Fresh) -> Array:
    """Return v_x (K, H, W, N) at the pixels that won, (K, R, C, N)."""
    padded = pad(v_x, window, space)
    every_tap = taps(padded, window, won[0].shape[1:3])
    return sum(pixels * mine for (_, _, pixels), mine in zip(every_tap, won, strict=True))


def max_scatter(won: list[Array], v_y: Array, image: Pair, window: Window, space: Fresh, key: str) -> Array:
    """Return for each pixel (K, H, W, N) the sum of v_y (K, R, C, N) over the windows that it won."""
    shape = (v_y.shape[0], *image, v_y.shape[3])
    fill = None if window.tiles(image) else 0.0
    padded, pixels_of_image = blank(shape, window, v_y, space, key, fill)
    for (_, _, pixels), mine in zip(taps(padded, window, v_y.shape[1:3]), won, strict=True):
        if window.overlaps:
            pixels += v_y * mine
        else:
            array_module(v_y).multiply(v_y, mine, out=pixels)
    return pixels_of_image
