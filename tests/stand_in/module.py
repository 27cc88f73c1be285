"""A stand-in for the module `cupy`, to be put into ``sys.modules``: the names of CuPy 14 and no others."""

from contextlib import nullcontext
from functools import cache
from pathlib import Path
from time import perf_counter
from types import ModuleType, SimpleNamespace

import numpy as np
from stand_in.arrays import as_device, as_host, ndarray
from stand_in.graphs import DEVICE, Stream
from stand_in.kernels import RawModule

_FROM_HOST = ("asarray", "array", "asanyarray")  # the functions that take NumPy arrays
_UNINITIALISED = ("empty", "empty_like")
_ELEMENTWISE = (  # and copies on the device; beside them all ufuncs but matmul
    *("where", "clip", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "ascontiguousarray"),
    *("stack", "concatenate", "repeat", "take", "arange", "eye", "copy", "array", "asarray", "isfinite"),
)
_VIEWS = ("broadcast_to", "moveaxis", "transpose", "reshape", "ravel", "diagonal", "expand_dims", "squeeze")
_MOST_COPIED_ONE_BY_ONE = 8  # arrays; CuPy sends the addresses of more from the host
_UFUNC_OPTIONS = {"out", "where", "dtype", "casting", "order"}


@cache
def signatures():
    """Return the parameters of every function of CuPy 14 by its name; "ufunc" and "constant" are words."""
    lines = (Path(__file__).parent / "cupy_14.txt").read_text().splitlines()[1:]
    return dict(line.split(": ") for line in lines)


class CUDARuntimeError(RuntimeError):
    """What the runtime raises without a usable driver."""

    __module__ = "cupy_backends.cuda.api.runtime"


class OutOfMemoryError(MemoryError):
    """What CuPy's memory pool raises."""

    __module__ = "cupy.cuda.memory"


class Event:
    """A moment in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.time_s = None

    def record(self, stream=None):
        self.time_s = perf_counter()

    def synchronize(self):
        pass


def make(n_devices=1, version="14.2.0"):
    """Return a module like cupy, on a machine with ``n_devices`` GPUs."""
    cupy = _namespace("cupy", np, "")
    cupy.__version__ = version
    cupy.ndarray = ndarray
    cupy.linalg = _namespace("cupy.linalg", np.linalg, "linalg.")
    cupy.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))
    cupy.RawModule = RawModule
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=int, total_bytes=int)
    properties = {"name": b"stand-in", "major": 7, "minor": 5, "multiProcessorCount": 1}
    cupy.cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            getDeviceCount=lambda: n_devices,
            getDeviceProperties=lambda device: properties,
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
            memGetInfo=lambda: (1 << 33, 1 << 34),
            CUDARuntimeError=CUDARuntimeError,
        ),
        Device=lambda: SimpleNamespace(
            id=0, synchronize=lambda: None, mem_info=(1 << 33, 1 << 34), compute_capability="75"
        ),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        Event=Event,
        Stream=Stream,
        MemoryPool=lambda: SimpleNamespace(malloc=None, total_bytes=int, free_all_blocks=int),
        using_allocator=lambda allocator: nullcontext(),
        alloc_pinned_memory=bytearray,
        get_elapsed_time=lambda start, end: 1000 * (end.time_s - start.time_s),
    )
    for kind in ("float32", "float64", "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool_"):
        setattr(cupy, kind, getattr(np, kind))
    return cupy


def _namespace(name, library, prefix):
    module = ModuleType(name)
    known = {key.removeprefix(prefix): kind for key, kind in signatures().items() if key.startswith(prefix)}

    def find(attribute):
        if attribute not in known:
            raise AttributeError(f"CuPy 14 has no {prefix}{attribute}")
        value = getattr(library, attribute)
        return value if known[attribute] == "constant" else _function(attribute, value, known[attribute])

    module.__getattr__ = find
    return module


def _function(name, function, kind):
    allowed = _UFUNC_OPTIONS if kind == "ufunc" else set(kind.replace("*", "").split(", "))

    def call(*args, **kwargs):
        if unknown := set(kwargs) - allowed:
            raise TypeError(f"cupy.{name} takes no {', '.join(sorted(unknown))}")
        if name in _FROM_HOST and isinstance(args[0], np.ndarray):
            DEVICE.refuse("a copy from the host cannot be replayed")
            return ndarray(getattr(np, name)(*args, **kwargs).copy())
        if "out" in kwargs and name == "matmul" and kwargs["out"] is not None:
            assert kwargs["out"].flags.c_contiguous, "cuBLAS writes contiguous matrices"
        arguments = {key: as_host(value) for key, value in kwargs.items()}
        given = tuple(map(as_host, args))
        _refuse_in_capture(name, kind, given)

        def compute():
            with np.errstate(all="ignore"):
                return function(*given, **arguments)

        if kwargs.get("out") is not None:
            DEVICE.change(compute)
            return kwargs["out"]
        if name in _UNINITIALISED:
            result = compute()
            result.fill(np.nan if result.dtype.kind == "f" else 99)  # to be seen where it is read
            return as_device(result)
        is_view = name in _VIEWS or (
            name == "ascontiguousarray" and np.may_share_memory(compute(), np.asarray(given[0]))
        )
        return as_device(DEVICE.new(compute, is_kernel=not is_view))

    call.__name__ = name
    return call


def _refuse_in_capture(name, kind, given):
    """What a stream cannot capture, or ought not to: see `stand_in.graphs`."""
    if name == "matmul":
        DEVICE.refuse("cuBLAS cannot be captured")
    elif kind != "ufunc" and name not in (*_ELEMENTWISE, *_VIEWS, *_UNINITIALISED):
        DEVICE.refuse(f"{name} is not to be captured")
    elif name in ("stack", "concatenate") and len(given[0]) > _MOST_COPIED_ONE_BY_ONE:
        DEVICE.refuse("the addresses of many arrays come from the host")
    elif name == "repeat" and not isinstance(given[1], int):
        DEVICE.refuse("how often each is repeated comes from the host")


def _as_strided(x, shape=None, strides=None):
    return ndarray(np.lib.stride_tricks.as_strided(as_host(x), shape, strides))
