"""On a GPU: the same bytes from two runs, and from two at once; too little memory ends in one sentence."""

import os
import subprocess
import sys

import numpy as np
import pytest

from l2lnp.cli import main
from l2lnp.data import load_dataset
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda.graph import Graph
from l2lnp.meta.joint import JointLearner
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.tasks.classification import Batch, Classification

pytestmark = pytest.mark.gpu


def trained(xp, n_steps=30):
    """Return theta and phi after joint training of the digits, as bytes."""
    execution = Execution(**ON_A_GPU)
    network = find_network("small", (1, 8, 8)).build((1, 8, 8), 10)
    optimizer = make_optimizer("slstm", network.layout, execution)
    learner, task = JointLearner(optimizer), Classification(network, execution=execution)
    theta, phi = network.init(np.random.default_rng(0)), optimizer.init_phi(np.random.default_rng(1))
    training = learner.start(xp.asarray(theta), {key: xp.asarray(value) for key, value in phi.items()})
    drawn = load_dataset("digits").split("train").batches(0, 64, 0, xp, np.float32)
    for step in range(n_steps):
        training, _ = learner.step(training, task, Batch(step, *next(drawn)))
    return training.theta.get().tobytes() + b"".join(v.get().tobytes() for v in training.phi.values())


def test_two_runs_give_the_same_bytes(gpu):
    assert trained(gpu) == trained(gpu)


def test_two_processes_at_once(gpu):
    if os.environ.get("L2LNP_GPU_STAND_IN") == "1":
        pytest.skip("another process has no stand-in")
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{_AS_MODULE}"
    pair = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    results = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert results[0] == results[1] == trained(gpu)


_AS_MODULE = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("behaviour", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from l2lnp.backend import load_backend
sys.stdout.buffer.write(module.trained(load_backend("cupy")))
"""


def test_graphs_that_are_dropped_give_their_memory_back(gpu):
    """What the driver says is free after each of twenty graphs of a megabyte and more."""
    if os.environ.get("L2LNP_GPU_STAND_IN") == "1":
        pytest.skip("the stand-in has no memory of its own")
    x, free = gpu.ones(1 << 20, np.float32), []
    for _ in range(20):
        graph = Graph(gpu, lambda: (x + 1) * x)
        assert float(graph.launch()[-1]) == 2.0
        del graph
        gpu.get_default_memory_pool().free_all_blocks()
        gpu.cuda.Device().synchronize()
        free.append(gpu.cuda.runtime.memGetInfo()[0])
    assert free[1] - free[-1] < 8 << 20  # nineteen that keep theirs would take 150 MB and more


def test_too_little_memory_is_one_sentence(gpu, capsys, monkeypatch, tmp_path):
    if os.environ.get("L2LNP_GPU_STAND_IN") == "1":
        pytest.skip("the stand-in has the memory of the host")
    monkeypatch.chdir(tmp_path)
    pool = gpu.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    try:
        with pytest.raises(SystemExit) as end:
            main(["train", "--backend", "cupy", "--network", "big", "--steps", "2"])
    finally:
        pool.set_limit(size=0)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not enough GPU memory" in said
    assert "--batch-size" in said
