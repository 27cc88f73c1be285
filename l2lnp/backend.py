"""Choose NumPy or CuPy by looking at the arrays; never by a global switch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from l2lnp.errors import InputError, unknown_name

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray

BACKENDS = ("numpy", "cupy", "auto")


def array_module(*arrays: Array) -> ModuleType:
    """Return the library (``numpy`` or ``cupy``) that owns every one of ``arrays``.

    Raises
    ------
    TypeError
        If the arrays belong to different libraries, or to neither. Data is
        never moved between host and device behind the caller's back.
    """
    if len(arrays) == 1 and type(arrays[0]) is np.ndarray:
        return np  # the common case, and asked for all the time
    owners = {type(a).__module__.partition(".")[0] for a in arrays}
    if owners == {"numpy"}:
        return np
    if owners == {"cupy"}:
        return sys.modules["cupy"]  # an array of it exists, so it is imported
    raise TypeError(f"expected arrays of one library, numpy or cupy; got {sorted(owners)}")


def to_host(a: Array) -> np.ndarray:
    """Copy ``a`` to host memory: the one place where a device array becomes NumPy."""
    return a if isinstance(a, np.ndarray) else a.get()


def to_backend(xp: ModuleType, a: np.ndarray) -> Array:
    """Move the host array ``a`` to the library ``xp``; the inverse of `to_host`."""
    return a if xp is np else xp.asarray(a)


def load_backend(name: str) -> ModuleType:
    """Return the array library called ``name``: ``"numpy"``, ``"cupy"``, or ``"auto"``.

    ``"auto"`` is CuPy where it is installed and sees a GPU, else NumPy; the
    caller tells the user which. ``"cupy"`` is never replaced by NumPy.

    Raises
    ------
    InputError
        If the name is unknown, or ``"cupy"`` is asked for and cannot run.
    """
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "numpy":
        return np
    try:
        return _load_cupy()
    except InputError:
        if name == "auto":
            return np
        raise


def _load_cupy() -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise InputError(
            "the cupy backend needs CuPy, which is not installed: "
            "install 'l2lnp[cuda12-ctk]' or 'l2lnp[cuda13-ctk]', or use --backend numpy"
        ) from None
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own type, which exists only where CuPy does
        raise InputError(
            f"the cupy backend found no usable GPU ({error}): check the driver, or use --backend numpy"
        ) from None
    if n_devices == 0:
        raise InputError("the cupy backend found no GPU: check the driver, or use --backend numpy")
    return cupy
