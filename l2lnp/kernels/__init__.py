"""The few hot loops: on NumPy here, and for CuPy's arrays in `l2lnp.kernels.cuda`, under the same names.

A module of this package works on NumPy and on CuPy arrays alike; its twin does the same in
CUDA kernels. ``L2LNP_CUDA_KERNELS=0`` in the environment leaves the twins aside, so that the
two can be compared on a GPU. Where Numba is installed, the LSTM is compiled for NumPy's arrays too
(`l2lnp.kernels.compiled`); ``L2LNP_NUMBA=0`` leaves that aside.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module


def twin(module: ModuleType, like: Array) -> Any:
    """Return ``module``, of this package or another, or its twin in CUDA: whichever ``like`` is for."""
    if array_module(like).__name__ != "cupy" or os.environ.get("L2LNP_CUDA_KERNELS") == "0":
        return module
    return import_module(f"l2lnp.kernels.cuda.{module.__name__.rpartition('.')[2]}")


def compiled_for(like: Array) -> Any:
    """Return `l2lnp.kernels.compiled` where it is for arrays like ``like``, float32 on the CPU; else None."""
    is_for = type(like) is np.ndarray and like.dtype == np.float32 and os.environ.get("L2LNP_NUMBA") != "0"
    return _loops() if is_for else None


def numba_version() -> str | None:
    """Return the version of the Numba that `compiled_for` makes use of, or None."""
    loops = compiled_for(np.empty(0, np.float32))
    return None if loops is None else str(loops.numba.__version__)


@cache
def _loops() -> ModuleType | None:
    try:
        return import_module("l2lnp.kernels.compiled")
    except ImportError:  # no Numba, or none for this version of NumPy
        return None
