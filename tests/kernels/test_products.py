"""The matrix product, whole and cut into small ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.kernels.products import matmul

SHAPES = [
    (16, 25, 18432),  # many columns: cut by columns
    (400, 16, 4608),
    (16, 18432, 25),  # a long sum: cut inside it
    (3, 99991, 7),  # a prime length has no divisor to cut at
    (32, 288, 2048),  # blocks would be too short
    (10, 1, 10),
]


@pytest.mark.parametrize(("o", "k", "m"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_product_is_the_product(o, k, m, transposed):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(k, o)).T if transposed else rng.normal(size=(o, k))
    b = rng.normal(size=(m, k)).T if transposed else rng.normal(size=(k, m))
    out = np.full((o, m), np.nan)
    assert matmul(a, b, out=out) is out
    np.testing.assert_allclose(out, a @ b, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(matmul(a, b), out)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_stacks_of_matrices(o, k, m, n):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, o, k)), rng.normal(size=(n, k, m))
    np.testing.assert_allclose(matmul(a, b), np.stack([a[i] @ b[i] for i in range(n)]), rtol=1e-12)


def test_float32_stays_float32():
    assert matmul(np.ones((16, 25), np.float32), np.ones((25, 18432), np.float32)).dtype == np.float32
