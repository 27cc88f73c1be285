"""Tensors as one vector."""

from __future__ import annotations

from collections.abc import Sequence

from l2lnp.backend import Array


def join(parts: Sequence[Array], joined: Array) -> None:
    """Copy ``parts`` into ``joined`` (n,), one after the other."""
    start = 0
    for part in parts:
        joined[start : start + part.size] = part.reshape(-1)
        start += part.size
