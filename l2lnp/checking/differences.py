"""Derivatives by differences, and the errors between two ways to the same number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l2lnp.backend import Array
from l2lnp.layers.base import Shape

FIRST_RTOL, FIRST_ATOL = 1e-6, 1e-7
SECOND_RTOL, SECOND_ATOL = 1e-5, 1e-6


def slope(f: Callable[[Array], Any], v: Array, d: Array, step: float = 1e-5) -> float:
    """Central difference of scalar ``f`` at ``v`` along ``d``; error O(step^2)."""
    return float((f(v + step * d) - f(v - step * d)) / (2 * step))


def second_slope(f: Callable[[Array], Any], v: Array, d: Array, step: float = 1e-3) -> float:
    """Second central difference of scalar ``f`` at ``v`` along ``d``; error O(step^2)."""
    return float((f(v + step * d) - 2 * f(v) + f(v - step * d)) / step**2)


def distinct_values(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Evenly spaced values between -1 and 1 in random order, none of them 0.

    For layers with kinks: no small step moves a value past another or past 0.
    """
    n = int(np.prod(shape))
    spaced = (2 * np.arange(n) + 1 - n) / n + (0.3 / n if n % 2 else 0.0)
    return rng.permutation(spaced).reshape(shape)


def separable(g_y: Array, h_y: Array, y0: Array) -> Callable[[Array], Array]:
    """Return a loss whose gradient at ``y0`` is ``g_y`` and whose Hessian is exactly diag(``h_y``)."""
    return lambda y: (g_y * y).sum() + 0.5 * (h_y * (y - y0) ** 2).sum()


def relative_error(value: float, reference: float, rtol: float, atol: float) -> float:
    """|value - reference| / (|reference| + atol / rtol)."""
    return abs(value - reference) / (abs(reference) + atol / rtol)


def largest_error(a: Array, b: Array) -> float:
    """max |a - b| / max |b|, 0 for empty or equal arrays."""
    if a.size == 0:
        return 0.0
    difference = float(abs(a - b).max())
    return difference / max(float(abs(b).max()), 1e-30) if difference else 0.0
