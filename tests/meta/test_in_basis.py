"""Meta-gradients through the curvature basis: exact for axes that stand still, over refreshes too."""

import numpy as np
import pytest
from network_tasks import N, Task, enlivened, make
from networks_of_all_kinds import draw_batch

from l2lnp.checking import slope
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.optimizers import Context

NAMES = ["sgd", "momentum", "adam", "lstm", "slstm"]
T = 7  # refreshes at steps 0, 1, 2, 4 and 6: several segments, some of two steps


class Held:
    """An optimizer in the basis that takes its axes from an earlier run, whatever it sees."""

    def __init__(self, optimizer, states):
        self.optimizer, self.states = optimizer, states

    def look(self, task, theta, batch, context, state):
        inputs, after = self.optimizer.look(task, theta, batch, context, state)
        if after is state:
            return inputs, state
        axes = {key: v for key, v in self.states[context.step].items() if key.startswith("basis/")}
        held = {**state, **axes}
        turn = self.optimizer._turn(state, held)
        carried = self.optimizer.inner.carried(
            self.optimizer._inner(held), lambda v: self.optimizer._rotate(turn, v)
        )
        return inputs, {**held, **carried}


class Problem:
    def __init__(self, name, start=0):
        self.task = Task.of("max_pooling" if name == "sgd" else "convolutional", n_batches=T + 1)
        self.theta, *_ = draw_batch(self.task.network)
        self.optimizer = make(name, self.task.layout, basis_every=6, weight_decay=1.0)
        self.phi = enlivened(self.optimizer)
        if "learning_rate" in self.phi:
            self.phi["learning_rate"] = np.asarray(0.05)
        self.state = self.optimizer.init_state(self.theta)
        # beyond sqrt(v) at 0, where it has no slope
        self.state = {key: v + 0.1 if key in ("v", "moments") else v for key, v in self.state.items()}
        self.rng = np.random.default_rng(0)
        self.context = Context(0, T, N, 10 * N)

    def unroll(self, batches=range(T)):
        return unroll(
            self.optimizer, self.phi, self.task, self.theta, self.state, batches, context=self.context
        )

    def gradient_at(self, theta):
        return self.task.evaluate(theta, T, False).g / T

    def held(self, tape):
        return Held(self.optimizer, tape.renewed)

    def meta_loss(self, held, phi, theta):
        state, losses = self.state, []
        for step in range(T):
            context = self.context._replace(step=step)
            inputs, state = held.look(self.task, theta, step, context, state)
            losses.append(inputs.loss)
            u, state = self.optimizer.update(phi, state, inputs)
            theta = self.optimizer.moved(theta, u, context)
        return np.mean([*losses[1:], self.task.evaluate(theta, T, False).loss])

    def check(self, a_phi, a_theta, function):
        ds = {key: self.rng.normal(size=value.shape) for key, value in self.phi.items()}

        def along(length):
            return function({key: v + length * ds[key] for key, v in self.phi.items()}, self.theta)

        analytic = sum(np.vdot(a_phi[key], d) for key, d in ds.items())
        np.testing.assert_allclose(analytic, slope(along, 0.0, 1.0), rtol=1e-5, atol=1e-6)
        d = self.rng.normal(size=self.theta.shape)
        numeric = slope(lambda v: function(self.phi, v), self.theta, d)
        np.testing.assert_allclose(a_theta @ d, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_exact_meta_gradient_is_the_slope_with_the_axes_held(name):
    problem = Problem(name)
    end = problem.unroll()
    assert sorted(end.tape.renewed) == [0, 1, 2, 4, 6]
    a_end = problem.gradient_at(end.theta)
    a = meta_gradient(problem.optimizer, problem.phi, problem.task, end.tape, a_end, second_derivatives=True)
    held = problem.held(end.tape)
    problem.check(a.phi, a.theta, lambda phi, theta: problem.meta_loss(held, phi, theta))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_order_meta_gradient_is_the_slope_for_constant_gradients(name):
    problem = Problem(name)
    end = problem.unroll()
    a_end = problem.gradient_at(end.theta)
    held = problem.held(end.tape)

    def linear_meta_loss(phi, theta):
        state, total = problem.state, 0.0
        for t, step in enumerate(end.tape.steps):
            _, state = held.look(problem.task, problem.theta, 0, problem.context._replace(step=t), state)
            total += step.weight * step.inputs.g @ theta
            u, state = problem.optimizer.update(phi, state, step.inputs)
            theta = problem.optimizer.moved(theta, u, step.inputs.context)
        return total + a_end @ theta

    a = meta_gradient(problem.optimizer, problem.phi, problem.task, end.tape, a_end)
    problem.check(a.phi, a.theta, linear_meta_loss)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["adam", "lstm"])
def test_two_halves_joined_are_one_unroll(name, exact):
    problem = Problem(name)
    end = problem.unroll()
    a_end = problem.gradient_at(end.theta)
    weights = [step.weight for step in end.tape.steps]
    arguments = problem.optimizer, problem.phi, problem.task
    whole = meta_gradient(*arguments, end.tape, a_end, second_derivatives=exact)
    for half in (3, 4):  # one begins between refreshes, the other with one
        first = unroll(*arguments, problem.theta, problem.state, range(half), weights[:half], problem.context)
        context = problem.context._replace(step=half)
        second = unroll(*arguments, first.theta, first.state, range(half, T), weights[half:], context)
        np.testing.assert_array_equal(second.theta, end.theta)
        a_second = meta_gradient(*arguments, second.tape, a_end, second_derivatives=exact)
        a_first = meta_gradient(
            *arguments, first.tape, a_second.theta, a_second.state, second_derivatives=exact
        )
        for key, value in whole.phi.items():
            np.testing.assert_allclose(a_first.phi[key] + a_second.phi[key], value, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a_first.theta, whole.theta, rtol=1e-9, atol=1e-12)


def test_joint_learning_takes_the_same_meta_gradient_as_an_unroll():
    problem = Problem("lstm")
    learner = JointLearner(problem.optimizer, T, n_steps=T, batch_size=N, n_samples=10 * N)
    training = learner.start(problem.theta, problem.phi)
    training = learner.resume(training._replace(state=problem.state))
    for batch in range(T):
        training, _ = learner.step(training, problem.task, batch)
    end = problem.unroll()
    np.testing.assert_array_equal(training.theta, end.theta)
    assert learner._tape.renewed.keys() == end.tape.renewed.keys()
    after, report = learner.step(training, problem.task, T)
    assert report.learned
    assert any((after.phi[key] != value).any() for key, value in problem.phi.items())
    # the first steps of a run count in joint learning, as they do not in an unroll of its own
    assert learner.checkpoint.step == T


def test_a_step_that_is_not_finite_starts_the_basis_anew():
    problem = Problem("adam")
    learner = JointLearner(problem.optimizer, n_steps=T, batch_size=N, n_samples=10 * N)
    training = learner.start(problem.theta, problem.phi)
    for batch in range(3):
        training, _ = learner.step(training, problem.task, batch)
    problem.task.batches[3][0][:] = np.nan
    training, report = learner.step(training, problem.task, 3)
    assert report.message is not None
    assert training.state["basis/refreshes"] == training.state["basis/step"] == 0
    training, report = learner.step(training, problem.task, 2)
    assert report.message is None
    assert training.state["basis/refreshes"] == 1
