"""Classification: what is measured over a split, and both losses as an optimizee."""

import numpy as np
import pytest

from l2lnp.data import load_dataset
from l2lnp.execution import Execution
from l2lnp.networks import NetworkFile, find_network
from l2lnp.tasks.classification import Batch, Classification


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits")


@pytest.fixture(params=["softmax_cross_entropy", "mean_squared_error"])
def task(request):
    text = f'loss = "{request.param}"\n' + find_network("small", (1, 8, 8)).text
    return Classification(NetworkFile("test", text).build((1, 8, 8), 10), "hesscale", Execution(), seed=1)


def test_measuring_in_blocks_is_measuring_the_whole(dataset, task):
    theta = task.network.init(np.random.default_rng(0), np.float64)
    split = dataset.split("test")
    whole, blocks = (task.measure(theta, split, block=block) for block in (1000, 70))
    assert whole.loss == pytest.approx(blocks.loss, rel=1e-12)
    np.testing.assert_array_equal(whole.confusion, blocks.confusion)
    x, labels = split.batch(np.arange(split.n_samples), dtype=np.float64)
    assert whole.loss == pytest.approx(task.evaluate(theta, Batch(0, x, labels), wants_h=False).loss)
    best = task.network.predict(theta, x).argmax(0)
    assert whole.error == pytest.approx(np.mean(best != labels))
    counted = [[np.sum((labels == true) & (best == taken)) for taken in range(10)] for true in range(10)]
    np.testing.assert_array_equal(whole.confusion, counted)


def test_the_adjoint_is_that_of_the_evaluation(dataset, task):
    rng = np.random.default_rng(0)
    theta = 0.3 * task.network.init(rng, np.float64)
    x, labels = dataset.split("train").batch(np.arange(8), dtype=np.float64)
    batch = Batch(0, x, labels)
    a_g, a_h, d = rng.normal(size=(3, theta.size))

    def scalar(theta):
        loss, g, h = task.evaluate(theta, batch, wants_h=True)
        return 0.5 * loss + a_g @ g + a_h @ h

    step = 1e-6
    numeric = (scalar(theta + step * d) - scalar(theta - step * d)) / (2 * step)
    assert task.adjoint(theta, batch, 0.5, a_g, a_h) @ d == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_random_curvature_is_a_function_of_seed_and_step(dataset):
    network = find_network("small", (1, 8, 8)).build((1, 8, 8), 10)
    task = Classification(network, "monte_carlo", seed=1)
    theta = network.init(np.random.default_rng(0))
    x, labels = dataset.split("train").batch(np.arange(8))
    h = [
        Classification(network, "monte_carlo", seed=seed).evaluate(theta, Batch(step, x, labels), True).h
        for seed, step in ((1, 3), (1, 3), (1, 4), (2, 3))
    ]
    np.testing.assert_array_equal(h[0], h[1])
    assert not np.array_equal(h[0], h[2])
    assert not np.array_equal(h[0], h[3])
    assert task.evaluate(theta, Batch(0, x, labels), wants_h=False).h is None
