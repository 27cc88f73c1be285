"""`l2lnp.kernels.products` in CUDA kernels: the products that cuBLAS would do, but that CuPy cannot capture.

A CUDA graph of a training step cannot hold cuBLAS, so products up to `MOST_FLOPS` have a kernel of
our own. Larger ones go to cuBLAS: beside them no launch is worth saving, and a step with one in it is
not captured (`l2lnp.runs.captured`). Sizes alone decide, so captured or not, the bytes are the same.
"""

from __future__ import annotations

from math import prod

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, reductions

MOST_FLOPS = 1 << 30
_DEPTH = 16  # as in products.cu
_LEAST_PART = 64  # of the axis that is summed over
_BLOCKS = 256  # that keep a device busy


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``, written to ``out`` if given; a (..., O, K), b (..., K, M)."""
    xp = array_module(a, b)
    is_stack = min(a.ndim, b.ndim) >= 2 and max(a.ndim, b.ndim) <= 3
    if not (is_stack and a.dtype == b.dtype and a.dtype.kind == "f" and a.size * b.size):
        return xp.matmul(a, b, out=out)
    (o, k), m = a.shape[-2:], b.shape[-1]
    stack = next((x.shape[:1] for x in (a, b) if x.ndim == 3), ())
    n_products = prod(stack)
    if 2 * n_products * o * k * m > MOST_FLOPS:
        return xp.matmul(a, b, out=out)
    out = xp.empty((*stack, o, m), a.dtype) if out is None else out
    check(a.dtype, b=(b, (*stack, k, m)[-b.ndim :]), out=(out, (*stack, o, m)))
    if m > 1 and out.strides[-1] != out.itemsize:  # a block writes numbers that lie side by side
        out[...] = matmul(a, b)
        return out
    rows, columns = tile(o, m)
    tiles = blocks(o, rows) * blocks(m, columns)
    n_parts = max(1, min(blocks(k, _LEAST_PART), _BLOCKS // (tiles * n_products)))
    part = blocks(blocks(k, n_parts), _DEPTH) * _DEPTH
    n_parts = blocks(k, part)
    target = out if n_parts == 1 else xp.empty((n_parts * n_products, o, m), a.dtype)
    launch(
        kernel(xp, "products.cu", "matrix_product", a.dtype, ROWS=rows, COLUMNS=columns),
        tiles * n_parts * n_products,
        rows * columns // 16,
        *(a, *_strides(a), b, *_strides(b), target, *_strides(target)[:2]),
        *map(np.int32, (o, k, m, part, n_parts)),
    )
    if n_parts > 1:
        whole = out if out.flags.c_contiguous else xp.empty(out.shape, a.dtype)
        reductions.sum_of_parts(target.reshape(n_parts, -1), whole)
        if whole is not out:
            out[...] = whole
    return out


def tile(o: int, m: int) -> tuple[int, int]:
    """Return the rows and columns of a product (o, m) that one block computes: few rows, more columns."""
    if o <= 16:
        return 16, 128 if m > 64 else 64
    return (64, 64) if o > 32 else (32, 64)


def _strides(a: Array) -> tuple[int, ...]:
    """Return the strides (product, row, column) of ``a`` in elements; those of axes of length 1 are 1.

    Where there is one product for all of a stack, its stride is 0.
    """
    found = tuple(1 if n == 1 else s // a.itemsize for n, s in zip(a.shape, a.strides, strict=True))
    return (0, *found) if a.ndim == 2 else found
