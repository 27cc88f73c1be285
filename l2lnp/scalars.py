"""Numbers of a step: floats on the host, or arrays () on a device.

What changes from step to step, such as the loss, the count of steps and what the schedule says, is
a number like any other for the equations. Where a whole step is replayed on a GPU
(`l2lnp.runs.captured`) it stays there, as an array () in float64.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from l2lnp.backend import Array, array_module

Scalar: TypeAlias = Any  # float, int, or an array ()

LARGEST = 2**63 - 1  # whole number that arrays and files hold


def _function(name: str) -> Any:
    on_host = getattr(math, name)

    def call(x: Scalar) -> Scalar:
        return on_host(x) if isinstance(x, int | float) else getattr(array_module(x), name)(x)

    call.__name__, call.__doc__ = name, f"Return {name}(x)."
    return call


cos, exp, log = map(_function, ("cos", "exp", "log"))


def sign(x: Scalar) -> Scalar:
    """Return -1, 0 or 1."""
    return (x > 0) - (x < 0) if isinstance(x, int | float) else array_module(x).sign(x)


def scalar(x: Array) -> Scalar:
    """Return an array () as a number: on a device it stays one, in float64, that nothing waits for."""
    return float(x) if array_module(x) is np else x.astype(np.float64)


def least(x: Scalar, bound: float) -> Scalar:
    """Return the lesser of ``x`` and ``bound``."""
    return min(x, bound) if isinstance(x, int | float) else array_module(x).minimum(x, bound)


def like(x: Scalar, a: Array) -> Scalar:
    """Return ``x`` as a factor that leaves the dtype of ``a`` as it is."""
    return x if isinstance(x, int | float) else x.astype(a.dtype, copy=False)
