"""Windows that slide over images: the adjoint of their patches (col2im), and max pooling.

``window`` is an `l2lnp.layers.window.Window`; images are (K, H, W, N).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from l2lnp.backend import Array, array_module
from l2lnp.kernels.products import matmul
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.window import Pair, Window

_CACHED = 600_000  # numbers that are still in cache when they are read just after they were written


def pad(x: Array, window: Window, space: Fresh, fill: float = 0.0) -> Array:
    """Return ``x`` (K, H, W, N) with the window's padding around it, filled with ``fill``."""
    if window.pads(x.shape[1:3]) == ((0, 0), (0, 0)):
        return x
    padded, image = blank(x.shape, window, x, space, "padded", fill)
    image[...] = x
    return padded


def taps(padded: Array, window: Window, positions: Pair) -> Iterator[tuple[int, int, Array]]:
    """Yield i, j and the view (K, R, C, N) of the pixels that tap (i, j) of the window meets.

    An image (K, I, J, R, C, N) comes by tap already, see `l2lnp.kernels.convolution`.
    """
    if padded.ndim == 6:
        yield from ((i, j, padded[:, i, j]) for i, j in product(*map(range, padded.shape[1:3])))
        return
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


def unpatch_product(
    w: Array, v_y: Array, shape: tuple[int, ...], image: Pair, window: Window, space: Fresh, key: str
) -> Array:
    """Add every column w^T v_y, of ``shape`` (K, I, J, R, C, N), to its pixels (K, H, W, N); w (O, K I J).

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


def max_pool(x: Array, window: Window, space: Fresh) -> tuple[Array, Array]:
    """Return the maxima y (K, R, C, N), and who won: 1 at its tap, 0 at others, (K, taps, R, C, N).

    ``x`` is (K, H, W, N), or by tap (K, I, J, R, C, N).
    """
    xp, (k, *_, n), by_tap = array_module(x), x.shape, x.ndim == 6
    positions = x.shape[3:5] if by_tap else window.output(x.shape[1:3])
    padded = x if by_tap else pad(x, window, space, -xp.inf)
    images = [pixels for _, _, pixels in taps(padded, window, positions)]
    y = space.empty("y", (k, *positions, n), x)
    xp.maximum(images[0], images[-1], out=y)
    for pixels in images[1:-1]:
        xp.maximum(y, pixels, out=y)
    is_there = space.empty("is there", (k, len(images), *y.shape[1:]), xp.empty(0, bool))
    for tap, pixels in enumerate(images):
        xp.equal(pixels, y, out=is_there[:, tap])
    is_taken = is_there[:, 0].copy()
    for tap in range(1, len(images)):  # of equal ones the first
        xp.greater(is_there[:, tap], is_taken, out=is_there[:, tap])
        is_taken |= is_there[:, tap]
    won = space.empty("won", is_there.shape, x)
    won[...] = is_there
    return y, won


def max_gather(won: Array, v_x: Array, window: Window, space: Fresh) -> Array:
    """Return v_x at the pixels that won, (K, R, C, N)."""
    padded = v_x if v_x.ndim == 6 else pad(v_x, window, space)
    every_tap = taps(padded, window, won.shape[2:4])
    return sum(pixels * won[:, tap] for tap, (_, _, pixels) in enumerate(every_tap))


def max_scatter(
    won: Array, v_y: Array, shape: tuple[int, ...], window: Window, space: Fresh, key: str
) -> Array:
    """Return for each pixel the sum of v_y (K, R, C, N) over the windows that it won, in ``shape``."""
    xp = array_module(v_y)
    if len(shape) == 6:
        v_x = space.empty(key, shape, v_y)
        xp.multiply(won, v_y[:, None], out=v_x.reshape(won.shape))
        return v_x
    padded, v_x = blank(shape, window, v_y, space, key, None if window.tiles((shape[1], shape[2])) else 0.0)
    for tap, (_, _, pixels) in enumerate(taps(padded, window, v_y.shape[1:3])):
        if window.overlaps:
            pixels += v_y * won[:, tap]
        else:
            xp.multiply(v_y, won[:, tap], out=pixels)
    return v_x
