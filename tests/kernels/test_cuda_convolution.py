"""The products of a convolution in CUDA kernels, run on the CPU, against patches that are written out."""

import numpy as np
import pytest
from moving import moved

from l2lnp.kernels.cuda import convolution as ours
from l2lnp.kernels.cuda.convolution import Tile
from l2lnp.layers.window import make_window
from l2lnp.workspace import Workspace

WINDOWS = [  # size, stride, padding, image
    (3, 1, "same", (5, 6)),
    (3, 1, "valid", (4, 5)),
    ((2, 3), (2, 1), "same", (5, 7)),
    (3, 2, (1, 2), (7, 6)),
    ((1, 2), (2, 3), 0, (5, 8)),
    (5, 1, 4, (3, 2)),
    (1, 1, 0, (2, 3)),
    (2, 3, "same", (7, 7)),
]
SIZES = [(1, 1, 1), (3, 17, 4), (2, 33, 130)]  # K, O, N


def patches_by_hand(x, window):
    """Return X (K I J, R C N), number by number."""
    k, h, w, n = x.shape
    (top, _), (left, _) = window.pads((h, w))
    r, c = window.output((h, w))
    found = np.zeros((k, *window.size, r, c, n))
    for i, j, p, q in np.ndindex(*window.size, r, c):
        row, column = p * window.stride[0] + i - top, q * window.stride[1] + j - left
        if 0 <= row < h and 0 <= column < w:
            found[:, i, j, p, q] = x[:, row, column]
    return found.reshape(k * window.size[0] * window.size[1], -1)


def unpatched_by_hand(columns, shape, window):
    """Return the adjoint of `patches_by_hand`, from its definition."""
    k, h, w, n = shape
    (top, _), (left, _) = window.pads((h, w))
    r, c = window.output((h, w))
    columns, image = columns.reshape(k, *window.size, r, c, n), np.zeros(shape)
    for i, j, p, q in np.ndindex(*window.size, r, c):
        row, column = p * window.stride[0] + i - top, q * window.stride[1] + j - left
        if 0 <= row < h and 0 <= column < w:
            image[:, row, column] += columns[:, i, j, p, q]
    return image


def problem(case, sizes, dtype):
    """Return a window, an image, weights, biases and cotangents of the outputs."""
    size, stride, padding, image = case
    (k, o, n), window, rng = sizes, make_window("conv layer", size, stride, padding), np.random.default_rng(0)
    r, c = window.output(image)
    x, w = rng.normal(size=(k, *image, n)), rng.normal(size=(o, k * window.size[0] * window.size[1]))
    return window, *(a.astype(dtype) for a in (x, w, rng.normal(size=o), rng.normal(size=(o, r * c * n))))


def results(cupy, window, x, w, b, v):
    """Return what the kernels give, as NumPy arrays."""
    x, w, b, v = moved(cupy, (x, w, b, v))
    space = Workspace()
    patches = ours.Patches.of(x, window, (1, 1), space)
    squared = patches.squared(space)
    return {
        "product": patches.product(w, cupy.empty_like(v), b),
        "without b": patches.product(w, cupy.empty_like(v)),
        "of squares": squared.product(w, cupy.empty_like(v)),
        "outer": patches.outer(v, space),
        "outer of squares": squared.outer(v, space),
        "image": squared.unpatch_product(w, v, space, "image"),
        "view": patches.as_view(),
        "view of squares": squared.as_view(),
    }


def by_hand(window, x, w, b, v):
    """Return the same, each from its definition, in float64."""
    x, w, b, v = (a.astype(np.float64) for a in (x, w, b, v))
    columns = patches_by_hand(x, window)
    view = (len(x), *window.size, 1, 1, *window.output(x.shape[1:3]), x.shape[3])
    return {
        "product": w @ columns + b[:, None],
        "without b": w @ columns,
        "of squares": w @ columns**2,
        "outer": v @ columns.T,
        "outer of squares": v @ (columns**2).T,
        "image": unpatched_by_hand(w.T @ v, x.shape, window),
        "view": columns.reshape(view),
        "view of squares": (columns**2).reshape(view),
    }


def assert_close(found, expected, dtype):
    for name, value in expected.items():
        mine = found[name].get()
        assert mine.dtype == dtype, name
        assert mine.shape == value.shape, name
        tolerance = (1e-5 if dtype == np.float32 else 1e-13) * max(1, np.abs(value).max(initial=0))
        assert np.abs(mine - value).max() <= tolerance, name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_every_product(cupy, case, sizes):
    arguments = problem(case, sizes, np.float32)
    assert_close(results(cupy, *arguments), by_hand(*arguments), np.float32)


