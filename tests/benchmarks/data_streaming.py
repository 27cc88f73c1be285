"""Training from an HDF5 file that is streamed, against training from arrays in memory.

    python tests/benchmarks/data_streaming.py DATA_DIR

DATA_DIR holds the official files of MNIST (``mnist/``), CIFAR-10 (``cifar-10-batches-py/``) and
Tiny ImageNet (``tiny-imagenet*``); those that are missing are left out. Both ways train in turns,
so that neighbours on the machine disturb both alike, and their epochs are compared, in each of
which the whole file is read once.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from l2lnp.data.obtaining import ImportOptions, import_dataset
from l2lnp.data.streaming import load_file
from l2lnp.execution import Execution, available_cores
from l2lnp.networks import find_network
from l2lnp.tasks.classification import Batch, Classification

BATCH_SIZE, ROUNDS = 128, 8
TURN_S = 1.0  # so long that what a thread reads ahead falls into the turns of its own way
FILES = {"mnist": "mnist", "cifar-10": "cifar-10-batches-py", "tiny-imagenet": "tiny-imagenet*"}


class Training:
    """Plain descent on one network with g and h, from one source of mini-batches."""

    def __init__(self, dataset, threads):
        rows, columns, channels = dataset.image_shape
        shape = (channels, rows, columns)
        network = find_network("small", shape).build(shape, len(dataset.class_names))
        self.task = Classification(network, execution=Execution(threads))
        self.theta = network.init(np.random.default_rng(0))
        self.split = dataset.split("train")
        self.batches = self.split.batches(0, BATCH_SIZE)

    def turn(self, n_steps):
        """Wall and CPU time of some steps; CPU time counts the threads that read ahead."""
        begin = time.perf_counter(), time.process_time()
        for x, labels in islice(self.batches, n_steps):
            found = self.task.evaluate(self.theta, Batch(0, x, labels), wants_h=True)
            self.theta = self.theta - 0.01 * found.g
        return np.array([time.perf_counter() - begin[0], time.process_time() - begin[1]])


def compare(path, threads):
    """Ratios of epochs, whose turns of a second or so change places all the time."""
    ways = [Training(load_file(path, limit_bytes), threads) for limit_bytes in (1 << 40, 0)]
    for way in ways:
        step_s = way.turn(8)[0] / 8
    n_steps = ways[0].split.steps_per_epoch(BATCH_SIZE)
    times = np.zeros((ROUNDS, 2, 2))  # epoch, way, clock
    for epoch in times:
        turns = np.array_split(range(n_steps), max(1, round(n_steps * step_s / TURN_S)))
        for i, turn in enumerate(turns):
            for way in (0, 1) if i % 2 else (1, 0):
                epoch[way] += ways[way].turn(len(turn))
    memory_ms, streamed_ms = 1e3 / n_steps * np.median(times[..., 0], axis=0)
    wall, cpu = (quartiles(times[:, 1, clock] / times[:, 0, clock]) for clock in (0, 1))
    shown = f"memory {memory_ms:.1f} ms, streamed {streamed_ms:.1f} ms a step"
    return f"{shown}; ratio {wall}, of CPU times {cpu}"


def quartiles(ratios):
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def report(data_dir, folder):
    for name, pattern in FILES.items():
        for source in list(data_dir.glob(pattern))[:1]:
            path = folder / f"{name}.h5"
            import_dataset(name, source, path, ImportOptions(), lambda done, total: None, lambda text: None)
            for threads in sorted({1, available_cores()}):
                print(f"{name}, {threads} threads: {compare(path, threads)}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report(Path(sys.argv[1]), Path(name))
