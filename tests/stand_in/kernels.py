"""A stand-in for `cupy.RawModule`: CUDA C++ compiled by g++ and run on the CPU, its arguments checked."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from stand_in.arrays import ndarray
from stand_in.graphs import DEVICE

_TYPES = {
    "int": np.dtype(np.int32),
    "long long": np.dtype(np.int64),
    "unsigned": np.dtype(np.uint32),
    "unsigned short": np.dtype(np.uint16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}
_KERNEL = re.compile(r"__global__ void(?: __launch_bounds__\([^)]*\))? (\w+)\(([^)]*)\)")
_MOST_THREADS, _MOST_BLOCKS = 1024, 2**31 - 1


class RawModule:
    """What NVRTC makes of a source and its options, made by g++."""

    def __init__(self, code, options=()):
        self._real = _TYPES[next(o.removeprefix("-DREAL=") for o in options if o.startswith("-DREAL="))]
        self._parameters = parameters_of(code)
        self._library = _compiled(code, tuple(options), tuple(sorted(self._parameters)))

    def get_function(self, name):
        """Return the kernel called ``name``."""
        types = [
            (self._real if kind == "REAL" else _TYPES.get(kind), is_array)
            for kind, is_array in self._parameters[name]
        ]
        return _Kernel(name, getattr(self._library, f"launch_{name}"), types)


class _Kernel:
    def __init__(self, name, function, types):
        self._name = name
        self._function = function
        self._types = types

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert 0 < grid[0] <= _MOST_BLOCKS, f"{self._name}: {grid} blocks"
        assert 0 < block[0] <= _MOST_THREADS, f"{self._name}: {block} threads"
        assert len(args) == len(self._types), (
            f"{self._name} has {len(self._types)} parameters, not {len(args)}"
        )
        cells = [_cell(self._name, a, *wanted) for a, wanted in zip(args, self._types, strict=True)]
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        kept = cells, args  # what the pointers point to
        DEVICE.change(
            lambda: kept and self._function(pointers, ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]))
        )


def _cell(name, argument, dtype, is_array):
    """Return the memory that holds an argument: a pointer to an array, or a number."""
    if is_array and not (isinstance(argument, np.uintp) and argument == 0):
        assert type(argument) is ndarray, f"{name}: {type(argument)} for an array"
        assert dtype in (None, argument.dtype), f"{name}: {argument.dtype} for {dtype}"
        return np.array(argument.data.ptr, np.uintp)
    if is_array:
        return np.array(argument)
    if dtype is None:  # a structure, which CuPy takes from an array of one
        assert isinstance(argument, np.ndarray), f"{name}: {type(argument)} for a structure"
        assert (argument.size, argument.dtype.kind) == (1, "V"), f"{name}: {argument!r} is no structure"
        return argument
    assert isinstance(argument, np.generic), f"{name}: {argument!r} has no fixed width"
    assert argument.dtype == dtype, f"{name}: {argument.dtype} for {dtype}"
    return np.array(argument)


def parameters_of(code):
    """Return for each kernel its parameters: the type's name, and whether it is an array."""
    macros = dict(re.findall(r"#define (\w+)[ \\]*\n? *(int .*)", code))
    found = {}
    for name, text in _KERNEL.findall(code):
        for macro, meaning in macros.items():
            text = re.sub(rf"\b{macro}\b", meaning, text)
        found[name] = [_parameter(part) for part in text.split(",")]
    return found


def _parameter(text):
    words = text.replace("const", "").replace("__restrict__", "").replace("*", " * ").split()
    return " ".join(w for w in words[:-1] if w != "*"), "*" in words


@cache
def _folder():
    """Return where the libraries lie: of a whole run of tests (``conftest.py``), or of this process."""
    return Path(os.environ.get("L2LNP_TEST_KERNELS") or tempfile.mkdtemp(prefix="l2lnp-kernels-"))


@cache
def _compiled(code, options, names):
    """Return the library that g++ makes; the test is skipped where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: the CUDA kernels cannot be run on the CPU")
    in_step = "true" if "_sync" in code else "false"
    lines = [f'#include "{_header()}"', code]
    lines += [
        f'extern "C" void launch_{name}(void** a, unsigned n_blocks, unsigned n_threads) '
        f"{{ on_cpu::launch(on_cpu::call<{name}>, a, n_blocks, n_threads, {in_step}); }}"
        for name in names
    ]
    key = hashlib.sha256(repr((code, options)).encode()).hexdigest()[:16]
    library = _folder() / f"{key}.so"
    if not library.exists():
        own = _folder() / f"{key}-{os.getpid()}"
        own.with_suffix(".cpp").write_text("\n".join(lines))
        defined = (o for o in options if o.startswith("-D"))
        _run_compiler("-shared", *defined, "-o", own.with_suffix(".so"), own.with_suffix(".cpp"))
        own.with_suffix(".so").rename(library)
    return ctypes.CDLL(str(library))


@cache
def _header():
    """Return the header of all sources, beside which g++ finds it precompiled: half the time of a kernel."""
    header, own = _folder() / "cuda_on_cpu.h", _folder() / f"cuda_on_cpu-{os.getpid()}.h"
    if not header.exists():
        shutil.copy(Path(__file__).parent / header.name, own)
        _run_compiler("-x", "c++-header", own, "-o", f"{own}.gch")
        Path(f"{own}.gch").rename(f"{header}.gch")
        own.rename(header)
    return header


def _run_compiler(*arguments):
    flags = ["-std=c++20", "-O1", "-fPIC", "-Wno-unknown-pragmas", "-ffp-contract=off"]
    flags += ["-fno-gnu-unique"]  # or shared memory of one name would be one for all libraries, of any size
    done = subprocess.run(["g++", *flags, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
