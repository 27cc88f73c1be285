"""The learned optimizer that comes with the package."""

import numpy as np

from l2lnp.data import load_dataset
from l2lnp.meta.joint import JointLearner
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import load_learned_optimizer, pretrained_names
from l2lnp.tasks.classification import Batch, Classification


def test_it_trains_networks_it_was_not_made_for_without_tuning():
    learned = load_learned_optimizer("slstm")
    dataset = load_dataset("digits")
    for name, bound in (("small", 0.6), ("big", 0.6)):
        network = find_network(name, (1, 8, 8)).build((1, 8, 8), 10)
        optimizer = make_optimizer(learned.name, network.layout, **learned.settings)
        phi = learned.fitted(optimizer.init_phi(np.random.default_rng(0)))
        learner = JointLearner(optimizer, frozen=True)
        training = learner.start(network.init(np.random.default_rng(0)), phi)
        task, losses = Classification(network, learned.curvature), []
        for step, (x, labels) in zip(range(80), dataset.split("train").batches(0, 64), strict=False):
            training, report = learner.step(training, task, Batch(step, x, labels))
            losses.append(report.loss)
        assert np.mean(losses) < bound
        assert training.n_restarts == 0


def test_it_says_where_it_comes_from():
    assert pretrained_names() == ["slstm"]
    provenance = load_learned_optimizer("slstm").provenance
    assert "meta-trained" in provenance
    assert "150 of 400 episodes" in provenance
