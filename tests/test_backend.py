"""The choice between NumPy and CuPy."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from l2lnp.backend import array_module, load_backend, to_host, why_auto
from l2lnp.errors import InputError


def test_the_library_is_told_by_the_arrays():
    assert array_module(np.zeros(1), np.float32(1)) is np
    with pytest.raises(TypeError, match="expected arrays of one library"):
        array_module(np.zeros(1), [1.0])
    with pytest.raises(TypeError, match="expected arrays of one library"):
        array_module()


def test_host_arrays_stay_where_they_are():
    a = np.zeros(2)
    assert to_host(a) is a


def fake_cupy(monkeypatch, count, driver=13000):
    runtime = SimpleNamespace(
        getDeviceCount=count, driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020
    )
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver")


NO_GPU = [
    (no_driver, 0, "found no NVIDIA driver: install one that supports CUDA 12 or later, or use"),
    (no_driver, 12040, r"for CUDA 13, but the driver supports CUDA 12: install 'l2lnp\[cuda12-ctk\]'"),
    (no_driver, 13000, r"no usable GPU \(cudaErrorInsufficientDriver\): check the driver, or use"),
    (lambda: 0, 13000, "found no GPU: check the driver and CUDA_VISIBLE_DEVICES, or use --backend numpy"),
]


@pytest.mark.parametrize(("count", "driver", "message"), NO_GPU)
def test_no_gpu_is_told_with_the_way_out(monkeypatch, count, driver, message):
    fake_cupy(monkeypatch, count, driver)
    with pytest.raises(InputError, match=message):
        load_backend("cupy")
    assert load_backend("auto") is np
    assert message.partition(":")[0].replace("\\", "") in why_auto(np)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'cupy'", name="cupy"), "CuPy, which is not installed: install"),
        (ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"), "cannot load CuPy"),
        (ImportError("libcudart.so.12: cannot open\nmore\nlines"), r"\(libcudart.so.12: cannot open\)"),
    ],
)
def test_a_cupy_that_cannot_be_loaded(monkeypatch, error, message):
    def refuse(name):
        raise error

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(InputError, match=message) as raised:
        load_backend("cupy")
    assert "\n" not in str(raised.value)
    assert load_backend("auto") is np


def test_cupy_is_never_replaced_silently(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(InputError, match="use --backend numpy"):
        load_backend("cupy")
    assert load_backend("auto") is np


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    cupy = fake_cupy(monkeypatch, lambda: 1)
    assert load_backend("auto") is cupy
    assert load_backend("numpy") is np


def test_unknown_backends_are_refused():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        load_backend("numpi")
