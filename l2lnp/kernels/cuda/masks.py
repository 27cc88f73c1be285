"""`l2lnp.kernels.masks` in a CUDA kernel."""

from __future__ import annotations

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch

_THREADS = 256


def where_positive(x: Array, v: Array, out: Array) -> Array:
    """Return v times 1 where x > 0, times 0 elsewhere, written to ``out``; all of one form."""
    xp = array_module(x, v, out)
    x, v = xp.ascontiguousarray(x), xp.ascontiguousarray(v)
    check(v.dtype, x=(x, v.shape), out=(out, v.shape))
    function = kernel(xp, "masks.cu", "where_positive", v.dtype)
    launch(function, blocks(v.size, _THREADS), _THREADS, x, v, out, v.size)
    return out
