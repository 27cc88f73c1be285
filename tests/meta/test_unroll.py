"""The meta-gradient against the slope of the meta-loss, with second derivatives and without."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.checking import slope
from l2lnp.meta.unroll import Tape, meta_gradient, unroll
from l2lnp.optimizers import OPTIMIZERS, make_optimizer
from l2lnp.tasks.quadratic import Quadratic
from l2lnp.tree import Layout

from .optimizees import CONTEXT, LogCosh, enlivened, meta_loss

LAYOUT = Layout.of_layers([("conv", {"w": (2, 2), "b": (2,)}), ("fully_connected", {"w": (3,)})])
P = LAYOUT.n_coordinates

HELD = ("slstm with h held", "sou with h held")
names = st.sampled_from([*sorted(OPTIMIZERS), "slstm in units of the weights", *HELD])
lengths = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


class Problem:
    """An optimizer, an optimizee, and T + 1 batches of rows; the last one only measures."""

    def __init__(self, name, n_steps, seed, quadratic=False):
        rng = self.rng = np.random.default_rng(seed)
        log_cosh = LogCosh.random(rng, LAYOUT, n_rows=12)
        self.optimizee = Quadratic(log_cosh.w, log_cosh.y) if quadratic else log_cosh
        name, _, how = name.partition(" ")
        settings = {"n_units": (3, 2)} if OPTIMIZERS[name].learned else {"learning_rate": 0.05}
        if how == "in units of the weights":
            settings["step_unit"] = "weights"
        if how == "with h held":
            settings["curvature_every"] = 3
        self.optimizer = make_optimizer(name, LAYOUT, weight_decay=0.3 * (seed % 3), **settings)
        self.phi = enlivened(self.optimizer.init_phi(rng), rng)
        self.theta = rng.normal(size=P)
        self.state = self.optimizer.init_state(self.theta)
        self.batches = [rng.permutation(12)[:5] for _ in range(n_steps + 1)]

    def meta_loss(self, phi, theta):
        return meta_loss(self.optimizer, phi, self.optimizee, theta, self.state, self.batches)

    def gradient_at(self, theta):
        """The gradient of the last loss, over T."""
        return self.optimizee.evaluate(theta, self.batches[-1], False).g / (len(self.batches) - 1)

    def unroll(self):
        arguments = self.optimizer, self.phi, self.optimizee, self.theta, self.state, self.batches[:-1]
        return unroll(*arguments, context=CONTEXT)

    def meta_gradient(self, tape, a_theta, a_state=None, exact=True):
        return meta_gradient(
            self.optimizer, self.phi, self.optimizee, tape, a_theta, a_state, second_derivatives=exact
        )


def check_slopes(problem, phi, theta, meta_loss):
    for key, value in problem.phi.items():
        d = problem.rng.normal(size=value.shape)
        numeric = slope(lambda v, key=key: meta_loss(problem.phi | {key: v}, problem.theta), value, d)
        np.testing.assert_allclose(np.vdot(phi[key], d), numeric, rtol=1e-6, atol=1e-7)
    d = problem.rng.normal(size=P)
    numeric = slope(lambda v: meta_loss(problem.phi, v), problem.theta, d)
    np.testing.assert_allclose(np.vdot(theta, d), numeric, rtol=1e-6, atol=1e-7)


@given(names, lengths, seeds, st.booleans())
def test_exact_meta_gradient_is_the_slope_of_the_meta_loss(name, n_steps, seed, quadratic):
    problem = Problem(name, n_steps, seed, quadratic)
    end = problem.unroll()
    a = problem.meta_gradient(end.tape, problem.gradient_at(end.theta))
    check_slopes(problem, a.phi, a.theta, problem.meta_loss)


@given(names, lengths, seeds)
def test_first_order_meta_gradient_is_exact_for_constant_loss_g_and_h(name, n_steps, seed):
    """Its reference makes the same steps on constants, and reads a meta-loss linear in theta."""
    problem = Problem(name, n_steps, seed)
    end = problem.unroll()
    last = problem.gradient_at(end.theta)

    def linear_meta_loss(phi, theta):
        state, total = problem.state, 0.0
        for step in end.tape.steps:
            total += step.weight * step.inputs.g @ theta
            u, state = problem.optimizer.update(phi, state, step.inputs)
            theta = problem.optimizer.moved(theta, u, step.inputs.context)
        return total + last @ theta

    a = problem.meta_gradient(end.tape, last, exact=False)
    check_slopes(problem, a.phi, a.theta, linear_meta_loss)


@given(names, st.integers(2, 6), seeds, st.booleans())
def test_two_halves_joined_are_one_unroll(name, n_steps, seed, exact):
    problem = Problem(name, n_steps, seed)
    end = problem.unroll()
    a_end = problem.gradient_at(end.theta)
    whole = problem.meta_gradient(end.tape, a_end, exact=exact)

    half, weights = n_steps // 2, [step.weight for step in end.tape.steps]
    parts, theta, state = [], problem.theta, problem.state
    for part in (slice(0, half), slice(half, n_steps)):
        theta, state, tape = unroll(
            problem.optimizer,
            problem.phi,
            problem.optimizee,
            theta,
            state,
            problem.batches[:-1][part],
            weights[part],
            CONTEXT._replace(step=part.start),
        )
        parts.append(tape)
    np.testing.assert_array_equal(theta, end.theta)
    second = problem.meta_gradient(parts[1], a_end, exact=exact)
    first = problem.meta_gradient(parts[0], second.theta, second.state, exact=exact)
    for key, value in whole.phi.items():
        np.testing.assert_allclose(first.phi[key] + second.phi[key], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first.theta, whole.theta, rtol=1e-9, atol=1e-12)


def test_the_default_weights_leave_out_the_first_loss():
    problem = Problem("sgd", 4, seed=0)
    assert [step.weight for step in problem.unroll().tape.steps] == [0.0, 0.25, 0.25, 0.25]


def test_without_second_derivatives_theta_and_batch_are_not_needed():
    problem = Problem("slstm", 3, seed=0)
    end = problem.unroll()
    bare = Tape(end.tape.state, [step._replace(theta=None, batch=None) for step in end.tape.steps])
    a_theta = problem.gradient_at(end.theta)
    expected = problem.meta_gradient(end.tape, a_theta, exact=False)
    a = meta_gradient(problem.optimizer, problem.phi, None, bare, a_theta)
    for key, value in expected.phi.items():
        np.testing.assert_array_equal(a.phi[key], value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_meta_gradients_agree_after_one_step(name):
    """With T = 1 nothing has moved yet when g and h are taken, so phi's gradient is the same."""
    problem = Problem(name, 1, seed=5)
    end = problem.unroll()
    a_theta = problem.gradient_at(end.theta)
    exact = problem.meta_gradient(end.tape, a_theta)
    first_order = problem.meta_gradient(end.tape, a_theta, exact=False)
    for key, value in exact.phi.items():
        np.testing.assert_allclose(first_order.phi[key], value, rtol=1e-12)
