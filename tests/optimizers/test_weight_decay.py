"""Decoupled weight decay: what every optimizer takes from theta beside its update."""

import numpy as np
import pytest
from network_tasks import Task, enlivened, make, run
from networks_of_all_kinds import draw_batch

from l2lnp.errors import InputError
from l2lnp.optimizers import OPTIMIZERS, Context, make_optimizer
from l2lnp.tree import Layout

LAYOUT = Layout.of_vector(3)


@pytest.mark.parametrize("in_basis", ["coordinates", "kronecker"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_share_of_theta_goes_beside_the_update(name, in_basis):
    """`run` has ten batches in a pass."""
    task = Task.of("convolutional", 1)
    theta, *_ = draw_batch(task.network)
    plain, decayed = (make(name, task.layout, in_basis, weight_decay=decay) for decay in (0.0, 2.0))
    phi = enlivened(plain)
    *_, kept = run(plain, phi, task, theta, 1)
    *_, after = run(decayed, phi, task, theta, 1)
    np.testing.assert_allclose(kept - after, (1 - np.exp(-0.2)) * theta, rtol=1e-9, atol=1e-12)


def test_a_pass_through_the_data_takes_the_same_share_whatever_the_batch_size():
    optimizer, theta = make_optimizer("sgd", LAYOUT, weight_decay=0.7), np.array([1.0, -2.0, 3.0])
    for batch_size in (1, 5, 20):
        after = theta
        for step in range(20 // batch_size):
            after = optimizer.moved(after, np.zeros(3), Context(step, None, batch_size, 20))
        np.testing.assert_allclose(after, np.exp(-0.7) * theta)


def test_the_decay_goes_by_the_schedule():
    optimizer = make_optimizer("sgd", LAYOUT, schedule="cosine", weight_decay=0.2)
    for step, log_kept in ((0, -0.1), (5, -0.05), (10, 0.0)):
        assert np.log(optimizer.kept(Context(step, 10, 5, 10))) == pytest.approx(log_kept)


def test_without_decay_not_a_bit_changes_and_the_precision_stays():
    theta, u = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(make_optimizer("adam", LAYOUT).moved(theta, u, Context()), theta + u)
    moved = make_optimizer("adam", LAYOUT, weight_decay=0.1).moved(theta, u, Context(0, 1, 1, 2))
    assert moved.dtype == np.float32


@pytest.mark.parametrize("decay", [-0.1, float("inf"), float("nan")])
def test_an_impossible_decay_is_refused(decay):
    expected = "the weight decay must be at least 0" if decay == -0.1 else "weight_decay must be like 0.0"
    with pytest.raises(InputError, match=f"adam: {expected}.*, not {decay}"):
        make_optimizer("adam", LAYOUT, weight_decay=decay)


def test_the_size_of_the_data_must_be_known():
    with pytest.raises(InputError, match="say how many samples there are"):
        make_optimizer("adam", LAYOUT, weight_decay=0.1).kept(Context(batch_size=3))
