"""Data sets and their splits: mini-batches, normalised and batch-last, as the networks take them.

A mini-batch is a pure function of (seed, step): epoch e runs through the split in
the order that ``generator(seed, "batches", e)`` draws, in consecutive slices of the
batch size; what is left at the end of an epoch is dropped. A run that is resumed
at any step therefore sees the same batches as one never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from l2lnp.backend import Array, to_backend
from l2lnp.data.hdf5 import Description, moments, survey
from l2lnp.data.hdf5_reading import open_file
from l2lnp.errors import InputError, unknown_name
from l2lnp.randomness import generator

SPLITS = ("train", "validation", "test")

Batch = tuple[Array, Array]  # x (C, H, W, n) normalised, targets (n,) int64


@dataclass(frozen=True)
class Normalisation:
    """Bytes 0..255 to (value/255 - mean) / deviation, per channel; the same bits in every array library."""

    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)

    def __call__(self, images: Array, xp: ModuleType, dtype: DTypeLike) -> Array:
        """Return images (n, H, W, C) uint8 as x (C, H, W, n) of ``dtype``."""
        scale = to_backend(xp, (1 / (255 * self.deviation)).astype(dtype))
        shift = to_backend(xp, (-self.mean / self.deviation).astype(dtype))
        x = xp.ascontiguousarray(images.transpose(3, 1, 2, 0)).astype(dtype)
        x *= scale[:, None, None, None]
        x += shift[:, None, None, None]
        return x


class Split:
    """A part of a data set, in memory: images (N, H, W, C) uint8 and labels (N,).

    Attributes
    ----------
    n_samples : int
    labels : (N,) int64
    """

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray, normalise: Normalisation) -> None:
        self.name = name
        self.images = images
        self.labels = labels
        self._normalise = normalise

    @property
    def n_samples(self) -> int:
        """N, the number of pictures."""
        return len(self.labels)

    def batch(self, indices: np.ndarray, xp: ModuleType = np, dtype: DTypeLike = np.float32) -> Batch:
        """Return the pictures at ``indices`` (n,) as x (C, H, W, n) in ``xp``, and their labels (n,)."""
        images = to_backend(xp, self.images[indices])
        return self._normalise(images, xp, dtype), to_backend(xp, self.labels[indices])

    def batches(
        self,
        seed: int,
        batch_size: int,
        start_step: int = 0,
        xp: ModuleType = np,
        dtype: DTypeLike = np.float32,
    ) -> Iterator[Batch]:
        """Yield the mini-batches of steps ``start_step``, ``start_step + 1``, ... without end.

        Raises
        ------
        InputError
            If the split has fewer than ``batch_size`` samples.
        """
        steps = self.steps_per_epoch(batch_size)
        return (
            self.batch(indices, xp, dtype)
            for epoch in count(start_step // steps)
            for indices in self._epoch(seed, epoch, batch_size)[max(0, start_step - epoch * steps) :]
        )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of whole mini-batches in one pass through the split."""
        if not 0 < batch_size <= self.n_samples:
            raise InputError(
                f"a batch of {batch_size} cannot be drawn from the {self.n_samples} {self.name} samples: "
                f"choose a batch size from 1 to {self.n_samples}"
            )
        return self.n_samples // batch_size

    def _epoch(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        """Return the indices of all mini-batches of an epoch (steps, batch_size)."""
        order = generator(seed, "batches", epoch).permutation(self.n_samples)
        n_used = self.steps_per_epoch(batch_size) * batch_size
        return order[:n_used].reshape(-1, batch_size)


@dataclass(frozen=True)
class Dataset:
    """Pictures with class labels, in the splits train, validation and test."""

    name: str
    class_names: list[str]
    image_shape: tuple[int, int, int]  # (H, W, C)
    mean: np.ndarray  # (C,) of the training images scaled to 0..1
    deviation: np.ndarray  # (C,)
    provenance: str
    splits: dict[str, Split]

    def split(self, name: str) -> Split:
        """Return the split called ``name``: train, validation or test.

        Raises
        ------
        InputError
            If there is no such split, or it holds no picture.
        """
        if name not in self.splits:
            raise unknown_name("split", name, SPLITS)
        split = self.splits[name]
        if not split.n_samples:
            raise InputError(f"data set '{self.name}' holds no {name} samples")
        return split


def from_arrays(description: Description, arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> Dataset:
    """Return the `Dataset` of images (N, H, W, C) uint8 and labels (N,) for train and test, in memory."""
    mean, deviation = moments(survey(arrays["train"][0])[0])
    return _in_memory(description, mean, deviation, arrays)


def _in_memory(
    description: Description,
    mean: np.ndarray,
    deviation: np.ndarray,
    arrays: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Dataset:
    normalise = Normalisation(mean, deviation)
    rows = train_and_validation(len(arrays["train"][1]))
    splits = {
        name: Split(name, arrays["train"][0][r], arrays["train"][1][r], normalise) for name, r in rows.items()
    }
    splits["test"] = Split("test", *arrays["test"], normalise)
    return Dataset(
        description.name,
        list(description.class_names),
        description.image_shape,
        mean,
        deviation,
        description.provenance,
        splits,
    )


def train_and_validation(n_train: int) -> dict[str, np.ndarray]:
    """Return which rows of the file's train group each split takes, ascending.

    Validation is the last tenth (rounded down) after a permutation by seed 0.
    """
    order = np.random.default_rng(0).permutation(n_train)
    n_kept = n_train - n_train // 10
    return {"train": np.sort(order[:n_kept]), "validation": np.sort(order[n_kept:])}


def load_file(path: Path) -> Dataset:
    """Return the data set in an HDF5 file of the layout in `l2lnp.data.hdf5`, read into memory."""
    file, contents = open_file(path)
    with file:
        arrays = {split: (file[split]["images"][...], labels) for split, labels in contents.labels.items()}
    return _in_memory(contents.description, contents.mean, contents.deviation, arrays)
