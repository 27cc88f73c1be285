"""The stand-in for CuPy refuses what a device refuses; otherwise the tests over it would prove nothing."""

import numpy as np
import pytest
from stand_in.module import signatures

from l2lnp.backend import array_module, load_backend, to_backend, to_host


def test_it_is_the_library_of_its_arrays(cupy):
    a = to_backend(cupy, np.ones(3))
    assert array_module(a, a.sum()) is cupy
    assert load_backend("cupy") is load_backend("auto") is cupy
    np.testing.assert_array_equal(to_host(a), np.ones(3))


FORBIDDEN = {
    "conversion": lambda a, n, cupy: np.asarray(a),
    "conversion of a scalar": lambda a, n, cupy: np.asarray(a.sum()),
    "a NumPy function": lambda a, n, cupy: np.sum(a),
    "a NumPy ufunc": lambda a, n, cupy: np.exp(a),
    "a NumPy operand": lambda a, n, cupy: a + n,
    "a NumPy operand before it": lambda a, n, cupy: n * a,
    "in place": lambda a, n, cupy: a.__iadd__(n),
    "into NumPy": lambda a, n, cupy: n.__iadd__(a),
    "a NumPy argument": lambda a, n, cupy: cupy.maximum(a, n),
    "among others": lambda a, n, cupy: cupy.concatenate([a, n]),
    "assignment": lambda a, n, cupy: a.__setitem__(slice(None), n),
    "a list": lambda a, n, cupy: a.__add__([1.0, 2.0, 3.0]),
    "a NumPy index": lambda a, n, cupy: a[np.arange(2)],
    "as an index": lambda a, n, cupy: [1, 2, 3][a.argmax()],
    "an output of NumPy": lambda a, n, cupy: cupy.exp(a, out=n),
    "one library": lambda a, n, cupy: array_module(a, n),
    "a keyword that CuPy lacks": lambda a, n, cupy: a.sum(where=a > 0),
    "a parameter that CuPy lacks": lambda a, n, cupy: cupy.mean(a, where=a > 0),
}


@pytest.mark.parametrize("how", FORBIDDEN)
def test_arrays_do_not_leave_the_device_by_themselves(cupy, how):
    with pytest.raises(TypeError):
        FORBIDDEN[how](to_backend(cupy, np.ones(3)), np.ones(3), cupy)


@pytest.mark.parametrize("name", ["errstate", "vecdot", "insert", "matvec", "longdouble", "geomspace"])
def test_names_that_cupy_lacks(cupy, name):
    assert hasattr(np, name)
    with pytest.raises(AttributeError, match=name):
        getattr(cupy, name)


def test_what_is_allowed(cupy):
    a = to_backend(cupy, np.arange(6.0).reshape(2, 3))
    assert float(a[1, 2]) == a.max().item() == 5.0
    assert array_module(np.float32(2) * a) is cupy
    assert (2 ** a[0]).get().tolist() == [1, 2, 4]
    row = a[1]
    row[0] = 9.0
    assert float(a[1, 0]) == 9.0  # a view
    element = a[0, 0]
    element += 1
    assert float(a[0, 0]) == 1.0
    assert np.isnan(cupy.empty(3).get()).all()
    assert {"matmul", "linalg.qr", "logaddexp"} <= set(signatures())
    for whole in (a.sum(0), a @ a.T, -a, abs(a), a > 1, cupy.stack([a, a]), cupy.linalg.norm(a), a[a > 3]):
        assert type(whole) is cupy.ndarray
