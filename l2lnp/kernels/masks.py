"""What a rectifier lets through."""

from __future__ import annotations

from l2lnp.backend import Array, array_module


def where_positive(x: Array, v: Array, out: Array) -> Array:
    """Return v times 1 where x > 0, times 0 elsewhere, written to ``out``; all of one form."""
    return array_module(x, v).multiply(x > 0, v, out=out)
