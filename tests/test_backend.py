"""The choice between NumPy and CuPy."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from l2lnp.backend import array_module, load_backend, to_host
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


def fake_cupy(monkeypatch, count):
    runtime = SimpleNamespace(getDeviceCount=count)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_cupy_is_never_replaced_silently(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(InputError, match="CuPy, which is not installed"):
        load_backend("cupy")
    assert load_backend("auto") is np

    def no_driver():
        raise RuntimeError("CUDA driver version is insufficient")

    for count, message in ((no_driver, "driver version is insufficient"), (lambda: 0, "found no GPU")):
        fake_cupy(monkeypatch, count)
        with pytest.raises(InputError, match=message):
            load_backend("cupy")
        assert load_backend("auto") is np


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    cupy = fake_cupy(monkeypatch, lambda: 1)
    assert load_backend("auto") is cupy
    assert load_backend("numpy") is np


def test_unknown_backends_are_refused():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        load_backend("numpi")
