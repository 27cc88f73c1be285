"""Rescaled: what it shows of an optimizee is the optimizee's own, in other units."""

import numpy as np
from meta.optimizees import LogCosh

from l2lnp.checking import slope
from l2lnp.tasks.quadratic import Quadratic
from l2lnp.tasks.rescaled import Rescaled
from l2lnp.tree import Layout


def test_g_h_and_adjoint_are_those_of_the_function_in_other_units():
    rng = np.random.default_rng(0)
    inner = Quadratic.random(rng, 4, n_rows=6)
    task = Rescaled(inner, np.exp(rng.uniform(-2, 2, size=4)))
    theta, d = rng.normal(size=(2, 4))
    loss, g, h = task.evaluate(theta, None, wants_h=True)
    assert loss == inner.evaluate(task.scale * theta).loss
    np.testing.assert_allclose(
        g @ d, slope(lambda v: task.evaluate(v, None, False).loss, theta, d), rtol=1e-6
    )
    for i, unit in enumerate(np.eye(4)):
        second = slope(lambda v, i=i: task.evaluate(v, None, False).g[i], theta, unit)
        np.testing.assert_allclose(h[i], second, rtol=1e-6, atol=1e-7)


def test_the_adjoint_goes_through_g_and_h():
    """Of a function with third derivatives."""
    rng = np.random.default_rng(0)
    inner = LogCosh.random(rng, Layout.of_vector(4), n_rows=6)
    task, rows = Rescaled(inner, np.exp(rng.uniform(-1, 1, size=4))), np.arange(6)
    theta, d = rng.normal(size=(2, 4))
    a_loss, a_g, a_h = 0.7, *rng.normal(size=(2, 4))
    a_theta = task.adjoint(theta, rows, a_loss, a_g, a_h)

    def scalar(v):
        loss, g, h = task.evaluate(v, rows, wants_h=True)
        return a_loss * loss + a_g @ g + a_h @ h

    np.testing.assert_allclose(a_theta @ d, slope(scalar, theta, d), rtol=1e-6, atol=1e-7)
