"""Every pass of every layer against one computed another way, in float64."""

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from l2lnp import checking
from l2lnp.checking import LayerProblem
from l2lnp.layers import (
    FUNCTIONS,
    LSTM,
    Activation,
    AvgPool2D,
    Conv2D,
    Flatten,
    FullyConnected,
    MaxPool2D,
    Rows,
    lstm_cell,
)

seeds = st.integers(0, 2**32 - 1)


@given(st.one_of(strategies.layers(), strategies.lstms()), st.integers(1, 4), seeds)
def test_every_pass_but_the_definition_of_curvature(case, batch_size, seed):
    p = LayerProblem.draw(*case, batch_size=batch_size, seed=seed)
    assert checking.check_backward(p) <= checking.FIRST_RTOL
    assert checking.check_adjoint(p, p.backward, p.backward_adjoint) <= checking.FIRST_RTOL
    assert checking.check_adjoint(p, p.curvature, p.curvature_adjoint) <= checking.FIRST_RTOL
    assert checking.check_squared_gradients(p) <= 1e-10


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("seed", range(2))
def test_every_activation(name, seed):
    for check in checking.gradcheck(Activation(name), (3, 4), seed=seed):
        assert check.passed, check


@given(st.one_of(strategies.layers(), strategies.lstms()), seeds)
def test_curvature_adjoint_in_the_gauss_newton_form(case, seed):
    p = LayerProblem.draw(*case, seed=seed).without_g_y()
    assert checking.check_adjoint(p, p.curvature, p.curvature_adjoint) <= checking.FIRST_RTOL


@given(strategies.layers(), st.integers(1, 3), seeds)
def test_curvature_is_the_second_slope_under_a_separable_loss(case, batch_size, seed):
    p = LayerProblem.draw(*case, batch_size=batch_size, seed=seed)
    assert checking.check_curvature(p) <= checking.SECOND_RTOL


@given(strategies.lstms(max_steps=1), seeds)
def test_curvature_of_one_lstm_step_in_its_parameters(case, seed):
    p = LayerProblem.draw(*case, seed=seed)
    assert checking.check_curvature(p, names={"w", "b"}) <= checking.SECOND_RTOL


@given(st.integers(1, 3), seeds)
def test_curvature_of_an_lstm_cell_in_its_pre_activations_and_state(n_units, seed):
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(4 * n_units, 2)), rng.normal(size=(n_units, 2))
    g_y, h_y = rng.normal(size=(2, 2, n_units, 2))
    hidden, c_next, cell = lstm_cell.forward(a, c)
    loss = checking.separable(g_y, h_y, np.stack([hidden, c_next]))
    g = lstm_cell.backward(cell, *g_y)
    h = lstm_cell.curvature(cell, g, *h_y)

    def f(moved_a, moved_c):
        return loss(np.stack(lstm_cell.forward(moved_a, moved_c)[:2]))

    for i in np.ndindex(a.shape):
        unit = np.zeros_like(a)
        unit[i] = 1
        numeric = checking.second_slope(lambda v: f(v, c), a, unit)
        np.testing.assert_allclose(h.a[i], numeric, rtol=1e-5, atol=1e-6)
    for i in np.ndindex(c.shape):
        unit = np.zeros_like(c)
        unit[i] = 1
        numeric = checking.second_slope(lambda v: f(a, v), c, unit)
        np.testing.assert_allclose(h.c[i], numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(2, 3, 3, padding="same"), (2, 5, 4)),
        (FullyConnected(5, 3), (5,)),
        (MaxPool2D(3, 2, 1), (2, 5, 5)),
        (AvgPool2D(3, 2, 1), (2, 5, 5)),
        (LSTM(3, 2, "all"), (3, 4)),
        (Flatten(), (2, 3, 2)),
        (Rows(), (2, 3, 2)),
        *[(Activation(name), (3, 4)) for name in sorted(FUNCTIONS)],
    ],
    ids=str,
)
def test_float32_follows_float64(layer, shape):
    for check in checking.gradcheck(layer, shape, dtype=np.float32):
        assert check.passed, check
    p = LayerProblem.draw(layer, shape, dtype=np.float32)
    results = [p.forward(p.variables), *p.backward(p.variables).values(), *p.curvature(p.variables).values()]
    assert {r.dtype for r in results} == {np.dtype(np.float32)}


@given(strategies.layers(), seeds)
def test_the_first_layer_may_leave_its_input_out(case, seed):
    p = LayerProblem.draw(*case, seed=seed)
    v, params = p.variables, p.params(p.variables)
    cache = p.layer.forward(params, v["x"])[1]
    _, g = p.layer.backward(params, cache, v["g_y"], wants_x=False)
    _, h = p.layer.curvature(params, cache, v["g_y"], v["h_y"], wants_x=False)
    for name in params:
        np.testing.assert_array_equal(g[name], p.backward(v)[name])
        np.testing.assert_array_equal(h[name], p.curvature(v)[name])
