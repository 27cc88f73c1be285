"""The learned optimizers that come with the package."""

import numpy as np
import pytest

from l2lnp.data import load_dataset
from l2lnp.meta.joint import JointLearner
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import load_learned_optimizer, pretrained_names
from l2lnp.tasks.classification import Batch, Classification

BASES = {
    "lstm": "kronecker",
    "lstm-coordinates": "coordinates",
    "slstm": "kronecker",
    "slstm-coordinates": "coordinates",
}
# Mean training loss over 80 steps that each must stay below; it begins at 2.3 or more.
BARS = {"lstm": 0.4, "lstm-coordinates": 0.75, "slstm": 0.4, "slstm-coordinates": 0.6}


@pytest.mark.parametrize("network_name", ["small", "big"])
@pytest.mark.parametrize("name", BASES)
def test_it_trains_networks_it_was_not_made_for_without_tuning(name, network_name):
    learned = load_learned_optimizer(name)
    dataset = load_dataset("digits")
    network = find_network(network_name, (1, 8, 8)).build((1, 8, 8), 10)
    optimizer = make_optimizer(learned.name, network.layout, **learned.settings)
    phi = learned.fitted(optimizer.init_phi(np.random.default_rng(0)))
    learner = JointLearner(optimizer, frozen=True, n_steps=80, batch_size=64)
    training = learner.start(network.init(np.random.default_rng(0)), phi)
    task, losses = Classification(network, learned.curvature), []
    for step, (x, labels) in zip(range(80), dataset.split("train").batches(0, 64), strict=False):
        training, report = learner.step(training, task, Batch(step, x, labels))
        losses.append(report.loss)
    assert np.mean(losses) < BARS[name]
    assert training.n_restarts == 0


def test_they_say_where_they_come_from():
    assert pretrained_names() == sorted(BASES)
    for name, basis in BASES.items():
        learned = load_learned_optimizer(name)
        assert (learned.name, learned.settings.get("basis", "coordinates")) == (name.partition("-")[0], basis)
        assert "meta-trained" in learned.provenance
        assert "on the tasks 'mixture'" in learned.provenance
