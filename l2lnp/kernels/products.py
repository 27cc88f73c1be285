"""Matrix products, in blocks that OpenBLAS multiplies without packing.

OpenBLAS packs its operands into panels before it multiplies, except for small products
(up to about 10^6 multiply-adds), for which it has a kernel that reads them in place. The
thin products of this library, with a few tens of rows and tens of thousands of columns,
spend most of their time packing; cut into small ones they run up to three times as fast
(``docs/performance.md``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import twin

SMALL_PRODUCT = 1_000_000  # multiply-adds up to which OpenBLAS does not pack
_LEAST_COLUMNS = 128  # shorter blocks lose more by being many than they gain
_LEAST_INNER = 512


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``, written to ``out`` if given; a (..., O, K), b (..., K, M)."""
    xp = array_module(a, b)
    here = sys.modules[__name__]
    if xp is not np and (kernels := twin(here, a)) is not here:
        return kernels.matmul(a, b, out)
    if xp is not np or a.ndim != 2 or b.ndim != 2:
        return xp.matmul(a, b, out=out)
    (o, k), m = a.shape, b.shape[1]
    if m >= k:
        block = block_length(m, o * k, _LEAST_COLUMNS)
        return np.matmul(a, b, out=out) if block == m else _by_columns(a, b, out, block)
    product = _by_inner(a, b, block_length(k, o * m, _LEAST_INNER))
    if out is None:
        return product
    out[...] = product
    return out


def outer(v: Array, x: Array) -> Array:
    """Return v x^T (O, K), a sum over columns; v (O, M), x (K, M)."""
    # a sum is faster with the smaller side on the right: (x v^T)^T
    return matmul(v, x.T) if len(v) > len(x) else matmul(x, v.T).T


def along_modes(v: Array, modes: Sequence[int], axes: Mapping[int, Array], n_before: int = 1) -> Array:
    """Return (Q_0^T x Q_1^T x ...) v, of v's shape; Q_k is ``axes[k]``, or the identity where there is none.

    The elements of v are counted by (n_before, m_0, m_1, .., the others), with m_k the sizes in ``modes``.
    """
    shape, before = v.shape, n_before
    for k, width in enumerate(modes):
        if k in axes:
            after = v.size // (before * width)
            if after == 1:
                v = matmul(v.reshape(before, width), axes[k])
            else:
                v = matmul(axes[k].T, v.reshape((before, width, after) if before > 1 else (width, after)))
        before *= width
    return v.reshape(shape)


def _by_columns(a: Array, b: Array, out: Array | None, block: int) -> Array:
    """Cut the columns of b: each block of the result is a small product."""
    (o, k), m = a.shape, b.shape[1]
    if out is None:
        out = np.empty((o, m), np.result_type(a, b))
    blocks = out.reshape(o, -1, block).transpose(1, 0, 2)  # views, nothing is copied
    np.matmul(a, b.reshape(k, -1, block).transpose(1, 0, 2), out=blocks)
    return out


def _by_inner(a: Array, b: Array, block: int) -> Array:
    """Cut the axis that is summed over: the result is a sum of small products."""
    (o, k), m = a.shape, b.shape[1]
    if block == k:
        return np.matmul(a, b)
    return np.matmul(a.reshape(o, -1, block).transpose(1, 0, 2), b.reshape(-1, block, m)).sum(0)


@lru_cache
def block_length(length: int, area: int, least: int) -> int:
    """Return the largest divisor of ``length`` that makes a small product, if it is at least ``least``."""
    if length * area <= SMALL_PRODUCT:
        return length
    for block in range(SMALL_PRODUCT // area, least - 1, -1):
        if length % block == 0:
            return block
    return length
