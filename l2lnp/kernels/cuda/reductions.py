"""`l2lnp.kernels.reductions` in CUDA kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate
from types import ModuleType

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import MOST_ARRAYS, arrays_of, blocks, check, kernel, launch

_THREADS = 256  # as in reductions.cu
_MOST_PARTS = 64  # into which a tensor or a row is cut
_OF_PART = 4096  # numbers of a part, where there are not more


def row_sums(v: Array) -> Array:
    """Return the sums (rows,) over the columns of v (rows, n)."""
    xp, (rows, n) = array_module(v), v.shape
    of_part = max(_OF_PART, blocks(n, _MOST_PARTS))
    n_parts = max(1, blocks(n, of_part))
    sums = xp.empty((n_parts, rows), v.dtype)
    function, strides = _kernel(xp, "row_sums", v.dtype), (s // v.itemsize for s in v.strides)
    launch(function, rows * n_parts, _THREADS, v, *strides, sums, n, of_part, np.int32(n_parts))
    return sums[0] if n_parts == 1 else sum_of_parts(sums, xp.empty(rows, v.dtype))


def sum_of_parts(parts: Array, out: Array) -> Array:
    """Return the sum over the first axis of ``parts`` (n_parts, ...), written to ``out`` (...)."""
    function = _kernel(array_module(parts), "sum_of_parts", parts.dtype)
    launch(function, blocks(out.size, 32), _THREADS, parts, out, np.int32(len(parts)), out.size)
    return out


def means(x: Array, sizes: Sequence[int]) -> Array:
    """Return the mean of x (n,) over each tensor, of ``sizes``, summed in float64; of x's dtype."""
    xp, n = array_module(x), len(sizes)
    x = xp.ascontiguousarray(x)
    check(x.dtype, x=(x, (sum(sizes),)))
    n_parts = min(_MOST_PARTS, blocks(max(sizes), _OF_PART))
    begins, parts, found = starts(xp, tuple(sizes)), xp.empty((n, n_parts), np.float64), xp.empty(n, x.dtype)
    sums, divide = (_kernel(xp, f"tensor_{name}", x.dtype) for name in ("sums", "means"))
    launch(sums, n * n_parts, _THREADS, x, begins, parts, np.int32(n_parts))
    launch(divide, blocks(n, _THREADS), _THREADS, parts, begins, found, np.int32(n), np.int32(n_parts))
    return found


def mark_not_finite(values: Iterable[Array], flag: Array) -> None:
    """Set ``flag`` (1,) of int32 to 1 if any of ``values`` holds a number that is not finite."""
    xp = array_module(flag)
    check(np.int32, flag=(flag, (1,)))
    of_dtypes: dict[np.dtype, list[Array]] = {}
    for v in values:
        of_dtypes.setdefault(v.dtype, []).append(xp.ascontiguousarray(v))
    for dtype, arrays in of_dtypes.items():
        for first in range(0, len(arrays), MOST_ARRAYS):
            some = arrays[first : first + MOST_ARRAYS]
            n = sum(a.size for a in some)
            if n:
                launch(
                    _kernel(xp, "mark_not_finite", dtype),
                    blocks(n, _THREADS),
                    _THREADS,
                    arrays_of(some),
                    n,
                    flag,
                )


def _kernel(xp: ModuleType, name: str, dtype: np.dtype) -> Callable[..., None]:
    return kernel(xp, "reductions.cu", name, dtype, ARRAYS=MOST_ARRAYS)


@cache
def starts(xp: ModuleType, sizes: tuple[int, ...]) -> Array:
    """Return where each tensor starts, and the last one ends, on the device; moved there once."""
    return xp.asarray(np.array([0, *accumulate(sizes)]))
