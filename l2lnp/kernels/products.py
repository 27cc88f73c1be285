"""The one matrix product of the library."""

from __future__ import annotations

from l2lnp.backend import Array, array_module


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``, written to ``out`` if given; a (..., O, K), b (..., K, M)."""
    return array_module(a, b).matmul(a, b, out=out)
