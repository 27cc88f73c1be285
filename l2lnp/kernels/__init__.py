"""The few hot loops: on NumPy here, and for CuPy's arrays in `l2lnp.kernels.cuda`, under the same names.

A module of this package works on NumPy and on CuPy arrays alike; its twin does the same in
CUDA kernels. ``L2LNP_CUDA_KERNELS=0`` in the environment leaves the twins aside, so that the
two can be compared on a GPU.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Any

from l2lnp.backend import Array, array_module


def twin(module: ModuleType, like: Array) -> Any:
    """Return ``module``, of this package or another, or its twin in CUDA: whichever ``like`` is for."""
    if array_module(like).__name__ != "cupy" or os.environ.get("L2LNP_CUDA_KERNELS") == "0":
        return module
    return import_module(f"l2lnp.kernels.cuda.{module.__name__.rpartition('.')[2]}")
