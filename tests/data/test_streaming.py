"""Streamed splits: the same pictures as in memory, in bounded memory, the same at every resume."""

import subprocess
import sys
from itertools import islice

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.data import streaming
from l2lnp.data.augmentation import Augmentation
from l2lnp.data.dataset import Shard
from l2lnp.data.hdf5 import Description, create_datasets, write_dataset
from l2lnp.data.streaming import load_file
from l2lnp.errors import InputError

SHAPE = (4, 3, 3)
N_TRAIN, N_TEST = 230, 50


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "gzip"])
def path(tmp_path_factory, request):
    """Every picture's label is written in all its values, so that a mix-up shows."""
    path = tmp_path_factory.mktemp("streaming") / "numbered.h5"
    labels = {"train": np.arange(N_TRAIN), "test": np.arange(N_TEST)}
    splits = {
        name: (np.broadcast_to(y[:, None, None, None], (len(y), *SHAPE)).astype(np.uint8), y)
        for name, y in labels.items()
    }
    description = Description("numbered", tuple(f"c{i}" for i in range(N_TRAIN)), SHAPE, "counted")
    write_dataset(path, description, splits, compress=request.param)
    return path


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Blocks of 4 pictures, windows of 16, gaps of one picture read along."""
    image_bytes = int(np.prod(SHAPE))
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 4 * image_bytes)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 16 * image_bytes)
    monkeypatch.setattr(streaming, "_GAP_BYTES", image_bytes)


def recovered(dataset, x):
    """The numbers written in normalised pictures (C, H, W, n)."""
    mean, deviation = dataset.mean[:, None, None, None], dataset.deviation[:, None, None, None]
    values = np.rint(255 * (x * deviation + mean)).astype(int)
    assert (values == values[0, 0, 0]).all()
    return values[0, 0, 0]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_same_pictures_as_in_memory(path, split):
    memory, streamed = load_file(path).split(split), load_file(path, 0).split(split)
    assert isinstance(streamed, streaming.StreamedSplit)
    np.testing.assert_array_equal(memory.labels, streamed.labels)
    indices = np.random.default_rng(0).integers(0, memory.n_samples, 40)
    for got, expected in zip(streamed.batch(indices), memory.batch(indices), strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(streamed.in_order(7), memory.in_order(7), strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def test_pictures_and_labels_stay_together_and_each_comes_once_an_epoch(path):
    dataset = load_file(path, 0)
    split = dataset.split("train")
    seen = []
    for x, targets in islice(split.batches(3, 9), 2 * 23):
        np.testing.assert_array_equal(recovered(dataset, x), targets)
        seen.append(targets)
    for epoch in (seen[:23], seen[23:]):
        assert sorted(np.concatenate(epoch)) == sorted(split.labels)
    assert not np.array_equal(seen[0], seen[23])


def test_an_epoch_mixes_far_and_near(path):
    """Blocks are in random order, and neighbours within a window are parted."""
    split = load_file(path, 0).split("train")
    places = np.searchsorted(split.labels, np.concatenate([t for _, t in islice(split.batches(3, 9), 23)]))
    steps = np.abs(np.diff(places))
    assert np.median(steps) > 16
    assert np.mean(steps == 1) < 0.2


def test_the_last_window_is_mixed_like_the_others(path):
    split = load_file(path, 0).split("train")
    last = np.array([split._order(np.random.default_rng(seed))[-(207 % 16) :] for seed in range(20)])
    assert 0 < np.mean(np.diff(last) == 1) < 0.2  # 3/4 where blocks stay whole


@given(st.integers(0, 99), st.integers(1, 207), st.integers(0, 80), st.integers(1, 3))
def test_resumed_and_shared_batches_are_parts_of_the_same_batches(path, seed, batch_size, start, n_ranks):
    batch_size -= batch_size % n_ranks
    batch_size = max(batch_size, n_ranks)
    augmentation = Augmentation(flip=True, crop_padding=1)
    split = load_file(path, 0).split("train")
    whole = islice(split.batches(seed, batch_size, augmentation=augmentation), start, start + 3)
    shards = (
        islice(split.batches(seed, batch_size, start, augmentation=augmentation, shard=Shard(r, n_ranks)), 3)
        for r in range(n_ranks)
    )
    for (x, targets), *parts in zip(whole, *shards, strict=True):
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts], axis=-1), x)
        np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), targets)


def test_a_split_of_one_window_is_shuffled_as_in_memory(path, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1 << 20)
    memory, streamed = load_file(path).split("train"), load_file(path, 0).split("train")
    for got, expected in zip(
        islice(streamed.batches(1, 20), 25), islice(memory.batches(1, 20), 25), strict=True
    ):
        np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize("limit_bytes", [1 << 30, 0], ids=["memory", "streamed"])
def test_batches_are_the_same_in_every_array_library(path, cupy, limit_bytes):
    """On a stand-in for CuPy; on a GPU, ``tests/gpu/test_batches.py`` compares them."""
    split, changes = load_file(path, limit_bytes).split("train"), Augmentation(flip=True, crop_padding=1)
    drawn = (islice(split.batches(5, 20, 3, xp, augmentation=changes), 12) for xp in (np, cupy))
    for (x, targets), (x_there, targets_there) in zip(*drawn, strict=True):
        assert isinstance(x_there, cupy.ndarray)
        np.testing.assert_array_equal(x_there.get(), x)
        np.testing.assert_array_equal(targets_there.get(), targets)


def test_refuses_impossible_shares_at_once(path):
    split = load_file(path, 0).split("train")
    with pytest.raises(InputError, match="shared equally by 3"):
        split.batches(0, 10, shard=Shard(0, 3))
    with pytest.raises(InputError, match="choose a batch size"):
        split.batches(0, 1000)
    with pytest.raises(InputError, match="ranks count from 0 to 1"):
        Shard(2, 2)


CONSTANT_MEMORY = """
import sys
from itertools import islice
from pathlib import Path
from l2lnp.data.streaming import load_file

