"""Sums over rows and over tensors, and the search for numbers that are not finite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from l2lnp.backend import Array, array_module


def row_sums(v: Array) -> Array:
    """Return the sums (rows,) over the columns of v (rows, n)."""
    return v.sum(1)


def means(x: Array, sizes: Sequence[int]) -> Array:
    """Return the mean of x (n,) over each tensor, of ``sizes``, summed in float64; of x's dtype."""
    found, start = array_module(x).empty(len(sizes), x.dtype), 0
    for index, size in enumerate(sizes):
        found[index] = x[start : start + size].sum(dtype=np.float64) / size
        start += size
    return found


def mark_not_finite(values: Iterable[Array], flag: Array) -> None:
    """Set ``flag`` (1,), of whole numbers, to 1 if any of ``values`` holds a number that is not finite."""
    xp = array_module(flag)
    for v in values:
        flag[...] = xp.maximum(flag, (~xp.isfinite(v)).any())
