"""Choose NumPy or CuPy by looking at the arrays; never by a global switch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from l2lnp.errors import InputError, unknown_name

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray

LIBRARIES = {"numpy", "cupy", "array_api_strict"}  # the last one has the standard alone, for tests
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
    if len(owners) == 1 and owners <= LIBRARIES:
        return sys.modules[owners.pop()]  # an array of it exists, so it is imported
    raise TypeError(f"expected arrays of one library, numpy or cupy; got {sorted(owners)}")


def to_host(a: Array) -> np.ndarray:
    """Copy ``a`` to host memory: the one place where a device array becomes NumPy."""
    return np.asarray(a) if isinstance(a, np.ndarray | np.generic) else a.get()


def to_backend(xp: ModuleType, a: np.ndarray) -> Array:
    """Move the host array ``a`` to the library ``xp``; the inverse of `to_host`."""
    return a if xp is np else xp.asarray(a)


@cache
def moved_once(xp: ModuleType, numbers: tuple[float, ...], dtype: Any = np.int64) -> Array:
    """Return ``numbers`` as an array (n,) of ``xp``; on a device the same one at every call."""
    return xp.asarray(np.array(numbers, dtype))


def tree_to_host(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Copy all arrays of ``tree`` to host memory; whole numbers among them stay what they are."""
    return {key: value if isinstance(value, int) else to_host(value) for key, value in tree.items()}


def tree_to_backend(xp: ModuleType, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Move all arrays of ``tree`` to the library ``xp``; the inverse of `tree_to_host`."""
    return {key: value if isinstance(value, int) else to_backend(xp, value) for key, value in tree.items()}


def why_auto(xp: ModuleType) -> str:
    """Return, for the user, why "auto" chose ``xp``."""
    if xp is not np:
        runtime, device = xp.cuda.runtime, xp.cuda.Device().id
        return f"CuPy {xp.__version__} sees the GPU {runtime.getDeviceProperties(device)['name'].decode()}"
    try:
        _load_cupy()
    except InputError as error:
        return str(error).partition(", or use --backend")[0]
    raise AssertionError("auto takes a GPU where there is one")


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
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _unusable(f"cannot load CuPy ({error})", "install it anew") from None
        raise _unusable(
            "needs CuPy, which is not installed", "install 'l2lnp[cuda12-ctk]' or 'l2lnp[cuda13-ctk]'"
        ) from None
    except ImportError as error:
        first_line = str(error).strip().partition("\n")[0]
        raise _unusable(f"cannot load CuPy ({first_line})", "install it anew") from None
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own type, which exists only where CuPy does
        raise _unusable(*_why_no_device(cupy, error)) from None
    if n_devices == 0:
        raise _unusable("found no GPU", "check the driver and CUDA_VISIBLE_DEVICES")
    return cupy


def _why_no_device(cupy: ModuleType, error: Exception) -> tuple[str, str]:
    """Return what is wrong and the way out, from the CUDA versions of the driver and of CuPy."""
    runtime = cupy.cuda.runtime
    driver, built_for = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
    if driver == 0:
        return "found no NVIDIA driver", "install one that supports CUDA 12 or later"
    if driver < built_for:
        way_out = f"install 'l2lnp[cuda{driver}-ctk]' in place of it, or a newer driver"
        return f"has a CuPy for CUDA {built_for}, but the driver supports CUDA {driver}", way_out
    return f"found no usable GPU ({error})", "check the driver"


def _unusable(what: str, way_out: str) -> InputError:
    return InputError(f"the cupy backend {what}: {way_out}, or use --backend numpy")
