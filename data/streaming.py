"""Splits too big for memory: read from their file in the background, in constant memory.

The order of an epoch is drawn in two stages, so that the file is read in long pieces:
blocks of neighbouring pictures are put in a random order, then the pictures within
each window of consecutive blocks. A split that fits into one window is shuffled as a
whole. Sizes of blocks and windows depend on the size of a picture alone, so the order
is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import h5py
import numpy as np

from l2lnp.data.dataset import Batch, Dataset, Normalisation, Split, assemble, in_memory, train_and_validation
from l2lnp.data.hdf5 import images_digest
from l2lnp.data.hdf5_reading import Contents, check_digest, open_file, reading
from l2lnp.data.prefetch import prefetch

MEMORY_LIMIT_BYTES = 1 << 30  # data sets with more bytes of pictures are streamed
WINDOW_BYTES = 1 << 26  # at most three windows are in memory: in use, ready, and being read
BLOCK_BYTES = 1 << 20

Step = tuple[int, np.ndarray]  # its number, and the indices (n,) of its pictures

_BATCHES_AHEAD = 3  # fewer where they are big
_BYTES_AHEAD = 1 << 28
_GAP_BYTES = 1 << 15  # pictures between two that are wanted are read along if they have no more bytes


def load_file(path: Path, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> Dataset:
    """Return the data set in an HDF5 file: in memory where it is small, else streamed.

    In memory, the checksums of its pictures are compared as well.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not in the layout of `l2lnp.data.hdf5`.
    """
    file, contents = open_file(path)
    with file, reading(path):
        if contents.images_bytes > memory_limit_bytes:
            return _streamed(path, contents)
        arrays = {}
        for split, labels in contents.labels.items():
            images = file[split]["images"][...]
            check_digest(f"{split}/images", images_digest(images), contents.digests[split])
            arrays[split] = images, labels
    return in_memory(contents.description, arrays, (contents.mean, contents.deviation))


def _streamed(path: Path, contents: Contents) -> Dataset:
    normalise = Normalisation(contents.mean, contents.deviation)
    rows = train_and_validation(len(contents.labels["train"]))
    rows["test"] = np.arange(len(contents.labels["test"]))
    splits: dict[str, Split] = {}
    for name, r in rows.items():
        group = "test" if name == "test" else "train"
        images = FileImages(path, group, contents.description.image_shape, r)
        splits[name] = StreamedSplit(name, images, contents.labels[group][r], normalise)
    return assemble(contents.description, contents.mean, contents.deviation, splits)


class FileImages:
    """Some rows of the images in a file, read when they are asked for."""

    def __init__(self, path: Path, group: str, image_shape: tuple[int, ...], rows: np.ndarray) -> None:
        self.image_shape = image_shape
        self._path = path
        self._group = group
        self._rows = rows
        self._file: h5py.File | None = None
        self._opening = Lock()

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read images (m, H, W, C), and say which of them are those at ``indices`` (n,), which ascend."""
        with self._opening:
            if self._file is None:
                self._file, _ = open_file(self._path)
        dataset = self._file[self._group]["images"]
        runs = _runs(self._rows[indices], prod(self.image_shape))
        images = np.empty((sum(run[-1] + 1 - run[0] for run in runs), *self.image_shape), np.uint8)
        places, start = [], 0
        with reading(self._path):
            for run in runs:
                stop = start + run[-1] + 1 - run[0]
                dataset.read_direct(images[start:stop], np.s_[run[0] : run[-1] + 1])
                places.append(start + run - run[0])
                start = stop
        return images, np.concatenate(places)


def _runs(rows: np.ndarray, image_bytes: int) -> list[np.ndarray]:
    """Cut ascending ``rows`` where what lies between two of them is too much to read along."""
    between = (np.diff(rows) - 1) * image_bytes
    return np.split(rows, np.flatnonzero(between > _GAP_BYTES) + 1)


class StreamedSplit(Split):
    """A part of a data set in a file: two threads read ahead and prepare mini-batches."""

    def __init__(self, name: str, images: FileImages, labels: np.ndarray, normalise: Normalisation) -> None:
        super().__init__(name, labels, normalise)
        self._store = images
        image_bytes = prod(images.image_shape)
        self._block = max(1, BLOCK_BYTES // image_bytes)
        self._window = max(1, WINDOW_BYTES // BLOCK_BYTES) * self._block

    def batches(self, seed: int, batch_size: int, *settings: Any, **named: Any) -> Iterator[Batch]:
        """Yield mini-batches as `Split.batches` does, prepared ahead by a background thread."""
        return prefetch(super().batches(seed, batch_size, *settings, **named), self._ahead(batch_size))

    def in_order(self, batch_size: int, *settings: Any, **named: Any) -> Iterator[Batch]:
        """Yield the whole split once, as `Split.in_order` does, prepared ahead by a background thread."""
        return prefetch(super().in_order(batch_size, *settings, **named), self._ahead(batch_size))

    def _ahead(self, batch_size: int) -> int:
        batch_bytes = 4 * batch_size * prod(self._store.image_shape)
        return min(_BATCHES_AHEAD, max(1, _BYTES_AHEAD // batch_bytes))

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        n = self.n_samples
        if n <= self._window:
            return rng.permutation(n)
        blocks = rng.permutation(-(-n // self._block))
        order = (blocks[:, None] * self._block + np.arange(self._block)).reshape(-1)
        order = order[order < n]
        for start in range(0, n, self._window):
            rng.shuffle(order[start : start + self._window])
        return order

    def _pictures(
        self, steps: Iterator[Step], batch_size: int
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        n_steps = max(1, self.n_samples // batch_size)

        def window(item: Step) -> tuple[int, int]:
            epoch, step = divmod(item[0], n_steps)
            return epoch, step * batch_size // self._window

        units = (list(unit) for _, unit in groupby(steps, window))
        for unit, images, places in prefetch(map(self._load, units), 1):
            for (step, indices), wanted in zip(unit, places, strict=True):
                yield step, indices, images[wanted]

    def _load(self, unit: list[Step]) -> tuple[list[Step], np.ndarray, list[np.ndarray]]:
        """Read all pictures of some steps at once; return also where those of each step are."""
        images, places = self._find(np.concatenate([indices for _, indices in unit]))
        ends = np.cumsum([len(indices) for _, indices in unit])
        return unit, images, np.split(places, ends[:-1])

    def _read(self, indices: np.ndarray) -> np.ndarray:
        images, places = self._find(indices)
        return images[places]

    def _find(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read images (m, H, W, C), and say which of them are those at ``indices`` (n,), in any order."""
        unique, which = np.unique(indices, return_inverse=True)
        images, places = self._store.read(unique)
        return images, places[which]
