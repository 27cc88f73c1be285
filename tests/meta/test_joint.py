"""Joint learning: what a boundary does, exact resume, and the guard against numbers that are not finite."""

from typing import NamedTuple

import numpy as np
import pytest
from moving import moved

from l2lnp.backend import to_host
from l2lnp.checking import slope
from l2lnp.errors import DivergedError, InputError
from l2lnp.execution import Execution
from l2lnp.meta.joint import MAX_RESTARTS, META_LOSSES, JointLearner, Training, adam_step, averaged, clipped
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.network import Evaluation
from l2lnp.optimizers import Inputs, make_optimizer
from l2lnp.tree import Layout

from .optimizees import LogCosh

LAYOUT = Layout.of_layers([("conv", {"w": (20,), "b": (3,)}), ("fully_connected", {"w": (15,)})])


class Run:
    """A learner on a small task, with batches that depend on the step alone."""

    def __init__(self, name="slstm", optimizee=None, threads=1, dtype=np.float64, settings=None, **joint):
        rng = np.random.default_rng(0)
        optimizer = make_optimizer(name, LAYOUT, Execution(threads=threads, chunk=8), **(settings or {}))
        sound = LogCosh.random(rng, LAYOUT, n_rows=50, dtype=dtype)
        self.optimizee = sound if optimizee is None else optimizee
        self.learner = JointLearner(
            optimizer, **{"unroll_length_steps": 5, "meta_learning_rate": 0.01} | joint
        )
        self.training = self.learner.start(rng.normal(size=38).astype(dtype), optimizer.init_phi(rng, dtype))
        self.reports = []

    def go(self, n_steps):
        for _ in range(n_steps):
            batch = np.random.default_rng(self.training.step).permutation(50)[:20]
            self.training, report = self.learner.step(self.training, self.optimizee, batch)
            self.reports.append(report)
        return self


def flat(training):
    """Every bit of a training."""
    trees = (training.state, training.phi, training.meta)
    parts = [(key, np.asarray(v).tobytes()) for tree in trees for key, v in sorted(tree.items())]
    return training.step, training.theta.tobytes(), parts, training.n_restarts


def test_phi_changes_every_t_steps_and_nowhere_else():
    run = Run(unroll_length_steps=3).go(10)
    assert [report.learned for report in run.reports] == [step in (3, 6, 9) for step in range(10)]
    assert run.learner.checkpoint.step == 9
    assert run.training.meta["t"] == 3


