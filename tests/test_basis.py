"""The curvature basis: rotations, orthogonal iteration and their degenerate cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp import basis
from l2lnp.execution import Execution
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [
        ("conv", {"w": (3, 8), "b": (3,)}),
        ("", {}),
        ("fully_connected", {"w": (2, 12), "b": (2,)}),
        ("fully_connected", {"w": (5,)}),
    ],
    [(3, 8), (), (2, 3, 4), ()],
)
P = LAYOUT.n_coordinates
PLAIN = Execution()
seeds = st.integers(0, 2**32 - 1)


def second_moment(rng, width, n_samples=20):
    x = rng.normal(size=(width, n_samples)) * rng.uniform(0.1, 3, size=(width, 1))
    return x @ x.T / n_samples


def random_axes(rng, left_alone=()):
    widths = {key: width for key, width in basis.mode_widths(LAYOUT).items() if key not in left_alone}
    return {key: np.linalg.qr(rng.normal(size=(width, width)))[0] for key, width in widths.items()}


def test_modes():
    assert basis.mode_widths(LAYOUT) == {(0, 0): 3, (0, 1): 8, (2, 0): 2, (2, 1): 3, (2, 2): 4}


@given(seeds, st.sets(st.sampled_from(sorted(basis.mode_widths(LAYOUT)))))
def test_rotation_is_the_kronecker_product_of_the_modes(seed, left_alone):
    rng = np.random.default_rng(seed)
    axes, v = random_axes(rng, left_alone), rng.normal(size=P)
    found = LAYOUT.split(basis.rotate(LAYOUT, axes, v, PLAIN))
    params = LAYOUT.split(v)
    eye = {key: np.eye(width) for key, width in basis.mode_widths(LAYOUT).items()}
    q = {**eye, **axes}
    np.testing.assert_allclose(found[0]["w"].ravel(), np.kron(q[0, 0], q[0, 1]).T @ params[0]["w"].ravel())
    np.testing.assert_allclose(found[0]["b"], q[0, 0].T @ params[0]["b"])
    all_three = np.kron(np.kron(q[2, 0], q[2, 1]), q[2, 2])
    np.testing.assert_allclose(found[2]["w"].ravel(), all_three.T @ params[2]["w"].ravel())
    np.testing.assert_allclose(found[2]["b"], q[2, 0].T @ params[2]["b"])
    np.testing.assert_array_equal(found[3]["w"], params[3]["w"])


@given(seeds)
def test_back_again_is_the_identity_and_the_adjoint(seed):
    rng = np.random.default_rng(seed)
    axes, (v, a) = random_axes(rng), rng.normal(size=(2, P))
    turned = basis.rotate(LAYOUT, axes, v, PLAIN)
    np.testing.assert_allclose(basis.rotate_back(LAYOUT, axes, turned, PLAIN), v)
    assert a @ turned == pytest.approx(basis.rotate_back(LAYOUT, axes, a, PLAIN) @ v)


def test_threads_change_no_byte():
    rng = np.random.default_rng(0)
    axes, v = random_axes(rng), rng.normal(size=P)
    one, three = (basis.rotate(LAYOUT, axes, v, Execution(threads=n)) for n in (1, 3))
    assert one.tobytes() == three.tobytes()


@given(st.integers(1, 8), seeds)
def test_first_eigenvectors(width, seed):
    rng = np.random.default_rng(seed)
    m, reference = second_moment(rng, width), rng.normal(size=width)
    q, d = basis.eigenvectors(m, reference)
    np.testing.assert_allclose(q @ np.diag(d) @ q.T, m, atol=1e-10)
    assert (np.diff(d) <= 1e-10).all()
    assert (reference @ q >= 0).all()


@given(st.integers(2, 8), seeds)
def test_orthogonal_iteration_comes_to_the_eigenvectors_and_turns_no_column_over(width, seed):
    rng = np.random.default_rng(seed)
    d = 2.0 ** -np.arange(width)
    exact = np.linalg.qr(rng.normal(size=(width, width)))[0]
    m = exact * d @ exact.T
    signs = np.where(rng.normal(size=width) < 0, -1, 1)
    q = np.linalg.qr(exact * signs + 0.05 * rng.normal(size=(width, width)))[0]
    q *= np.where((q * exact * signs).sum(0) < 0, -1, 1)
    for _ in range(80):
        q, found = basis.iterated(m, q)
    np.testing.assert_allclose(q, exact * signs, atol=1e-5)
    np.testing.assert_allclose(found, d, rtol=1e-5)


def test_columns_stay_orthogonal_in_float32_over_1000_refreshes():
    rng = np.random.default_rng(0)
    width = 40
    m, q = np.zeros((width, width), np.float32), np.eye(width, dtype=np.float32)
    for n in range(1000):
        x = (rng.normal(size=(width, 16)) * np.logspace(0, -4, width)[:, None]).astype(np.float32)
        m = basis.averaged(n, m, x @ x.T)
        q, _ = basis.iterated(m, q) if n else basis.eigenvectors(m, np.ones(width, np.float32))
        assert q.dtype == np.float32
    assert abs(q.T @ q - np.eye(width)).max() < 1e-5


def test_the_average_forgets():
    ones = np.ones((1, 1))
    m = 5 * ones
    for n, expected in enumerate([2.0, 2.0, 2.0]):  # the mean of all, whatever stood there before
        m = basis.averaged(n, m, 2 * ones)
        assert m.item() == pytest.approx(expected)
    assert basis.averaged(1, 2 * ones, 4 * ones).item() == pytest.approx(3.0)
    assert basis.averaged(1000, 2 * ones, 4 * ones).item() == pytest.approx(2.2)
    assert basis.averaged(0, 2 * ones, 4 * ones, recency=3.0).item() == 4.0
    assert basis.averaged(1, 2 * ones, 4 * ones, recency=3.0).item() == pytest.approx(3.5)
    assert basis.averaged(1000, 2 * ones, 4 * ones, recency=3.0).item() == pytest.approx(2.2)


def test_refreshes_are_frequent_at_first():
    assert [step for step in range(45) if basis.is_refresh(step, 10)] == [0, 1, 2, 4, 10, 20, 30, 40]
    assert [step for step in range(8) if basis.is_refresh(step, 1)] == list(range(8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "m",
    [
        np.zeros((3, 3)),  # no gradient at all
        np.diag([1.0, 0.0, 2.0]),  # a dead unit
        np.full((3, 3), 2.0),  # a single sample, or constant features
        np.full((3, 3), 1e30),
        np.full((3, 3), 1e-38),
    ],
)
def test_singular_moments_give_orthogonal_axes_and_leave_columns_without_curvature(m, dtype):
    m = m.astype(dtype)
    q, _ = basis.eigenvectors(m, np.zeros(3, dtype))
    for _ in range(3):
        q, d = basis.iterated(m, q)
        assert (d >= 0).all()
        np.testing.assert_allclose(q.T @ q, np.eye(3), atol=1e-5)
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(dtype)
    if not m.any():
        np.testing.assert_allclose(basis.iterated(m, start)[0], start, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_moments_that_are_not_finite_are_left_out(bad):
    old, new = np.eye(2), np.full((2, 2), bad)
    np.testing.assert_array_equal(basis.averaged(3, old, new), old)


def test_the_references_of_signs_turn_with_the_inputs():
    rng = np.random.default_rng(0)
    g = rng.normal(size=P)
    r = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    turned = basis.rotate(LAYOUT, {(0, 1): r}, g, PLAIN)
    ours, theirs = basis.references(LAYOUT, g), basis.references(LAYOUT, turned)
    np.testing.assert_allclose(theirs[0, 1], ours[0, 1] @ r)
    np.testing.assert_array_equal(theirs[0, 0], ours[0, 0])
    assert {key: v.size for key, v in ours.items()} == basis.mode_widths(LAYOUT)


def test_the_diagonal_is_that_of_the_kronecker_product():
    rng = np.random.default_rng(0)
    spectra = {key: rng.uniform(1, 2, size=width) for key, width in basis.mode_widths(LAYOUT).items()}
    spectra[2, 1] *= spectra[2, 2].sum() / spectra[2, 1].sum()  # both are moments of one x
    h = LAYOUT.split(basis.diagonal(LAYOUT, spectra, np.zeros(P)))
    np.testing.assert_allclose(h[0]["w"], np.outer(spectra[0, 0], spectra[0, 1]))
    np.testing.assert_array_equal(h[0]["b"], spectra[0, 0])
    product = np.kron(np.kron(spectra[2, 0], spectra[2, 1]), spectra[2, 2]) / spectra[2, 1].sum()
    np.testing.assert_allclose(h[2]["w"].ravel(), product)
    np.testing.assert_array_equal(h[3]["w"], 0)
    spectra[2, 2] = spectra[2, 2].mean(keepdims=True)  # a mode left alone
    h = LAYOUT.split(basis.diagonal(LAYOUT, spectra, np.zeros(P)))
    product = np.kron(np.kron(spectra[2, 0], spectra[2, 1]), np.full(4, 1 / 4))
    np.testing.assert_allclose(h[2]["w"].ravel(), product)
    nothing = {key: np.zeros(width) for key, width in basis.mode_widths(LAYOUT).items()}
    assert not basis.diagonal(LAYOUT, nothing, np.zeros(P)).any()
