"""Imitation: its gradient against differences, the teacher's own way, and that it teaches."""

import numpy as np
import pytest
from network_tasks import N, Task, enlivened, make
from networks_of_all_kinds import draw_batch

from l2lnp.checking import slope
from l2lnp.meta.imitation import imitate, imitation_gradient
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.unroll import Step, Tape
from l2lnp.optimizers import Context

T = 6
CONTEXT = Context(0, T, N, 10 * N)


class Lesson:
    """A teacher's way through ``T`` steps, and what a learned optimizer saw on it."""

    def __init__(self, name, in_basis, **settings):
        self.task = Task.of("convolutional")
        self.theta, *_ = draw_batch(self.task.network)
        own = {"basis_every": 4} if in_basis == "kronecker" else {}
        self.optimizer = make(name, self.task.layout, in_basis, **own, **settings)
        self.teacher = make("adam", self.task.layout, in_basis, **own)
        self.phi = enlivened(self.optimizer)
        self.meta = JointLearner(self.optimizer).start(self.theta, self.phi).meta

    def walk(self, phi):
        """The tape, proposals and lessons, written out."""
        state, theta = self.optimizer.init_state(self.theta), self.theta
        theirs, alpha = self.teacher.init_state(theta), {"learning_rate": np.asarray(0.004)}
        tape, proposals, lessons = Tape(state), [], []
        for t in range(T):
            context = CONTEXT._replace(step=t)
            inputs, renewed = self.optimizer.look(self.task, theta, t % 3, context, state)
            seen, theirs = self.teacher.look(self.task, theta, t % 3, context, theirs)
            tape.record(Step(inputs, 0.0), state, renewed)
            proposal, state = self.optimizer.update(phi, renewed, inputs)
            lesson, theirs = self.teacher.update(alpha, theirs, seen)
            theta = theta + lesson
            proposals.append(proposal)
            lessons.append(lesson)
        return tape, proposals, lessons, theta

    def distance(self, phi):
        _, proposals, lessons, _ = self.walk(phi)
        pairs = zip(proposals, lessons, strict=True)
        return np.mean([np.sum((a - b) ** 2) / np.sum(b**2) for a, b in pairs])

    def imitate(self, n_steps=T, truncation=T, rate=0.01, phi=None, meta=None):
        batches = (step % 3 for step in range(n_steps))
        return imitate(
            self.optimizer,
            self.teacher,
            phi or self.phi,
            meta or self.meta,
            self.task,
            self.theta,
            batches,
            truncation,
            rate,
            1.0,
            CONTEXT._replace(n_steps=n_steps),
        )


@pytest.mark.parametrize(
    ("name", "in_basis", "settings"),
    [
        ("lstm", "coordinates", {}),
        ("slstm", "coordinates", {"curvature_every": 4}),
        ("lstm", "kronecker", {}),
        ("slstm", "kronecker", {}),
    ],
)
def test_the_gradient_is_the_slope_of_the_distance(name, in_basis, settings):
    lesson = Lesson(name, in_basis, **settings)
    tape, proposals, lessons, _ = lesson.walk(lesson.phi)
    distance, a_phi = imitation_gradient(lesson.optimizer, lesson.phi, tape, proposals, lessons)
    assert distance == pytest.approx(lesson.distance(lesson.phi))
    rng = np.random.default_rng(0)
    for key, value in lesson.phi.items():
        d = rng.normal(size=value.shape)
        numeric = slope(lambda v, key=key: lesson.distance(lesson.phi | {key: v}), value, d)
        np.testing.assert_allclose(np.vdot(a_phi[key], d), numeric, rtol=1e-6, atol=1e-7)


def test_theta_goes_the_way_of_the_teacher_alone():
    lesson = Lesson("lstm", "coordinates")
    losses = lesson.imitate(truncation=2).losses
    *_, theta = lesson.walk(lesson.phi)
    again = lesson.imitate(truncation=3, rate=0.5).losses
    np.testing.assert_array_equal(losses, again)
    assert losses[0] == lesson.task.evaluate(lesson.theta, 0, False).loss
    assert len(losses) == T
    assert (theta != lesson.theta).any()


def test_unrolls_go_on_from_one_another():
    """Two unrolls written out: the state of the first is where the second begins, at its steps."""
    lesson = Lesson("slstm", "coordinates", schedule="cosine")
    tape, proposals, lessons, _ = lesson.walk(lesson.phi)
    distance, _ = imitation_gradient(lesson.optimizer, lesson.phi, tape, proposals, lessons)
    whole = lesson.imitate(truncation=T).distances
    assert whole == [pytest.approx(distance)]
    halves = lesson.imitate(truncation=T // 2, rate=1e-12).distances  # phi as good as stands still
    assert np.mean(halves) == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("in_basis", ["coordinates", "kronecker"])
def test_it_teaches(in_basis):
    lesson = Lesson("lstm", in_basis)
    phi, meta, distances = lesson.phi, lesson.meta, []
    for _ in range(14):
        phi, meta, _, of_unrolls = lesson.imitate(20, 10, 0.02, phi, meta)
        distances += of_unrolls
    assert np.mean(distances[:2]) > 10
    assert np.mean(distances[-4:]) < 0.8  # nearer to the teacher than to propose nothing, 1


def test_steps_left_over_and_numbers_that_are_not_finite_change_nothing():
    lesson = Lesson("lstm", "coordinates")
    assert lesson.imitate(5, 6).phi is lesson.phi
    lesson.task.batches[0][0][:] = np.nan
    with np.errstate(invalid="ignore"):
        assert lesson.imitate(6, 6).phi is lesson.phi
