"""The losses: each pass against differences, and the roots of their Hessians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.checking import second_slope, slope
from l2lnp.errors import InputError
from l2lnp.layers import MeanSquaredError, SoftmaxCrossEntropy

CLOSE = {"rtol": 1e-6, "atol": 1e-7}


@st.composite
def problems(draw):
    """A loss with outputs z (C, N) of a micro-batch of N among n_total samples."""
    loss = draw(st.sampled_from([SoftmaxCrossEntropy(), MeanSquaredError()]))
    c, n = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    z = 2 * rng.normal(size=(c, n))
    targets = rng.integers(0, c, n) if loss == SoftmaxCrossEntropy() else rng.normal(size=(c, n))
    return loss, z, targets, draw(st.integers(n, 5)), rng


@given(problems())
def test_value_against_its_definition(problem):
    loss, z, targets, n_total, _ = problem
    value, _ = loss.forward(z, targets, n_total)
    if loss == SoftmaxCrossEntropy():
        p = np.exp(z) / np.exp(z).sum(0)
        expected = -sum(np.log(p[t, n]) for n, t in enumerate(targets)) / n_total
    else:
        expected = sum((z[c, n] - targets[c, n]) ** 2 / 2 for c, n in np.ndindex(z.shape)) / n_total
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@given(problems())
def test_backward_and_curvature_are_slopes(problem):
    loss, z, targets, n_total, rng = problem

    def f(v):
        return loss.forward(v, targets, n_total)[0]

    cache = f_cache(loss, z, targets, n_total)
    d = rng.normal(size=z.shape)
    np.testing.assert_allclose(np.vdot(loss.backward(cache), d), slope(f, z, d), **CLOSE)
    h_z = loss.curvature(cache)
    for i in np.ndindex(z.shape):
        unit = np.zeros_like(z)
        unit[i] = 1
        np.testing.assert_allclose(h_z[i], second_slope(f, z, unit), rtol=1e-5, atol=1e-6)


def f_cache(loss, z, targets, n_total):
    return loss.forward(z, targets, n_total)[1]


@given(problems())
def test_adjoint_is_the_slope_of_a_projection(problem):
    loss, z, targets, n_total, rng = problem
    a_loss, (a_g, a_h), d = rng.normal(), rng.normal(size=(2, *z.shape)), rng.normal(size=z.shape)

    def projection(v):
        value, cache = loss.forward(v, targets, n_total)
        return a_loss * value + np.vdot(a_g, loss.backward(cache)) + np.vdot(a_h, loss.curvature(cache))

    cache = f_cache(loss, z, targets, n_total)
    a_z = loss.adjoint(cache, a_loss, a_g, a_h)
    np.testing.assert_allclose(np.vdot(a_z, d), slope(projection, z, d), **CLOSE)
    parts = loss.adjoint(cache, a_loss, None, None) + loss.adjoint(cache, 0.0, a_g, None)
    parts = parts + loss.adjoint(cache, 0.0, None, a_h)
    np.testing.assert_allclose(parts, a_z, rtol=1e-12, atol=1e-15)


def hessian_by_differences(loss, z, targets, n_total, n):
    """The Hessian (C, C) of the loss in the outputs of sample n, from differences of the gradient."""
    columns = []
    for c in range(z.shape[0]):
        unit = np.zeros_like(z)
        unit[c, n] = 1e-5
        up, down = (loss.backward(f_cache(loss, v, targets, n_total)) for v in (z + unit, z - unit))
        columns.append((up - down)[:, n] / 2e-5)
    return np.stack(columns)


@given(problems())
def test_root_of_the_hessian(problem):
    loss, z, targets, n_total, _ = problem
    columns = list(loss.hessian_root(f_cache(loss, z, targets, n_total)))
    for n in range(z.shape[1]):
        product = sum(np.outer(s[:, n], s[:, n]) for s in columns)
        np.testing.assert_allclose(product, hessian_by_differences(loss, z, targets, n_total, n), **CLOSE)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), MeanSquaredError()])
def test_random_root_has_the_hessian_as_its_second_moment(loss):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 1))
    targets = np.array([1]) if loss == SoftmaxCrossEntropy() else rng.normal(size=(3, 1))
    cache = f_cache(loss, z, targets, 2)
    draws = np.stack([loss.random_root(cache, rng.random((3, 1)))[:, 0] for _ in range(4000)])
    products = draws[:, :, None] * draws[:, None, :]
    standard_error = products.std(0) / np.sqrt(len(products))
    expected = hessian_by_differences(loss, z, targets, 2, 0)
    assert (np.abs(products.mean(0) - expected) <= 4.5 * standard_error + 1e-9).all()


def test_softmax_cross_entropy_of_huge_outputs_is_finite():
    loss = SoftmaxCrossEntropy()
    value, cache = loss.forward(np.array([[1e4], [-1e4]], np.float32), np.array([1]), 1)
    assert value == pytest.approx(2e4)
    assert np.isfinite(loss.curvature(cache)).all()


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (SoftmaxCrossEntropy(), np.array([0, 3]), "from 0 to 2; found 0 to 3"),
        (SoftmaxCrossEntropy(), np.array([-1, 0]), "found -1 to 0"),
        (SoftmaxCrossEntropy(), np.array([0.5]), "whole numbers"),
        (MeanSquaredError(), np.zeros((2, 5)), "must be (3, 'N'), not (2, 5)"),
    ],
)
def test_wrong_targets_are_refused(loss, targets, message):
    with pytest.raises(InputError) as error:
        loss.check_targets(targets, (3,))
    assert message in str(error.value)
