"""Every CUDA source compiles for the architectures from Turing on that the compiler knows; no GPU needed."""

import ctypes
import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

import l2lnp.kernels.cuda

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FOLDER = Path(l2lnp.kernels.cuda.__file__).parent
LSTM = ("-DF=4", "-DS1=20", "-DS2=20")
TILE = ("-DROWS=64", "-DCOLUMNS=64")
OPTIONS_OF_OTHERS = {"windows.cu": (), "losses.cu": (), "products.cu": TILE, "reductions.cu": ()}
OPTIONS = {
    ("lstm.cu", "float"): (*LSTM, "-DCOLUMNS=2", "-DSHARED=1"),
    ("lstm.cu", "double"): (*LSTM, "-DCOLUMNS=1", "-DSHARED=0"),
    **{(file, real): options for file, options in OPTIONS_OF_OTHERS.items() for real in ("float", "double")},
}


def compile_by_nvcc(file, options, architecture, folder):
    command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", *options, "-o", folder / "out", FOLDER / file]
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


def compile_by_nvrtc(file, options, architecture, folder):
    library, program = nvrtc(), ctypes.c_void_p()
    code = (FOLDER / file).read_bytes()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code, file.encode(), 0, None, None) == 0
    texts = [o.encode() for o in (f"--gpu-architecture=sm_{architecture}", *options)]
    failed = library.nvrtcCompileProgram(program, len(texts), (ctypes.c_char_p * len(texts))(*texts))
    log = ctypes.create_string_buffer(1 << 16)
    library.nvrtcGetProgramLog(program, log)
    assert failed == 0, log.value.decode()
    assert library.nvrtcDestroyProgram(ctypes.byref(program)) == 0


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
    for (file, real), options in OPTIONS.items():
        if compiler is compile_by_nvcc and real == "double" and architecture != ARCHITECTURES[0]:
            continue  # nvcc takes its time
        compiler(file, ("-std=c++17", f"-DREAL={real}", *options), architecture, tmp_path)


def test_every_source_is_compiled():
    assert {file for file, _ in OPTIONS} == {path.name for path in FOLDER.glob("*.cu")}


def test_sources_include_nothing_and_add_by_no_atomics():
    """NVRTC has no headers of the C library, and atomic sums of floats have no fixed order."""
    for path in FOLDER.glob("*.cu"):
        text = path.read_text()
        assert "#include" not in text
        assert "atomic" not in text
        assert "INFINITY" not in text
