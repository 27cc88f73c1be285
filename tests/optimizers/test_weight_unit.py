"""The unit of a layer: its weights' size, within bounds."""

from math import inf, sqrt

import numpy as np
import pytest

from l2lnp.checking import slope
from l2lnp.optimizers import Context, Inputs, make_optimizer
from l2lnp.optimizers.weight_unit import LEAST_UNIT, WeightUnit
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [("conv", {"w": (2, 3, 4), "b": (2,)}), ("", {}), ("fully_connected", {"w": (3, 8), "b": (3,)})]
)
HE = sqrt(2 / 12), sqrt(2 / 8)


def theta_of(conv, fully_connected):
    """Weights of these sizes, and biases of another."""
    theta = np.full(LAYOUT.n_coordinates, 77.0)
    theta[:24], theta[26:50] = conv * np.array([-1, 1] * 12), fully_connected
    return theta


@pytest.mark.parametrize(
    ("conv", "fully_connected", "units"),
    [
        (0.3, 0.2, (0.3, 0.2)),
        (0.0, 1e-5, (LEAST_UNIT, LEAST_UNIT)),
        (100.0, 0.9, (1.5 * HE[0], 1.5 * HE[1])),
        (1.4 * HE[0], 1.6 * HE[1], (1.4 * HE[0], 1.5 * HE[1])),
        (np.nan, 0.1, (np.nan, 0.1)),
    ],
)
def test_the_size_of_the_weights_within_bounds(conv, fully_connected, units):
    found = WeightUnit(LAYOUT, 1.5).of_tensors(theta_of(conv, fully_connected))
    np.testing.assert_allclose(found, np.repeat(units, 2), rtol=1e-15)


def test_parameters_that_are_no_matrix_have_no_largest_unit():
    unit = WeightUnit(Layout.of_vector(5), 1.5)
    assert unit.largest == (inf,)
    np.testing.assert_array_equal(unit.of_tensors(np.full(5, 1e6)), [1e6])


@pytest.mark.parametrize(("conv", "fully_connected"), [(0.3, 0.2), (1e-4, 0.2), (3.0, 0.2), (3.0, 1e-4)])
def test_the_adjoint_is_zero_beyond_the_bounds(conv, fully_connected):
    rng, unit = np.random.default_rng(0), WeightUnit(LAYOUT, 1.5)
    theta, d = theta_of(conv, fully_connected), rng.normal(size=LAYOUT.n_coordinates)
    a_units = rng.normal(size=4)
    found = unit.adjoint(theta, a_units)
    np.testing.assert_allclose(
        found @ d, slope(lambda v: a_units @ unit.of_tensors(v), theta, d, 1e-7), rtol=1e-6, atol=1e-9
    )
    assert [bool(found[:24].any()), bool(found[26:50].any())] == [conv == 0.3, fully_connected == 0.2]


@pytest.mark.parametrize(
    ("full_width", "shares"), [(0, (1, 1, 1)), (12, (1, 1, 1)), (8, (8 / 12, 1, 1)), (3, (3 / 12, 3 / 8, 1))]
)
def test_steps_are_shorter_in_wide_layers_but_the_last(full_width, shares):
    """Layers with 12, 8 and 9 inputs; biases go as far as ever."""
    widths = (2, 12), (3, 8), (4, 9)
    layout = Layout.of_layers([("fully_connected", {"w": shape, "b": shape[:1]}) for shape in widths])
    rng = np.random.default_rng(0)
    theta, g = rng.normal(size=(2, layout.n_coordinates))
    inputs = Inputs(1.0, g, None, theta, Context(0, 9, 8, 80))

    def steps(**settings):
        optimizer = make_optimizer("lstm", layout, step_unit="weights", **settings)
        phi = optimizer.init_phi(np.random.default_rng(1), np.float64)
        return optimizer.update(phi, optimizer.init_state(theta), inputs)[0]

    expected = np.concatenate(
        [np.repeat((share, 1), (n * m, n)) for share, (n, m) in zip(shares, widths, strict=True)]
    )
    np.testing.assert_allclose(steps(full_width=full_width) / steps(), expected, rtol=1e-12)


@pytest.mark.parametrize(("limit", "grows"), [(1.5, False), (1e9, True)])
def test_weights_that_are_pushed_about_do_not_grow_without_end(limit, grows):
    """Steps of a share of the weights, each coordinate by its own noise."""
    optimizer = make_optimizer("lstm", LAYOUT, step_unit="weights", output_scale=1.0, unit_limit=limit)
    rng = np.random.default_rng(0)
    phi = optimizer.init_phi(rng, np.float64)
    phi |= {f"{group}/head/w": 300 * phi[f"{group}/head/w"] for group in optimizer.groups}
    theta = rng.normal(scale=0.3, size=LAYOUT.n_coordinates)
    state = optimizer.init_state(theta)
    for t in range(200):
        inputs = Inputs(1.0, rng.normal(size=theta.shape), None, theta, Context(t, 200, 8, 80))
        theta, state = optimizer.step(phi, state, inputs, theta)
    assert bool(abs(theta).max() > 1000) == grows
