"""Least squares: g and h against differences of f, and the adjoint against differences of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.checking import second_slope, slope
from l2lnp.tasks.quadratic import Quadratic

problems = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))


@given(problems)
def test_g_and_h_are_slopes_of_f(problem):
    p, m, seed = problem
    rng = np.random.default_rng(seed)
    task, theta, batch = Quadratic.random(rng, p, m), rng.normal(size=p), rng.permutation(m)[: m // 2 + 1]
    _, g, h = task.evaluate(theta, batch)

    def f(v):
        return task.evaluate(v, batch).loss

    d = rng.normal(size=p)
    np.testing.assert_allclose(g @ d, slope(f, theta, d), rtol=1e-6, atol=1e-7)
    for i, unit in enumerate(np.eye(p)):
        np.testing.assert_allclose(h[i], second_slope(f, theta, unit), rtol=1e-5, atol=1e-6)


@given(problems)
def test_adjoint_is_the_slope(problem):
    p, m, seed = problem
    rng = np.random.default_rng(seed)
    task, theta = Quadratic.random(rng, p, m), rng.normal(size=p)
    a_loss, (a_g, a_h, d) = rng.normal(), rng.normal(size=(3, p))

    def projection(v):
        loss, g, h = task.evaluate(v)
        return a_loss * loss + a_g @ g + a_h @ h

    a_theta = task.adjoint(theta, None, a_loss, a_g, a_h)
    np.testing.assert_allclose(a_theta @ d, slope(projection, theta, d), rtol=1e-6, atol=1e-7)


def test_h_only_where_wanted():
    task = Quadratic.random(np.random.default_rng(0), 3)
    assert task.evaluate(np.zeros(3), None, wants_h=False).h is None


def test_the_adjoint_takes_none_for_zero():
    task, theta = Quadratic.random(np.random.default_rng(0), 3), np.ones(3)
    zeros = np.zeros(3)
    assert task.adjoint(theta, None, 2.0) == pytest.approx(task.adjoint(theta, None, 2.0, zeros, zeros))
