"""Training from an HDF5 file that is streamed, against training from arrays in memory.

    python tests/benchmarks/data_streaming.py DATA_DIR

DATA_DIR holds the official files of MNIST (``mnist/``), CIFAR-10 (``cifar-10-batches-py/``) and
Tiny ImageNet (``tiny-imagenet*``), and photos of ILSVRC2012 (``ilsvrc2012*``); those that are
missing are left out. Both ways train in turns, so that neighbours on the machine disturb both alike,
and their epochs are compared, in each of which the whole file is read once. Before that, pictures
are imported.
"""

import resource
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from l2lnp.data.decoding import decode
from l2lnp.data.imagenet import list_imagenet
from l2lnp.data.obtaining import ImportOptions, import_dataset
from l2lnp.data.places import read_entry
from l2lnp.data.streaming import load_file
from l2lnp.execution import Execution, available_cores
from l2lnp.networks import find_network
from l2lnp.tasks.classification import Batch, Classification

BATCH_SIZE, ROUNDS = 128, 8
TURN_S = 1.0  # so long that what a thread reads ahead falls into the turns of its own way
N_ILSVRC2012 = 1_281_167 + 50_000
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


def report_training(data_dir, folder):
    for name, pattern in FILES.items():
        for source in list(data_dir.glob(pattern))[:1]:
            path, begin = folder / f"{name}.h5", time.perf_counter()
            import_dataset(name, source, path, ImportOptions(), lambda done, total: None, lambda text: None)
            dataset, import_s = load_file(path, 0), time.perf_counter() - begin
            n = sum(split.n_samples for split in dataset.splits.values())
            print(f"{name}: {n:,} pictures imported in {import_s:.1f} s, {n / import_s:,.0f}/s")
            for threads in sorted({1, available_cores()}):
                print(f"  training, {threads} threads: {compare(path, threads)}", flush=True)


def report_photos(data_dir, folder, copies=150):
    """Decode the sample's photos many times over, as an import does, from a folder of links to them."""
    for sample in list(data_dir.glob("ilsvrc2012*"))[:1]:
        tree, contents = folder / "photos", linked_photos(sample, folder, copies)
        for size in (64, 224):
            begin = time.perf_counter()
            options, out = ImportOptions(size), folder / f"photos{size}.h5"
            import_dataset("imagenet", tree, out, options, lambda done, total: None, lambda text: None)
            rate = len(contents) * copies / (time.perf_counter() - begin)
            hours = N_ILSVRC2012 / rate / 3600
            print(f"photos at {size}: {rate:,.0f}/s; {N_ILSVRC2012:,} of ILSVRC2012: {hours:.1f} h")
        begin = time.perf_counter()
        for content in contents:
            decode(content, (224, 224, 3))
        print(f"  one core decodes {len(contents) / (time.perf_counter() - begin):,.0f}/s at 224")
        most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  most memory of the main process: {most_mb:,.0f} MB")


def linked_photos(sample, folder, copies):
    """Write the sample's photos and ``copies`` links to each; return their contents."""
    pictures, contents = list_imagenet(sample).splits["train"], []
    for i in range(len(pictures)):
        contents.append(read_entry(pictures[i]))
        original = folder / f"{i}.JPEG"
        original.write_bytes(contents[-1])
        place = folder / "photos" / "train" / pictures[i].name.split("/")[-2]
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            (place / f"{i}_{copy}.JPEG").symlink_to(original)
    return contents


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report_photos(Path(sys.argv[1]), Path(name))
        report_training(Path(sys.argv[1]), Path(name))