@pytest.mark.parametrize("sizes", [(2, 9, 5), (3, 17, 6)], ids=str)
def test_in_double_precision(cupy, sizes):
    arguments = problem(WINDOWS[3], sizes, np.float64)
    assert_close(results(cupy, *arguments), by_hand(*arguments), np.float64)


@pytest.mark.parametrize("tile", [*ours.TILES, Tile(16, 1, 1)], ids=str)
def test_whatever_a_block_computes(cupy, monkeypatch, tile):
    monkeypatch.setattr(ours, "tile_for", lambda *of: tile)
    arguments = problem(WINDOWS[0], (7, 40, 64), np.float32)
    assert_close(results(cupy, *arguments), by_hand(*arguments), np.float32)


@pytest.mark.parametrize("enough", [1, 100_000])
def test_sums_in_one_part_and_in_many(cupy, monkeypatch, enough):
    monkeypatch.setattr(ours, "_WARPS_OF_OUTER", enough)
    arguments = problem(WINDOWS[0], (3, 9, 12), np.float32)
    assert_close(results(cupy, *arguments), by_hand(*arguments), np.float32)


def test_sizes_choose_what_a_block_computes():
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    assert ours.tile_for(16, 1 << 20, single, 2000) == Tile(16, 1, 2)
    assert ours.tile_for(32, 1 << 17, single, 2000) == Tile(16, 2, 2)
    assert ours.tile_for(16, 1 << 14, single, 2000) == Tile(8, 1, 1)
    assert ours.tile_for(32, 1 << 20, double, 2000) == Tile(8, 1, 1)


def test_an_image_that_is_not_aligned(cupy):
    window, x, w, b, v = problem(WINDOWS[0], (2, 3, 8), np.float32)
    whole = cupy.empty(x.size + 1, x.dtype)
    whole[1:] = moved(cupy, x).reshape(-1)
    patches = ours.Patches.of(whole[1:].reshape(x.shape), window, (1, 1), Workspace())
    found = patches.product(moved(cupy, w), cupy.empty_like(moved(cupy, v)))
    assert_close({"without b": found}, {"without b": by_hand(window, x, w, b, v)["without b"]}, np.float32)


def test_wrong_shapes_are_refused(cupy):
    window, *arrays = problem(WINDOWS[0], (2, 3, 8), np.float32)
    x, w, _, v = moved(cupy, tuple(arrays))
    patches = ours.Patches.of(x, window, (1, 1), Workspace())
    with pytest.raises(ValueError, match="w must be"):
        patches.product(w[:, 1:], cupy.empty_like(v))
    with pytest.raises(ValueError, match="v must be"):
        patches.outer(v[:, 1:], Workspace())
    with pytest.raises(ValueError, match="v must be"):
        patches.unpatch_product(w, v[1:], Workspace(), "image")


PLANTED = {
    "a row too low": (
        "patches_product.cu",
        "r * of.stride_r - of.top, c *",
        "r * of.stride_r - of.top + 1, c *",
    ),
    "no edge": ("patches_product.cu", "c >= 0 && c < columns;\n#endif", "c < columns;\n#endif"),
    "stride forgotten": ("patches_product.cu", "inside = inside && r % stride_r == 0;", ""),
    "weights of the first channel": ("patches_product.cu", "channel * w_channel + tap]", "tap]"),
    "no bias": ("patches_product.cu", "? bias[row] : REAL(0)", "? REAL(0) : REAL(0)"),
    "a run too few": (
        "patches_outer.cu",
        "? (part + 1) * n_units : n_all",
        "? (part + 1) * n_units - 1 : n_all",
    ),
    "lanes forgotten": ("patches_outer.cu", "if constexpr (N > 2)", "if constexpr (N > 4)"),
    "parts of another": ("reductions.cu", "p += THREADS / 32) sum", "p += THREADS / 16) sum"),
    "warps forgotten": ("reductions.cu", "w < THREADS / 32; ++w", "w < THREADS / 32 - 1; ++w"),
    "not squared": ("patches.cuh", "SQUARED ? x * x : x", "x"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, plant, monkeypatch, name):
    monkeypatch.setattr(ours, "_WARPS_OF_OUTER", 1000)  # as many parts as there are runs
    plant(*PLANTED[name])
    arguments = problem(WINDOWS[3], (3, 17, 32), np.float32)
    found, expected = results(cupy, *arguments), by_hand(*arguments)
    with pytest.raises(AssertionError):
        assert_close(found, expected, np.float32)
