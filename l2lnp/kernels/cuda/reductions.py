"""`l2lnp.kernels.reductions` in CUDA kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from types import ModuleType

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch

_THREADS = 256  # as in reductions.cu
_MOST_PARTS = 64  # into which a tensor is cut
_OF_PART = 4096  # coordinates, where there are not more


def row_sums(v: Array) -> Array:
    """Return the sums (rows,) over the columns of v (rows, n)."""
    xp = array_module(v)
    sums = xp.empty(v.shape[0], v.dtype)
    function = kernel(xp, "reductions.cu", "row_sums", v.dtype)
    launch(function, v.shape[0], _THREADS, v, *(s // v.itemsize for s in v.strides), sums, v.shape[1])
    return sums


def means(x: Array, sizes: Sequence[int]) -> Array:
    """Return the mean of x (n,) over each tensor, of ``sizes``, summed in float64; of x's dtype."""
    xp, n = array_module(x), len(sizes)
    x = xp.ascontiguousarray(x)
    check(x.dtype, x=(x, (sum(sizes),)))
    n_parts = min(_MOST_PARTS, blocks(max(sizes), _OF_PART))
    begins, parts, found = starts(xp, tuple(sizes)), xp.empty((n, n_parts), np.float64), xp.empty(n, x.dtype)
    sums, divide = (kernel(xp, "reductions.cu", f"tensor_{name}", x.dtype) for name in ("sums", "means"))
    launch(sums, n * n_parts, _THREADS, x, begins, parts, np.int32(n_parts))
    launch(divide, blocks(n, _THREADS), _THREADS, parts, begins, found, np.int32(n), np.int32(n_parts))
    return found


def mark_not_finite(values: Iterable[Array], flag: Array) -> None:
    """Set ``flag`` (1,) of int32 to 1 if any of ``values`` holds a number that is not finite."""
    xp = array_module(flag)
    check(np.int32, flag=(flag, (1,)))
    for v in values:
        v = xp.ascontiguousarray(v)
        function = kernel(xp, "reductions.cu", "mark_not_finite", v.dtype)
        launch(function, blocks(v.size, _THREADS), _THREADS, v, v.size, flag)


@cache
def starts(xp: ModuleType, sizes: tuple[int, ...]) -> Array:
    """Return where each tensor starts, and the last one ends, on the device; moved there once."""
    return xp.asarray(np.array([0, *accumulate(sizes)]))
