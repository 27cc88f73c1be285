"""On a GPU: blocks that wait for nothing, a step as one CUDA graph, and the memory that a run takes."""

import os

import numpy as np
import pytest
from moving import moved

from l2lnp.data import load_dataset
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.layers import FullyConnected, SoftmaxCrossEntropy
from l2lnp.memory import numbers_per_parameter
from l2lnp.meta.joint import JointLearner
from l2lnp.network import Sequential
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import load_learned_optimizer
from l2lnp.runs.blocks import Blocks
from l2lnp.tasks.classification import Batch, Classification

pytestmark = pytest.mark.gpu

N_STEPS = 40


def digits_steps(xp, pretrained, length=None):
    """Return losses, and theta as bytes, of steps by a frozen learned optimizer; and what made them."""
    learned = load_learned_optimizer(pretrained)
    network = find_network("small", (1, 8, 8)).build((1, 8, 8), 10)
    optimizer = make_optimizer(learned.name, network.layout, Execution(**ON_A_GPU), **learned.settings)
    learner = JointLearner(optimizer, frozen=True, n_steps=N_STEPS, batch_size=64, n_samples=1500)
    task = Classification(network, execution=optimizer.execution)
    phi = learned.fitted(optimizer.init_phi(np.random.default_rng(0)))
    training = learner.start(*moved(xp, (network.init(np.random.default_rng(0)), phi)))
    drawn = load_dataset("digits").split("train").batches(0, 64, 0, xp, np.float32)
    batches = [Batch(step, *next(drawn)) for step in range(N_STEPS)]
    blocks, losses = Blocks(learner, task, xp), []
    blocks.length = length or blocks.length
    for start in range(0, N_STEPS, blocks.length):
        for made in blocks.run(training, batches[start : start + blocks.length]):
            training = made.training
            losses.append(made.report.loss)
    return losses, training.theta.get().tobytes(), blocks


@pytest.mark.parametrize("pretrained", ["slstm", "slstm-coordinates"])
def test_blocks_and_graphs_give_the_bytes_of_single_steps(gpu, monkeypatch, pretrained):
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")
    expected = digits_steps(gpu, pretrained, length=1)[:2]
    assert digits_steps(gpu, pretrained)[:2] == expected
    monkeypatch.delenv("L2LNP_CUDA_GRAPH")
    *found, blocks = digits_steps(gpu, pretrained)
    assert blocks.why_one_by_one is None, blocks.why_one_by_one
    # the graph counts steps on the device, where a power may differ in its last bit
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    assert digits_steps(gpu, pretrained)[1] == found[1]


def test_the_memory_model(gpu, monkeypatch):
    if os.environ.get("L2LNP_GPU_STAND_IN") == "1":
        pytest.skip("the stand-in has no memory pool; tests/test_memory.py traces its allocations")
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")  # as with networks too large for a graph
    taken = []
    for n in (1_000_000, 3_000_000):
        network = Sequential((FullyConnected(n // 10, 10),), SoftmaxCrossEntropy(), (n // 10,))
        optimizer = make_optimizer("slstm", network.layout, Execution(**ON_A_GPU))
        rng, pool = np.random.default_rng(0), gpu.cuda.MemoryPool()
        with gpu.cuda.using_allocator(pool.malloc):
            learner = JointLearner(optimizer, frozen=True, n_steps=100, batch_size=2, n_samples=20)
            x, labels = rng.normal(size=(n // 10, 2)).astype(np.float32), np.arange(2)
            theta, phi, x, labels = moved(gpu, (network.init(rng), optimizer.init_phi(rng), x, labels))
            blocks = Blocks(learner, Classification(network, execution=optimizer.execution), gpu)
            for _ in blocks.run(learner.start(theta, phi), [Batch(t, x, labels) for t in range(4)]):
                pass
            taken.append(pool.total_bytes())
    per_parameter = (taken[1] - taken[0]) / 2_000_000 / 4
    expected = numbers_per_parameter(optimizer)  # a pool holds more than is in use at once
    assert 0.85 * expected <= per_parameter <= 1.5 * expected, (per_parameter, expected)
