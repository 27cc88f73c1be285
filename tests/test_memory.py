"""The memory model against allocations, traced over the stand-in for CuPy."""

import gc
import tracemalloc
from functools import partial
from math import prod

import numpy as np
import pytest
from moving import moved

from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda import lstm_adjoint
from l2lnp.layers import FullyConnected, SoftmaxCrossEntropy
from l2lnp.memory import default_slstm, largest_network, needed, numbers_per_parameter, numbers_per_sample
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.settings import UNIVERSAL
from l2lnp.network import Sequential
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.runs.blocks import Blocks
from l2lnp.tasks.classification import Batch, Classification

MANY = tuple(UNIVERSAL["slstm"]["features"])
KINDS = [  # optimizer, settings, T
    ("slstm", {"n_units": (2, 2)}, None),
    ("slstm", {"n_units": (8, 8)}, None),
    ("slstm", {"n_units": (2, 2), "features": MANY, "step_unit": "weights"}, None),
    ("slstm", {"n_units": (2, 2)}, 2),
    ("slstm", {"n_units": (4, 6)}, 4),
    ("slstm", {"n_units": (2, 2), "features": MANY, "step_unit": "weights"}, 2),
    ("adam", {}, None),
    ("momentum", {}, None),
]


def wide_network(n_parameters):
    return Sequential((FullyConnected(n_parameters // 10, 10),), SoftmaxCrossEntropy(), (n_parameters // 10,))


def trained(xp, network, name, settings, unroll_length_steps, n_samples=2):
    """Make a block of steps."""
    execution = Execution(**ON_A_GPU)
    optimizer = make_optimizer(name, network.layout, execution, **settings)
    is_frozen, rng = unroll_length_steps is None, np.random.default_rng(0)
    learner = JointLearner(
        optimizer, unroll_length_steps or 1, frozen=is_frozen, n_steps=100, batch_size=2, n_samples=20
    )
    x, labels = (
        rng.normal(size=(*network.input_shape, n_samples)).astype(np.float32),
        np.arange(n_samples) % 2,
    )
    theta, phi, x, labels = moved(xp, (network.init(rng), optimizer.init_phi(rng), x, labels))
    batches = [Batch(t, x, labels) for t in range(2 * (unroll_length_steps or 1) + 2)]
    blocks = Blocks(learner, Classification(network, execution=execution), xp)
    return list(blocks.run(learner.start(theta, phi), batches))[-1].training


def peak(run):
    """Return the most numbers allocated at once; the first of two runs also compiles and imports."""
    found = []
    for _ in range(2):
        gc.collect()
        tracemalloc.start()
        run()
        found.append(tracemalloc.get_traced_memory()[1] / 4)
        tracemalloc.stop()
    return min(found)


@pytest.mark.parametrize(("name", "settings", "unroll_length_steps"), KINDS)
def test_numbers_for_a_parameter(cupy, monkeypatch, name, settings, unroll_length_steps):
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")  # as with networks too large for a graph
    monkeypatch.setattr(lstm_adjoint, "_MOST_BLOCKS", 8)  # sums over blocks take the same in large networks
    sizes = (6_000, 18_000) if name == "slstm" else (100_000, 300_000)  # far above what every run takes
    low, high = (
        peak(partial(trained, cupy, wide_network(n), name, settings, unroll_length_steps)) for n in sizes
    )
    optimizer = make_optimizer(name, wide_network(10_000).layout, **settings)
    expected = numbers_per_parameter(optimizer, unroll_length_steps)
    assert (high - low) / (sizes[1] - sizes[0]) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("with_h", [True, False])
@pytest.mark.parametrize(("name", "shape"), [("small", (1, 12, 12)), ("big", (3, 16, 16))])
def test_numbers_for_a_sample(cupy, name, shape, with_h):
    network, peaks = find_network(name, shape).build(shape, 10), []
    for n in (4, 24):
        rng, execution = np.random.default_rng(0), Execution(**ON_A_GPU)
        x, labels = rng.normal(size=(*shape, n)).astype(np.float32), rng.integers(0, 10, n)
        arguments = *moved(cupy, (network.init(rng), x, labels)), "hesscale" if with_h else None, execution
        network.evaluate(*arguments)
        execution.workspace = type(execution.workspace)()
        tracemalloc.start()
        network.evaluate(*arguments)
        peaks.append(tracemalloc.get_traced_memory()[1] / 4)
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 20 == pytest.approx(numbers_per_sample(network, with_h), rel=0.1)


def test_bytes_of_a_run():
    shape = (3, 32, 32)
    network = find_network("big", shape).build(shape, 10)
    memory = needed(network, make_optimizer("slstm", network.layout), 128)
    assert memory.of_parameters == 4 * 261 * 81_290
    assert memory.of_samples == pytest.approx(4 * 128 * 2.05 * sum(map(prod, network.shapes[1:])))
    assert memory.total == memory.of_parameters + memory.of_samples
    assert largest_network(1e9, default_slstm()) == int(1e9 / 4 / 261)
    recurrent = find_network("row-lstm", (1, 8, 8)).build((1, 8, 8), 10)
    assert numbers_per_sample(recurrent) is None
