"""The CUDA kernels of windows and losses, run on the CPU, against their twins on NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import assert_same, moved
from strategies import images, pairs

from l2lnp.kernels import losses, masks, twin, windows
from l2lnp.kernels.convolution import Patches
from l2lnp.layers.window import Window
from l2lnp.workspace import Workspace

keep = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
EXACT = {"rtol": 0, "atol": 0}


@st.composite
def problems(draw):
    size = draw(pairs)
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 2)] * 2)))
    window = Window(size, draw(pairs), padding)
    k, h, w = draw(images(at_least=size))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=(k, h, w, draw(st.sampled_from([1, 3, 40])))).astype(dtype)
    return window, x, rng


@keep
@given(problems())
def test_patches(cupy, problem):
    window, x, _ = problem
    on_device, space = moved(cupy, x), Workspace()
    ours = twin(windows, on_device)
    assert ours.__name__ == "l2lnp.kernels.cuda.windows"
    columns = Patches.of(x, window, (1, 1), space).as_view()[:, :, :, 0, 0]
    assert_same(ours.patches(on_device, window, space), columns, cupy, **EXACT)


@keep
@given(problems())
def test_max_pooling(cupy, problem):
    window, x, rng = problem
    x = np.round(2 * x) / 2  # with ties
    on_device, space = moved(cupy, x), Workspace()
    ours = twin(windows, on_device)
    y, won = windows.max_pool(x, window, space)
    y_there, won_there = ours.max_pool(on_device, window, space)
    has_pixel = y > -np.inf  # windows in the padding alone win nothing, whichever tap is named
    assert_same(y_there, y, cupy, **EXACT)
    np.testing.assert_array_equal(won_there.get()[has_pixel], np.argmax(won, axis=1)[has_pixel])
    v_x, v_y = rng.normal(size=x.shape).astype(x.dtype), rng.normal(size=y.shape).astype(x.dtype) * has_pixel
    gathered = windows.max_gather(won, v_x, window, space)
    there = ours.max_gather(won_there, moved(cupy, v_x), window, space).get()
    np.testing.assert_array_equal(there[has_pixel], gathered[has_pixel])
    image = windows.max_scatter(won, v_y, x.shape, window, space, "v")
    there = ours.max_scatter(won_there, moved(cupy, v_y), x.shape, window, space, "v")
    np.testing.assert_allclose(there.get(), image, rtol=1e-6, atol=1e-6)


def test_what_is_no_number_stays_none(cupy):
    x = np.zeros((1, 4, 4, 2), np.float32)
    x[0, 1, 1, 0] = np.nan
    y, _ = twin(windows, moved(cupy, x)).max_pool(moved(cupy, x), Window((2, 2), (2, 2), (0, 0)), Workspace())
    assert np.isnan(y.get()).sum() == 1


@keep
@given(
    st.integers(1, 12),
    st.integers(1, 300),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32 - 1),
)
def test_softmax_cross_entropy(cupy, n_classes, n, dtype, seed):
    rng = np.random.default_rng(seed)
    z, labels = (10 * rng.normal(size=(n_classes, n))).astype(dtype), rng.integers(0, n_classes, n)
    expected = losses.softmax_cross_entropy(z.astype(np.float64), labels, n + 3)
    ours = twin(losses, moved(cupy, z)).softmax_cross_entropy(*moved(cupy, (z, labels)), n + 3)
    close = {"rtol": 1e-12, "atol": 1e-14} if dtype == np.float64 else {"rtol": 2e-5, "atol": 1e-6}
    for name, value in expected._asdict().items():
        there = getattr(ours, name)
        assert there.dtype == dtype
        np.testing.assert_allclose(there.get(), value, **close)


def test_wrong_arguments_are_refused(cupy):
    ours, window = twin(windows, moved(cupy, np.zeros(1))), Window((2, 2), (1, 1), (0, 0))
    with pytest.raises(ValueError, match="must be"):
        ours.max_gather(
            *moved(cupy, (np.zeros((1, 2, 2, 3), np.uint16), np.zeros((2, 3, 3, 3)))), window, Workspace()
        )
    with pytest.raises(TypeError, match="float32 and float64"):
        ours.patches(moved(cupy, np.zeros((1, 3, 3, 2), np.float16)), window, Workspace())


def test_kernels_can_be_left_aside(cupy, monkeypatch):
    assert twin(windows, np.zeros(1)) is windows
    monkeypatch.setenv("L2LNP_CUDA_KERNELS", "0")
    assert twin(windows, moved(cupy, np.zeros(1))) is windows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("size", [(2, 2), (1, 3), (4, 1)])
def test_windows_side_by_side(cupy, size, n, dtype):
    window, space, rng = Window(size, size, "valid"), Workspace(), np.random.default_rng(0)
    x = np.round(2 * rng.normal(size=(3, 5 * size[0], 2 * size[1], n))).astype(dtype)  # with ties
    x[0, size[0] - 1, size[1] - 1, 0] = np.nan
    ours = twin(windows, moved(cupy, x))
    assert ours._is_tiled(x.shape, window)
    y, won = windows.max_pool(x, window, space)
    y_there, won_there = ours.max_pool(moved(cupy, x), window, space)
    assert_same(y_there, y, cupy, **EXACT)
    v_y = rng.normal(size=y.shape).astype(dtype) * np.isfinite(y)  # NumPy names no winner among no numbers
    there = ours.max_scatter(won_there, moved(cupy, v_y), x.shape, window, space, "v_x")
    back = windows.max_scatter(won, v_y, x.shape, window, space, "v_x")
    assert_same(there, np.ascontiguousarray(back), cupy, **EXACT)


PLANTED = {
    "the last of equal ones": ("v.at[s] > best", "v.at[s] >= best"),
    "no number overlooked": (" || v.at[s] != v.at[s]", ""),
    "the row below": ("(long long)row * I * C + c", "(long long)row * C + c"),
    "the tap beside": ("(unsigned short)(i * J + j)", "(unsigned short)(j * I + i)"),
    "what lost is kept": ("v.at[s] : REAL(0)", "v.at[s] : v.at[s]"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_in_windows_side_by_side_is_seen(cupy, plant, name):
    plant("tiled_windows.cu", *PLANTED[name])
    with pytest.raises(AssertionError):
        test_windows_side_by_side(cupy, (2, 2), 40, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_a_rectifier_lets_through(cupy, dtype):
    x = np.array([[-1, 0, 2, np.nan], [3, -0.0, -2, 1]], dtype)
    v = np.array([[5, 6, 7, 8], [np.nan, 1, np.inf, -2]], dtype)
    with np.errstate(invalid="ignore"):
        expected = masks.where_positive(x, v, np.empty_like(v))
    ours = twin(masks, moved(cupy, v)).where_positive(*moved(cupy, (x, v)), cupy.empty_like(moved(cupy, v)))
    np.testing.assert_array_equal(ours.get(), expected)
