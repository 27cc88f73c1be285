"""Ablations change h and nothing else."""

import numpy as np
import pytest

from l2lnp.experiments.ablation import ChangedCurvature, changed
from l2lnp.experiments.job import run_job
from l2lnp.runs.problem import pose

from .small_jobs import job

SLSTM = {"pretrained": "slstm-coordinates", "joint": False}


@pytest.fixture
def problem():
    return pose(job(dtype="float64", **SLSTM).settings)


def evaluated(problem, change, batch=None):
    task = changed(problem.task, change, seed=3)
    return task.evaluate(problem.begin().theta, batch or next(problem.batches(0)), wants_h=True)


@pytest.mark.parametrize("change", ["zero", "shuffled"])
def test_loss_and_gradient_stay(problem, change):
    own, other = evaluated(problem, "as it is"), evaluated(problem, change)
    assert own.loss == other.loss
    np.testing.assert_array_equal(own.g, other.g)
    assert (own.h != other.h).any()


def test_shuffled_h_stays_in_its_tensor_and_has_the_same_values(problem):
    own, other = evaluated(problem, "as it is").h, evaluated(problem, "shuffled").h
    for tensor in problem.task.layout.tensors:
        np.testing.assert_array_equal(np.sort(own[tensor.coordinates]), np.sort(other[tensor.coordinates]))
        if tensor.stop - tensor.start > 9:
            assert (own[tensor.coordinates] != other[tensor.coordinates]).any()


def test_the_permutation_stays_for_the_whole_run(problem):
    task = ChangedCurvature(problem.task, "shuffled", 3)
    theta, batches = problem.begin().theta, problem.batches(0)
    orders = []
    for _ in range(2):
        batch = next(batches)
        own, other = (t.evaluate(theta, batch, wants_h=True).h for t in (problem.task, task))
        first = problem.task.layout.tensors[-1]  # biases: no two values alike
        orders.append([int(np.flatnonzero(own[first.coordinates] == v)[0]) for v in other[first.coordinates]])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_zero_is_zero(problem):
    assert not evaluated(problem, "zero").h.any()


def test_without_h_nothing_is_changed(problem):
    theta, batch = problem.begin().theta, next(problem.batches(0))
    assert ChangedCurvature(problem.task, "zero").evaluate(theta, batch, wants_h=False).h is None


@pytest.mark.parametrize("change", ["zero", "shuffled"])
def test_the_adjoint_is_the_slope_of_the_changed_evaluation(problem, change):
    """<a, loss + g + h> along a direction, against central differences."""
    rng = np.random.default_rng(0)
    theta, batch = problem.begin().theta, next(problem.batches(0))
    task = ChangedCurvature(problem.task, change, 3)
    a_g, a_h, d = rng.normal(size=(3, theta.size))

    def value(theta):
        loss, g, h = task.evaluate(theta, batch, wants_h=True)[:3]
        return 0.7 * loss + a_g @ g + a_h @ h

    numeric = (value(theta + 1e-6 * d) - value(theta - 1e-6 * d)) / 2e-6
    assert task.adjoint(theta, batch, 0.7, a_g, a_h) @ d == pytest.approx(numeric, rel=1e-5)


def test_an_optimizer_without_h_does_not_notice():
    own, other = (run_job(job(5, optimizer="adam", h=h)) for h in ("as it is", "shuffled"))
    assert own.losses.tobytes() == other.losses.tobytes()
    own, other = (run_job(job(5, **SLSTM, h=h)) for h in ("as it is", "shuffled"))
    assert own.losses[0] == other.losses[0]
    assert (own.losses[1:] != other.losses[1:]).all()


def test_in_the_basis_h_is_changed_where_it_is_that_of_single_samples():
    settings = {"pretrained": "slstm", "joint": False, "curvature": "ekfac"}
    own, zero, shuffled = (run_job(job(5, **settings, h=h)) for h in ("as it is", "zero", "shuffled"))
    assert own.losses[0] == zero.losses[0] == shuffled.losses[0]
    assert len({result.losses[-1] for result in (own, zero, shuffled)}) == 3