@pytest.mark.parametrize("exact", [False, True])
def test_a_boundary_is_one_adam_step_along_the_clipped_meta_gradient(exact):
    run = Run(unroll_length_steps=4, meta_learning_rate=0.02, second_derivatives=exact)
    start, optimizer = run.training, run.learner.optimizer
    run.go(5)

    batches = [np.random.default_rng(step).permutation(50)[:20] for step in range(5)]
    end = unroll(optimizer, start.phi, run.optimizee, start.theta, start.state, batches[:4])
    a_theta = run.optimizee.evaluate(end.theta, batches[4], False).g / 4
    a = meta_gradient(optimizer, start.phi, run.optimizee, end.tape, a_theta, second_derivatives=exact).phi
    norm = np.sqrt(sum((v**2).sum() for v in a.values()))
    for key, value in a.items():
        g = value * min(1.0, 1 / norm)
        step = 0.02 * g / (abs(g) + 1e-8)  # Adam's first
        np.testing.assert_allclose(run.training.phi[key], start.phi[key] - step, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("exact", [False, True])
def test_it_learns(exact):
    losses = [report.loss for report in Run(second_derivatives=exact).go(400).reports]
    assert np.mean(losses[-50:]) < 0.2 * np.mean(losses[:10])


@pytest.mark.parametrize("joint", [{}, {"second_derivatives": True}, {"frozen": True}])
@pytest.mark.parametrize("name", ["slstm", "adam"])
def test_resumed_at_the_checkpoint_it_ends_in_the_same_bytes(name, joint):
    whole = Run(name, dtype=np.float32, **joint).go(23)
    first = Run(name, dtype=np.float32, **joint).go(13)
    second = Run(name, dtype=np.float32, threads=2, **joint)
    second.training = second.learner.resume(first.learner.checkpoint)
    assert second.training.step == (10 if name == "slstm" and not joint.get("frozen") else 12)
    second.go(23 - second.training.step)
    assert flat(second.training) == flat(whole.training)


def test_a_kept_training_is_a_snapshot():
    run = Run().go(7)
    kept, before = run.training, flat(run.training)
    boundary, boundary_before = run.learner.checkpoint, flat(run.learner.checkpoint)
    run.go(9)
    assert flat(kept) == before
    assert flat(boundary) == boundary_before


def test_frozen_and_hand_designed_leave_phi_alone_and_every_step_is_a_boundary():
    for run in (Run(frozen=True), Run("momentum")):
        phi = {key: value.copy() for key, value in run.training.phi.items()}
        run.go(12)
        assert run.learner.checkpoint.step == 11
        assert not any(report.learned for report in run.reports)
        for key, value in phi.items():
            np.testing.assert_array_equal(run.training.phi[key], value)


def test_frozen_steps_are_the_optimizers_own():
    run = Run(frozen=True)
    start = run.training
    batches = [np.random.default_rng(step).permutation(50)[:20] for step in range(12)]
    end = unroll(run.learner.optimizer, start.phi, run.optimizee, start.theta, start.state, batches)
    np.testing.assert_array_equal(run.go(12).training.theta, end.theta)


class Faulty(NamedTuple):
    """Gives ``bad`` in place of loss, g or h at one call of evaluate."""

    sound: LogCosh
    part: str
    bad: float
    calls: list
    at: tuple

    def evaluate(self, theta, batch, wants_h):
        self.calls.append(theta)
        found = self.sound.evaluate(theta, batch, wants_h)
        if len(self.calls) - 1 not in self.at:
            return found
        value = getattr(found, self.part)
        return found._replace(**{self.part: self.bad if self.part == "loss" else value * self.bad})


@pytest.mark.parametrize("part", ["loss", "g", "h"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_guard_goes_back_to_the_last_boundary(part, bad):
    sound = LogCosh.random(np.random.default_rng(0), LAYOUT, n_rows=50)
    run = Run(optimizee=Faulty(sound, part, bad, [], (13,)), unroll_length_steps=5).go(13)
    boundary = run.learner.checkpoint
    assert boundary.step == 10
    run.go(1)
    assert "go back to step 10" in run.reports[-1].message
    restored = run.training
    assert (restored.step, restored.n_restarts) == (14, 1)
    assert flat(run.learner.checkpoint) == flat(restored)
    np.testing.assert_array_equal(restored.theta, boundary.theta)
    for tree in ("phi", "meta"):
        for key, value in getattr(boundary, tree).items():
            np.testing.assert_array_equal(getattr(restored, tree)[key], value)
    assert restored.state["t"] == 0
    assert not restored.state["lstm"].any()
    run.go(6)
    assert [report.learned for report in run.reports[14:]] == [False] * 5 + [True]


def test_the_guard_sees_an_update_and_a_phi_that_are_not_finite():
    run = Run()
    run.training = run.training._replace(phi={k: v * np.nan for k, v in run.training.phi.items()})
    run.go(1)
    assert run.reports[-1].message.startswith("the update is not finite")

    run = Run(unroll_length_steps=2, meta_learning_rate=1e39, dtype=np.float32).go(3)
    assert run.reports[-1].message.startswith("the optimizer's meta-parameters are not finite")
    assert all(np.isfinite(v).all() for v in run.training.phi.values())


class Hopeless(NamedTuple):
    """Nothing but NaN."""

    def evaluate(self, theta, batch, wants_h):
        return Evaluation(float("nan"), theta, theta)


@pytest.mark.parametrize("name", ["slstm", "sgd"])
def test_after_ten_restarts_in_a_row_it_gives_up(name):
    run = Run(name, optimizee=Hopeless()).go(MAX_RESTARTS)
    assert run.training.n_restarts == MAX_RESTARTS
    with pytest.raises(DivergedError, match="step 10: the loss"):
        run.go(1)


def test_a_run_that_diverges_ends():
    run = Run("sgd", settings={"learning_rate": 1e30})
    run.optimizee = Growing()
    with pytest.raises(DivergedError):
        run.go(200)


class Growing(NamedTuple):
    """f = |theta|^2 / 2, on which a large rate diverges."""

    def evaluate(self, theta, batch, wants_h):
        return Evaluation(float(theta @ theta) / 2, theta, np.ones_like(theta))


def test_whole_unrolls_between_them_forgive_restarts():
    sound = LogCosh.random(np.random.default_rng(0), LAYOUT, n_rows=50)
    faults = tuple(range(6, 600, 7))
    run = Run(optimizee=Faulty(sound, "g", np.nan, [], faults), unroll_length_steps=5).go(100)
    assert run.training.n_restarts > MAX_RESTARTS


@pytest.mark.parametrize(
    ("name", "meta_loss"),
    [
        ("mean", lambda losses: np.mean(losses)),
        ("root", lambda losses: np.mean(2.0 * np.sqrt(losses + 0.05))),
        ("log", lambda losses: np.mean(np.log(losses + 0.05))),
        ("last", lambda losses: losses[-1]),
    ],
)
def test_the_meta_loss_is_what_its_name_says(name, meta_loss):
    """The weights of the losses after each step are the meta-loss's derivatives in them."""
    run = Run(unroll_length_steps=4, meta_loss=name).go(5)
    losses = np.array([report.loss for report in run.reports[1:]])
    weights = [run.learner._weight(loss, index == 3) for index, loss in enumerate(losses)]
    for index, unit in enumerate(np.eye(4)):
        assert weights[index] == pytest.approx(slope(meta_loss, losses, unit), abs=1e-9)


def test_the_weights_of_the_losses_reach_phi():
    by_loss = {name: Run(unroll_length_steps=4, meta_loss=name).go(6).training.phi for name in META_LOSSES}
    for key in ("0/head/w", "0/lstm1/w"):
        assert len({phi[key].tobytes() for phi in by_loss.values()}) == len(META_LOSSES)


def test_clipping():
    v = np.array([3.0, 4.0])
    np.testing.assert_allclose(clipped(v, 1.0), [0.6, 0.8])
    assert clipped(v, 5.0) is v


def test_phi_goes_by_adam_along_clipped_gradients():
    """From the second step on Adam tells a clipped gradient from a long one."""
    phi, rng = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}, np.random.default_rng(0)
    gradients = [rng.normal(size=3), 50 * rng.normal(size=3)]
    vector = np.array([1.0, 2.0, 3.0])
    adam = make_optimizer("adam", Layout.of_vector(3), learning_rate=0.1)
    meta, expected = adam.init_state(vector), adam.init_state(vector)
    for g in gradients:
        phi, meta = adam_step(phi, meta, {"a": g[:2], "b": g[2:]}, 0.1, 1.0)
        u, expected = adam.update(
            {"learning_rate": np.array(0.1)}, expected, Inputs(0.0, g / max(1.0, np.linalg.norm(g)), None)
        )
        vector = vector + u
    np.testing.assert_allclose(np.append(phi["a"], phi["b"]), vector, rtol=1e-12)


def test_good_steps_made_elsewhere_forgive_restarts():
    run = Run(optimizee=Hopeless()).go(MAX_RESTARTS)
    run.learner.follow(run.training)
    run.go(MAX_RESTARTS)
    with pytest.raises(DivergedError):
        run.go(1)


@pytest.mark.parametrize("name", ["numpy", "cupy"])
def test_what_is_long_beyond_single_precision_when_squared_is_clipped_too(cupy, name):
    v = np.full(4, 1e20, np.float32)
    ours = clipped(v if name == "numpy" else moved(cupy, v), 1.0)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(to_host(ours), 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "joint",
    [
        {"unroll_length_steps": 0},
        {"unroll_length_steps": 1.5},
        {"n_steps": -3},
        {"batch_size": 0},
        {"n_samples": 2.5},
        {"meta_learning_rate": 0.0},
        {"clip_norm": -1.0},
    ],
)
def test_bad_settings_are_refused(joint):
    with pytest.raises(InputError):
        Run(**joint)


def test_training_names_what_a_checkpoint_holds():
    assert Training._fields == ("step", "theta", "state", "phi", "meta", "n_restarts", "average")


def test_the_average_weighs_late_steps_more_and_training_does_not_see_it():
    plain, run = Run(), Run(average=True)
    thetas = [run.go(1).training.theta for _ in range(40)]
    np.testing.assert_array_equal(plain.go(40).training.theta, thetas[-1])
    assert plain.training.average is None
    assert plain.training.result is plain.training.theta
    assert run.training.result is run.training.average
    weights = np.prod([np.arange(1.0, 41.0) + k for k in range(8)], axis=0)  # t (t + 1) ... (t + 7)
    expected = np.average(thetas, axis=0, weights=weights)
    np.testing.assert_allclose(run.training.average, expected, rtol=1e-10)


def test_a_restart_takes_the_average_back_too():
    run = Run(average=True, unroll_length_steps=5).go(12)
    at_boundary = run.learner.checkpoint.average
    run.optimizee = run.optimizee._replace(y=run.optimizee.y * np.nan)
    run.go(1)
    assert run.reports[-1].message is not None
    np.testing.assert_array_equal(run.training.average, at_boundary)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_begins_with_the_first_step_and_keeps_the_precision(dtype):
    start, theta = np.random.default_rng(0).normal(size=(2, 5)).astype(dtype)
    first = averaged(start, theta, 1)
    assert first.dtype == dtype
    np.testing.assert_allclose(first, theta, rtol=1e-6)