def resident_mib(key):
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return int(fields[key].split()[0]) / 1024

split = load_file(Path(sys.argv[1]), 1 << 28).split("train")
before = resident_mib("VmRSS")
for _ in islice(split.batches(0, 64), split.steps_per_epoch(64)):
    pass
print(resident_mib("VmHWM") - before)  # the most there ever was
"""


def grown_mib(path):
    """How much memory one epoch through the file takes beyond what an opened data set has."""
    script = [sys.executable, "-c", CONSTANT_MEMORY, str(path)]
    return float(subprocess.run(script, check=True, capture_output=True, text=True).stdout)


def big_file(path, n, written):
    """A file of n pictures 64x64x3; unless ``written``, its bytes are holes that the disk does not store."""
    with h5py.File(path, "w") as file:
        create_datasets(file, Description("big", ("a", "b"), (64, 64, 3), "made up"), {"train": n})
        file.attrs["mean"] = file.attrs["deviation"] = [0.5, 0.5, 0.5]
        rng = np.random.default_rng(0)
        for start in range(0, n if written else 0, 1000):
            rows = min(1000, n - start)
            file["train/images"][start : start + rows] = rng.integers(0, 256, (rows, 64, 64, 3), np.uint8)
    return path


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")


@LINUX
def test_a_file_beyond_the_memory_limit_streams_in_constant_memory(tmp_path):
    """527 MiB of pictures (holes), by three windows of 64 MiB and some batches."""
    assert grown_mib(big_file(tmp_path / "big.h5", 45_000, written=False)) < 350


@pytest.mark.slow
@LINUX
def test_a_written_file_of_several_gigabytes_streams_in_constant_memory(tmp_path):
    path = big_file(tmp_path / "big.h5", 300_000, written=True)
    try:
        assert path.stat().st_size > 3.6e9
        assert grown_mib(path) < 350
    finally:
        path.unlink()
