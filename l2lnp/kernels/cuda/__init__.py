"""CUDA kernels, each the twin of a function in `l2lnp.kernels`; compiled when they are first used.

The sources beside this file go through NVRTC, CuPy's run-time compiler; CuPy keeps what it
compiled in ``~/.cupy/kernel_cache``. A kernel writes every number from one thread and adds in
a fixed order, so two runs give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import Array
from l2lnp.scalars import Scalar

MOST_ARRAYS = 8  # that a kernel is given in one argument
_VECTOR_BYTES = 16  # that a thread reads at once
_REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def source(file: str) -> str:
    """Return the text of ``file`` beside this one, with what it includes in place."""
    text = (Path(__file__).parent / file).read_text()
    return re.sub(r'^#include "(\S+)"$', lambda found: source(found[1]), text, flags=re.MULTILINE)


def program(file: str, defines: Iterable[tuple[str, int | str]]) -> str:
    """Return the source of ``file`` below its ``defines``: lines of text, for options may hold no commas."""
    return "".join(f"#define {name} {value}\n" for name, value in defines) + source(file)


@cache
def _module(xp: ModuleType, file: str, real: str, defines: tuple[tuple[str, int | str], ...]) -> Any:
    return xp.RawModule(code=program(file, defines), options=("-std=c++17", f"-DREAL={real}"))


def kernel(xp: ModuleType, file: str, name: str, dtype: Any, **defines: int | str) -> Callable[..., None]:
    """Return the kernel called ``name`` in ``file``, compiled for ``dtype`` and the ``defines``.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    """
    if np.dtype(dtype) not in _REALS:
        raise TypeError(f"CUDA kernels work on float32 and float64, not {np.dtype(dtype)}")
    module = _module(xp, file, _REALS[np.dtype(dtype)], tuple(defines.items()))
    function: Callable[..., None] = module.get_function(name)
    return function


def launch(function: Callable[..., None], n_blocks: int, n_threads: int, *arguments: Any) -> None:
    """Launch a kernel; whole numbers among the arguments are 64 bits wide unless they are NumPy's."""
    function((n_blocks,), (n_threads,), tuple(np.int64(a) if type(a) is int else a for a in arguments))


@cache
def multiprocessors(xp: ModuleType) -> int:
    """Return how many multiprocessors the device has."""
    properties = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)
    return int(properties.get("multiProcessorCount", 64))


def pointer(a: Array | None) -> Any:
    """Return ``a`` as an argument of a kernel, null where there is none."""
    return np.uintp(0) if a is None else a


def structure(numbers: Sequence[int]) -> np.ndarray:
    """Return whole numbers, all 64 bits wide, as one argument of a kernel."""
    return np.array(numbers, np.int64).view([("numbers", np.int64, len(numbers))])


def arrays_of(some: Sequence[Array]) -> np.ndarray:
    """Return up to `MOST_ARRAYS` contiguous arrays as one argument of a kernel: its ``Arrays``."""
    ends = list(accumulate(a.size for a in some))
    n_none = MOST_ARRAYS - len(some)
    return structure([*(a.data.ptr for a in some), *[0] * n_none, *ends, *ends[-1:] * n_none])


def number(x: Scalar) -> tuple[Any, np.float64]:
    """Return two arguments of a kernel: where ``x`` lies on the device, or null; what it is on the host."""
    if isinstance(x, int | float):
        return pointer(None), np.float64(x)
    return x.astype(np.float64, copy=False), np.float64(0)


def blocks(n: int, n_threads: int) -> int:
    """Return how many blocks of threads go through ``n`` elements."""
    return -(-n // n_threads)


def vector_for(n: int, *arrays: Array) -> int:
    """Return how many neighbours of rows of ``n`` in contiguous ``arrays`` a thread can read at once."""
    vector = _VECTOR_BYTES // arrays[0].itemsize
    is_aligned = all(a.data.ptr % _VECTOR_BYTES == 0 for a in arrays)
    return vector if is_aligned and n % vector == 0 else 1


def row_stride(a: Array) -> int:
    """Return how many elements lie between two rows of ``a`` (rows, n).

    Raises
    ------
    ValueError
        If the elements of a row do not lie side by side.
    """
    if a.ndim != 2 or (a.shape[1] > 1 and a.size and a.strides[1] != a.itemsize):
        raise ValueError(f"rows of contiguous elements are wanted, not {a.shape} with strides {a.strides}")
    return int(a.strides[0] // a.itemsize)


def check(dtype: Any, **arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Raise ValueError unless every array, given beside its shape, has it, and ``dtype``."""
    for name, (a, shape) in arrays.items():
        if a.shape != shape or a.dtype != dtype:
            raise ValueError(f"{name} must be {shape} of {np.dtype(dtype)}, not {a.shape} of {a.dtype}")
