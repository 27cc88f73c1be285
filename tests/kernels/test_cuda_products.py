"""The CUDA kernels of products and reductions, run on the CPU, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import moved

from l2lnp.kernels import products, reductions, twin
from l2lnp.kernels.cuda import products as cuda_products

keep = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = [np.float32, np.float64]


def assert_close(ours, expected, dtype):
    size = np.abs(expected).max(initial=1.0)
    assert np.abs(ours.get() - expected).max(initial=0.0) <= (1e-11 if dtype == np.float64 else 1e-5) * size


def operand(xp, a, form):
    """Return ``a`` on the device: as it is, transposed in memory, or as every second row of a larger one."""
    if form == "transposed":
        return xp.asarray(np.ascontiguousarray(a.T)).T
    if form == "cut":
        return xp.asarray(np.repeat(a, 2, axis=0))[::2]
    return xp.asarray(a)


@keep
@given(
    st.sampled_from([1, 3, 16, 17, 33, 70]),
    st.sampled_from([1, 5, 16, 40, 700]),
    st.sampled_from([1, 10, 65, 130]),
    st.sampled_from(["plain", "transposed", "cut"]),
    st.sampled_from(["plain", "transposed", "cut"]),
    st.sampled_from(DTYPES),
    st.sampled_from([None, "cut", "transposed"]),
    st.integers(0, 2**32 - 1),
)
def test_products(cupy, o, k, m, of_a, of_b, dtype, of_out, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(o, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)
    outs = {"cut": cupy.empty((o, m + 3), dtype)[:, :m], "transposed": cupy.empty((m, o), dtype).T}
    out = outs.get(of_out)
    ours = products.matmul(operand(cupy, a, of_a), operand(cupy, b, of_b), out)
    assert ours.dtype == dtype
    assert out is None or ours is out
    assert_close(ours, a.astype(np.float64) @ b.astype(np.float64), dtype)


@pytest.mark.parametrize("of_b", ["plain", "transposed"])
@pytest.mark.parametrize("shape", [(5, 3, 4), (17, 40, 9), (3, 1030, 20), (1, 5, 1)])
@pytest.mark.parametrize("stacks", [((), (4,)), ((3,), ()), ((2,), (2,)), ((1,), ())])
def test_stacks_of_products(cupy, monkeypatch, stacks, shape, of_b):
    monkeypatch.setattr(np, "matmul", None)  # which stands for cuBLAS here
    (o, k, m), rng = shape, np.random.default_rng(0)
    a, b = rng.normal(size=(*stacks[0], o, k)), rng.normal(size=(*stacks[1], k, m))
    there = b if of_b == "plain" else np.ascontiguousarray(b.swapaxes(-1, -2))
    b_there = moved(cupy, there) if of_b == "plain" else moved(cupy, there).swapaxes(-1, -2)
    expected = a @ b
    out = cupy.empty((*expected.shape[:-1], m + 2), a.dtype)[..., :m]
    for ours in (products.matmul(moved(cupy, a), b_there), products.matmul(moved(cupy, a), b_there, out)):
        assert ours.shape == expected.shape
        assert_close(ours, expected, np.float64)


@pytest.mark.parametrize("shape", [(16, 25, 400), (16, 3000, 25), (10, 300, 128), (40, 1000, 70)])
def test_no_product_of_a_step_is_left_to_cublas(cupy, monkeypatch, shape):
    o, k, m = shape
    monkeypatch.setattr(np, "matmul", None)  # which stands for cuBLAS here
    rng = np.random.default_rng(0)
    products.matmul(*moved(cupy, (rng.normal(size=(o, k)), rng.normal(size=(k, m)))))


def test_what_is_large_goes_to_cublas(cupy, monkeypatch):
    a = moved(cupy, np.ones((8, 8)))
    monkeypatch.setattr(cuda_products, "MOST_FLOPS", 2 * 8**3 - 1)
    monkeypatch.setattr(cuda_products, "launch", None)
    assert (products.matmul(a, a).get() == 8).all()
    assert products.matmul(a[None], a[None]).shape == (1, 8, 8)


def test_wrong_shapes_are_refused(cupy):
    a, b = moved(cupy, (np.ones((3, 4)), np.ones((3, 4))))
    with pytest.raises(ValueError, match="b must be"):
        products.matmul(a, b)
    with pytest.raises(ValueError, match="out must be"):
        products.matmul(a, b.T, moved(cupy, np.ones((3, 4))))


@keep
@given(st.lists(st.integers(1, 700), min_size=1, max_size=4), st.sampled_from(DTYPES), st.integers(0, 99))
def test_reductions(cupy, sizes, dtype, seed):
    x = np.random.default_rng(seed).normal(size=sum(sizes)).astype(dtype)
    ours = twin(reductions, moved(cupy, x))
    assert ours is not reductions
    expected = reductions.means(x.astype(np.float64), sizes)
    assert_close(ours.means(moved(cupy, x), sizes), expected, dtype)
    rows = moved(cupy, np.stack([x, 2 * x]))
    for v in (rows, cupy.ascontiguousarray(rows.T).T, rows[:, ::2]):
        assert_close(ours.row_sums(v), v.get().astype(np.float64).sum(1), dtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_marked(cupy, monkeypatch, bad, dtype):
    values = np.ones((3, 500), dtype)
    if bad is not None:
        values[1, 400] = bad
    for kernels in ("1", "0"):
        monkeypatch.setenv("L2LNP_CUDA_KERNELS", kernels)
        flag, there = cupy.zeros(1, np.int32), moved(cupy, values)
        twin(reductions, there).mark_not_finite([there[0], there[1:, ::2]], flag)
        assert flag.get().tolist() == [0 if bad is None else 1]


PLANTED = {
    "a part forgotten": ("reductions.cu", "p < n_parts;", "p < n_parts - 1;"),
    "every part begins anew": ("products.cu", "k0 = p * part;", "k0 = 0;"),
    "one product for all": ("products.cu", "b += product * b_stack;", ""),
    "parts of the first product": ("products.cu", "(p * n_products + product)", "p"),
    "one row for all": ("products.cu", "left[k][o + i] * right", "left[k][i] * right"),
    "half a tree": ("reductions.cu", "half > 0;", "half > 1;"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, plant, name):
    plant(*PLANTED[name])
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(17, 715)), rng.normal(size=(715, 9))
    stack = np.stack([b, 2 * b])

    def check():
        assert_close(products.matmul(*moved(cupy, (a, b))), a @ b, np.float64)
        assert_close(products.matmul(*moved(cupy, (a, stack))), a @ stack, np.float64)
        assert_close(twin(reductions, moved(cupy, a)).row_sums(moved(cupy, a)), a.sum(1), np.float64)

    with pytest.raises(AssertionError):
        check()
