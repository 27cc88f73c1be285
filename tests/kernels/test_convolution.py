"""Products with patches that are never written out, against the written-out ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.kernels import convolution
from l2lnp.kernels.convolution import Patches
from l2lnp.layers.window import Window
from l2lnp.workspace import Workspace

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 3), st.integers(0, 3)))


def columns_by_hand(image, window):
    """Return the patches (K I J, R, C, N), window by window."""
    (top, bottom), (left, right) = window.pads(image.shape[1:3])
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (i, j), (s, t), (r, c) = window.size, window.stride, window.output(image.shape[1:3])
    columns = np.empty((image.shape[0] * i * j, r, c, image.shape[3]))
    for row, column in np.ndindex(r, c):
        patch = padded[:, row * s : row * s + i, column * t : column * t + j]
        columns[:, row, column] = patch.reshape(len(columns), -1)
    return columns


def by_pixel_of_pooling(v, pooled):
    """Bring positions (.., R, C, N) into the order (a, b, r', c'): (.., R C N)."""
    (a, b), (*before, r, c, n) = pooled, v.shape
    v = v.reshape(*before, r // a, a, c // b, b, n)
    v = np.moveaxis(v, (-4, -2), (-5, -4))
    return v.reshape(*before, -1)


@st.composite
def problems(draw):
    """An image, its window and the size of a pooling that tiles the positions."""
    window = Window(draw(pairs), draw(pairs), draw(paddings))
    shape = draw(st.integers(1, 3)), draw(st.integers(3, 9)), draw(st.integers(3, 9)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    r, c = window.output(shape[1:3])
    divisors = [[d for d in (1, 2, 3) if n % d == 0] for n in (r, c)]
    pooled = draw(st.sampled_from(divisors[0])), draw(st.sampled_from(divisors[1]))
    return rng.normal(size=shape), window, pooled, rng


def arena_full_of_rubbish(patches):
    """Return an arena whose arrays hold what an earlier step left there."""
    space = Workspace()
    for key in ("taps", "v_taps", "v_padded", "v_columns", "padded", "image", "squared", "parts"):
        space.empty(key, (patches.taps.size * 40,), patches.taps).fill(np.nan)
    return space


@given(problems(), st.integers(1, 12))
def test_products(problem, n_out):
    image, window, pooled, rng = problem
    columns = columns_by_hand(image, window)
    x = by_pixel_of_pooling(columns, pooled)
    space = arena_full_of_rubbish(Patches.of(image, window, pooled, Workspace()))
    patches = Patches.of(image, window, pooled, space)
    assert patches.shape == x.shape
    np.testing.assert_array_equal(patches.as_view().reshape(x.shape), x)

    w, v = rng.normal(size=(n_out, len(x))), rng.normal(size=(n_out, *columns.shape[1:]))
    in_order = by_pixel_of_pooling(v, pooled)
    close = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(patches.product(w, np.empty((n_out, x.shape[1]))), w @ x, **close)
    np.testing.assert_allclose(patches.outer(in_order, space), in_order @ x.T, **close)
    np.testing.assert_allclose(patches.squared(space).outer(in_order, space), in_order @ (x**2).T, **close)

    back = patches.unpatch_product(w, in_order, space, "image")
    assert back.shape == image.shape
    other = rng.normal(size=image.shape)  # <unpatch(W^T V), y> = <V, W patches(y)>
    expected = np.vdot(v, np.tensordot(w, columns_by_hand(other, window), 1))
    np.testing.assert_allclose(np.vdot(back, other), expected, **close)

    seen = rng.permutation(columns.shape[1] * columns.shape[2])[:5]
    at_positions = columns.reshape(len(x), -1, image.shape[3])[:, seen].reshape(len(x), -1)
    np.testing.assert_array_equal(patches.at(seen), at_positions)
    at_positions = v.reshape(n_out, -1, image.shape[3])[:, seen].reshape(n_out, -1)
    np.testing.assert_array_equal(patches.values_at(seen, in_order), at_positions)


@pytest.mark.parametrize("rows_at_a_time", [1, 2, 3])
def test_an_outer_product_in_parts(monkeypatch, rows_at_a_time):
    most_parts = rows_at_a_time * (2 * 2) * (2 * 3 * 2) * 4  # pixels of the pooling, K I J, O
    monkeypatch.setattr(convolution, "_MOST_PARTS", most_parts)
    rng, window = np.random.default_rng(0), Window((3, 2), (1, 1), "same")
    image, v = rng.normal(size=(2, 6, 8, 5)), rng.normal(size=(4, 6, 8, 5))
    patches = Patches.of(image, window, (2, 2), Workspace())
    in_order = by_pixel_of_pooling(v, (2, 2))
    expected = by_pixel_of_pooling(columns_by_hand(image, window), (2, 2))
    np.testing.assert_allclose(patches.outer(in_order, Workspace()), in_order @ expected.T, rtol=1e-10)


def test_products_cut_into_blocks_of_columns(monkeypatch):
    monkeypatch.setattr(convolution, "block_length", lambda length, area, least: length // 2)
    rng, window = np.random.default_rng(0), Window((3, 3), (1, 1), "same")
    image, w = rng.normal(size=(2, 4, 4, 6)), rng.normal(size=(5, 18))
    patches = Patches.of(image, window, (2, 2), Workspace())
    x = by_pixel_of_pooling(columns_by_hand(image, window), (2, 2))
    np.testing.assert_allclose(patches.product(w, np.empty((5, x.shape[1]))), w @ x, rtol=1e-10)
    v = rng.normal(size=(5, x.shape[1]))
    back = patches.unpatch_product(w, v, Workspace(), "image")
    other = rng.normal(size=image.shape)
    expected = np.vdot(v, w @ by_pixel_of_pooling(columns_by_hand(other, window), (2, 2)))
    np.testing.assert_allclose(np.vdot(back, other), expected, rtol=1e-10)
