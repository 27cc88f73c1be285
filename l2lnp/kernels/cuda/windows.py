"""`l2lnp.kernels.windows` in CUDA kernels; who won is one array of taps instead of a 0 or 1 for each tap."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, vector_for
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.window import Window

_MOST_TAPS = 1 << 16  # that an unsigned short can number
_MOST_UNSIGNED = 1 << 32
_THREADS = 256


def patches(x: Array, window: Window, space: Fresh) -> Array:
    """Copy every window of ``x`` (K, H, W, N) into a column: (K, I, J, R, C, N)."""
    x = array_module(x).ascontiguousarray(x)
    k, h, w, n = x.shape
    r, c = window.output((h, w))
    columns = space.empty("columns", (k, *window.size, r, c, n), x)
    _launch("patches", k * window.size[0] * window.size[1] * r, c * n, (x, columns), x.shape, window)
    return columns


def max_pool(x: Array, window: Window, space: Fresh) -> tuple[Array, Array]:
    """Return the maxima y (K, R, C, N), and the tap that won, in the form of y."""
    if window.size[0] * window.size[1] > _MOST_TAPS:
        raise ValueError(f"a window of {window.size} has more than {_MOST_TAPS} taps")
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    k, h, w, n = x.shape
    r, c = window.output((h, w))
    y, won = space.empty("y", (k, r, c, n), x), xp.empty((k, r, c, n), np.uint16)
    if _is_tiled(x.shape, window):
        _launch_tiled("max_pool_tiles", (x, y, won), y.shape, window)
        return y, won
    _launch("max_pool", k * r, c * n, (x, y, won), x.shape, window)
    return y, won


def max_gather(won: Array, v_x: Array, window: Window, space: Fresh) -> Array:
    """Return v_x (K, H, W, N) at the pixels that won, (K, R, C, N)."""
    xp = array_module(won, v_x)
    v_x = xp.ascontiguousarray(v_x)
    k, r, c, n = won.shape
    check(v_x.dtype, v_x=(v_x, (k, *v_x.shape[1:3], n)))
    v_y = xp.empty(won.shape, v_x.dtype)
    _launch("max_gather", k * r, c * n, (v_x, won, v_y), v_x.shape, window)
    return v_y


def max_scatter(
    won: Array, v_y: Array, shape: tuple[int, ...], window: Window, space: Fresh, key: str
) -> Array:
    """Return for each pixel the sum of v_y (K, R, C, N) over the windows that it won, (K, H, W, N)."""
    v_y = array_module(won, v_y).ascontiguousarray(v_y)
    k, h, w, n = shape
    check(v_y.dtype, v_y=(v_y, won.shape))
    v_x = space.empty(key, shape, v_y)
    if _is_tiled(shape, window):
        _launch_tiled("max_scatter_tiles", (v_y, won, v_x), won.shape, window)
        return v_x
    _launch("max_scatter", k * h, w * n, (v_y, won, v_x), v_x.shape, window)
    return v_x


def _launch(
    name: str, n_rows: int, n_of_row: int, arrays: tuple[Array, ...], shape: tuple[int, ...], window: Window
) -> None:
    """Launch a kernel with a block for each of the rows it writes; ``shape`` is the image's."""
    k, h, w, n = shape
    (top, _), (left, _) = window.pads((h, w))
    geometry = (k, h, w, n, *window.output((h, w)), *window.size, *window.stride, top, left)
    threads = min(_THREADS, -(-n_of_row // 32) * 32)
    function = kernel(array_module(*arrays), "windows.cu", name, arrays[0].dtype)
    launch(function, n_rows, threads, *arrays, *map(np.int32, geometry))


def _is_tiled(shape: tuple[int, ...], window: Window) -> bool:
    """Return whether windows lie side by side over an image of ``shape``, in 32-bit numbers."""
    return window.tiles((shape[1], shape[2])) and prod(shape) < _MOST_UNSIGNED


def _launch_tiled(name: str, arrays: tuple[Array, ...], shape: tuple[int, ...], window: Window) -> None:
    """Launch a kernel with a thread for each vector of ``shape`` (K, R, C, N)."""
    reals = [a for a in arrays if a.dtype.kind == "f"]
    vector = vector_for(shape[3], *reals)
    function = kernel(array_module(*arrays), "tiled_windows.cu", name, reals[0].dtype, VECTOR=vector)
    n = prod(shape) // vector
    sizes = shape[3] // vector, shape[2], *window.size
    launch(function, blocks(n, _THREADS), _THREADS, *arrays, *map(np.int32, sizes), np.uint32(n))
