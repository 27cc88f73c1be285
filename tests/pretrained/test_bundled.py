"""The learned optimizers that come with the package."""

import numpy as np
import pytest

from l2lnp.data import load_dataset
from l2lnp.meta.joint import JointLearner
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import load_learned_optimizer, pretrained_names
from l2lnp.tasks.classification import Batch, Classification

# What they work in, and a bar for the mean training loss over 80 steps, which begins at 2.3 or more.
FOR_ANY_NETWORK = {
    "lstm": ("kronecker", 0.4),
    "lstm-coordinates": ("coordinates", 0.75),
    "slstm": ("kronecker", 0.4),
    "slstm-coordinates": ("coordinates", 0.6),
}
FOR_MNIST = ("lstm-mnist", "slstm-mnist")  # the small network; the paper's form, an LSTM for each layer
# The tasks they practised on last.
PRACTISED_ON = {
    **dict.fromkeys(FOR_MNIST, "paper-mnist"),
    "lstm": "wide-mixture",
    "lstm-coordinates": "mixture",
    "slstm": "wide-mixture",
    "slstm-coordinates": "deep-mixture",
}


def mean_loss(name, dataset, network_name, batch_size, n_steps=80):
    """Train by the bundled optimizer, frozen."""
    learned = load_learned_optimizer(name)
    rows, columns, channels = dataset.image_shape
    shape = (channels, rows, columns)
    network = find_network(network_name, shape).build(shape, 10)
    optimizer = make_optimizer(learned.name, network.layout, **learned.settings)
    phi = learned.fitted(optimizer.init_phi(np.random.default_rng(0)))
    learner = JointLearner(optimizer, frozen=True, n_steps=n_steps, batch_size=batch_size)
    training = learner.start(network.init(np.random.default_rng(0)), phi)
    task, losses = Classification(network, learned.curvature), []
    batches = dataset.split("train").batches(0, batch_size)
    for step, (x, labels) in zip(range(n_steps), batches, strict=False):
        training, report = learner.step(training, task, Batch(step, x, labels))
        losses.append(report.loss)
    assert training.n_restarts == 0
    return np.mean(losses)


@pytest.mark.parametrize("network_name", ["small", "big"])
@pytest.mark.parametrize("name", FOR_ANY_NETWORK)
def test_it_trains_networks_it_was_not_made_for_without_tuning(name, network_name):
    assert mean_loss(name, load_dataset("digits"), network_name, 64) < FOR_ANY_NETWORK[name][1]


@pytest.mark.parametrize("name", FOR_MNIST)
def test_it_trains_the_network_it_was_made_for(name, data_dir):
    assert mean_loss(name, load_dataset("mnist", data_dir), "small", 128) < 0.55


def test_they_say_where_they_come_from():
    assert pretrained_names() == sorted([*FOR_ANY_NETWORK, *FOR_MNIST])
    for name in pretrained_names():
        learned = load_learned_optimizer(name)
        basis, _ = FOR_ANY_NETWORK.get(name, ("coordinates", None))
        assert (learned.name, learned.settings.get("basis", "coordinates")) == (name.partition("-")[0], basis)
        assert "meta-trained" in learned.provenance
        assert f"on the tasks '{PRACTISED_ON[name]}'" in learned.provenance
        assert learned.settings["per"] == ("layer" if name in FOR_MNIST else "kind")
