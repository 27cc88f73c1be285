"""Every CUDA source compiles for the architectures from Turing on that the compiler knows; no GPU needed."""

import ctypes
import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import l2lnp.kernels.cuda
from l2lnp.kernels.cuda.lstm import TensorTiling, Tiling
from l2lnp.kernels.cuda.lstm_adjoint import ReverseTiling, tiling_for
from l2lnp.kernels.cuda.lstm_update import compiled_for
from l2lnp.kernels.lstm import Sizes
from l2lnp.optimizers.features import FEATURES
from l2lnp.optimizers.preprocessing import Preprocessing

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FOLDER = Path(l2lnp.kernels.cuda.__file__).parent
LSTM = {"S1": 20, "S2": 20}
FEW = Tiling(columns=1, parts=4, threads=256).defines() | {"SHARED": 0}
MANY = Tiling(columns=2, parts=1, threads=128).defines() | {"SHARED": 1}
BACK = tiling_for(Sizes(24, (20, 20)), np.dtype(np.float32)).defines()
WIDE = ReverseTiling(tile=16, threads=64, shares_weights=False, shares_tile=False)
TENSOR = TensorTiling(tiles=2, rounds=8, threads=128, blocks=3).defines() | {"SHARED": 1}


def of_features(names):
    """Return what is told of features, and of a head."""
    preprocessing = Preprocessing.named(names, 0.95)
    return compiled_for(preprocessing, "tanh") | {"F": preprocessing.n_rows}


IMAGE = {"VECTOR": 4, "SQUARED": 1}
TILE = {"ROWS": 64, "COLUMNS": 64}
DEFINES_OF_OTHERS = {
    "windows.cu": {},
    "patches_outer.cu": IMAGE | {"INDEX": "int"},
    "patches_product.cu": IMAGE | {"ADJOINT": 1, "ROWS": 16, "GROUPS": 2, "COLUMNS": 2},
    "losses.cu": {},
    "joins.cu": {"PARTS": 8},
    "products.cu": TILE,
    "masks.cu": {},
    "reductions.cu": {"ARRAYS": 8},
    "tiled_windows.cu": {"VECTOR": 4},
    "signals.cu": of_features(FEATURES) | {"UNITS": 1},
}
DEFINES = [
    ("lstm.cu", "float", LSTM | {"F": 4} | MANY),
    ("lstm.cu", "double", LSTM | {"F": 4} | FEW),
    ("lstm_adjoint.cu", "float", LSTM | {"F": 4} | BACK),
    ("lstm_adjoint.cu", "double", LSTM | {"F": 4} | WIDE.defines()),
    ("lstm_update_adjoint.cu", "float", LSTM | of_features(FEATURES) | BACK),
    ("lstm_update_adjoint.cu", "double", LSTM | of_features(["rnnprop", "gradient_size"]) | WIDE.defines()),
    ("lstm_update.cu", "float", LSTM | of_features(FEATURES) | MANY),
    ("lstm_update.cu", "double", LSTM | of_features(["rnnprop", "gradient_size"]) | FEW),
    *((file, real, defines) for file, defines in DEFINES_OF_OTHERS.items() for real in ("float", "double")),
]
FROM_AMPERE_ON = [
    ("lstm.cu", "float", LSTM | {"F": 4} | TENSOR),
    ("lstm_update.cu", "float", LSTM | of_features(FEATURES) | TENSOR),
]


def compile_by_nvcc(file, code, options, architecture, folder):
    (folder / file).write_text(code)
    command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", *options, "-o", folder / "out", folder / file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@cache
def known_to_nvcc():
    listed = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
    return {int(name.removeprefix("sm_")) for name in listed.split() if name.removeprefix("sm_").isdigit()}


@cache
def nvrtc():
    """Return the library of NVRTC that the package nvidia-cuda-nvrtc brings, or None."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else ())]
    files = [file for folder in folders for file in sorted(folder.glob("*/lib/libnvrtc.so.*"))]
    return ctypes.CDLL(str(files[-1])) if files else None


def known_to_nvrtc():
    count = ctypes.c_int()
    assert nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
    found = (ctypes.c_int * count.value)()
    assert nvrtc().nvrtcGetSupportedArchs(found) == 0
    return set(found)


def compile_by_nvrtc(file, code, options, architecture, folder):
    library, program = nvrtc(), ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), file.encode(), 0, None, None) == 0
    texts = [o.encode() for o in (f"--gpu-architecture=sm_{architecture}", *options)]
    failed = library.nvrtcCompileProgram(program, len(texts), (ctypes.c_char_p * len(texts))(*texts))
    log = ctypes.create_string_buffer(1 << 16)
    library.nvrtcGetProgramLog(program, log)
    assert failed == 0, log.value.decode()
    assert library.nvrtcDestroyProgram(ctypes.byref(program)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_sources_compile(tmp_path, architecture):
    if nvrtc() is not None:  # the compiler that CuPy uses
        compiler, known = compile_by_nvrtc, known_to_nvrtc()
    elif shutil.which("nvcc") is not None:
        compiler, known = compile_by_nvcc, known_to_nvcc()
    else:
        pytest.skip("neither NVRTC (the package nvidia-cuda-nvrtc) nor nvcc is here")
    if architecture not in known:
        pytest.skip(f"the compiler here does not know sm_{architecture}")
    for file, real, defines in DEFINES + (FROM_AMPERE_ON if architecture >= 80 else []):
        if compiler is compile_by_nvcc and real == "double" and architecture != ARCHITECTURES[0]:
            continue  # nvcc takes its time
        code = l2lnp.kernels.cuda.program(file, defines.items())
        compiler(file, code, ("-std=c++17", f"-DREAL={real}"), architecture, tmp_path)


def test_every_source_is_compiled():
    assert {file for file, *_ in DEFINES} == {path.name for path in FOLDER.glob("*.cu")}


def test_sources_include_each_other_alone_and_add_by_no_atomics():
    """NVRTC has no headers of the C library, and atomic sums of floats have no fixed order."""
    for path in FOLDER.glob("*.cu*"):
        text = l2lnp.kernels.cuda.source(path.name)
        assert "#include" not in text
        assert "atomic" not in text
        assert "INFINITY" not in text
