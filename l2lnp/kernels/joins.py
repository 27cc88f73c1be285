"""Tensors as one vector."""

from __future__ import annotations

from collections.abc import Sequence

from l2lnp.backend import Array, array_module


def join(parts: Sequence[Array]) -> Array:
    """Return the numbers of ``parts``, one after the other, as a new vector (n,)."""
    joined = array_module(*parts).empty(sum(part.size for part in parts), parts[0].dtype)
    start = 0
    for part in parts:
        joined[start : start + part.size] = part.reshape(-1)
        start += part.size
    return joined
