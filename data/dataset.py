"""Data sets and their splits: mini-batches, normalised and batch-last, as the networks take them.

A mini-batch is a pure function of (seed, step): epoch e runs through the split in an
order that ``generator(seed, "batches", e)`` draws, in consecutive slices of the batch
size; what is left at the end of an epoch is dropped. A run that is resumed at any
step therefore sees the same batches as one never interrupted, in every array library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from l2lnp.backend import Array, to_backend
from l2lnp.data.augmentation import Augmentation
from l2lnp.data.hdf5 import Description, check_contrast, moments, survey
from l2lnp.errors import InputError, unknown_name
from l2lnp.randomness import generator

SPLITS = ("train", "validation", "test")

Batch = tuple[Array, Array]  # x (C, H, W, n) normalised, targets (n,) int64
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # train and test: images (N, H, W, C) uint8, labels (N,)


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


@dataclass(frozen=True)
class Shard:
    """One process of ``n_ranks`` that share each mini-batch: their shares, joined by rank, are the batch."""

    rank: int = 0
    n_ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.n_ranks:
            raise InputError(f"rank {self.rank} of {self.n_ranks}: ranks count from 0 to {self.n_ranks - 1}")

    def of(self, batch_size: int) -> slice:
        """Return this rank's part of a mini-batch."""
        size, rest = divmod(batch_size, self.n_ranks)
        if rest:
            raise InputError(f"a batch of {batch_size} cannot be shared equally by {self.n_ranks} ranks")
        return slice(self.rank * size, (self.rank + 1) * size)


WHOLE = Shard()


class Split(ABC):
    """A part of a data set.

    Attributes
    ----------
    n_samples : int
    labels : (N,) int64
    """

    def __init__(self, name: str, labels: np.ndarray, normalise: Normalisation) -> None:
        self.name = name
        self.labels = labels
        self._normalise = normalise

    @property
    def n_samples(self) -> int:
        """N, the number of pictures."""
        return len(self.labels)

    def batch(self, indices: np.ndarray, xp: ModuleType = np, dtype: DTypeLike = np.float32) -> Batch:
        """Return the pictures at ``indices`` (n,) as x (C, H, W, n) in ``xp``, and their labels (n,)."""
        return self._finish(self._read(np.asarray(indices)), indices, xp, dtype)

    def batches(
        self,
        seed: int,
        batch_size: int,
        start_step: int = 0,
        xp: ModuleType = np,
        dtype: DTypeLike = np.float32,
        augmentation: Augmentation | None = None,
        shard: Shard = WHOLE,
    ) -> Iterator[Batch]:
        """Yield the mini-batches of steps ``start_step``, ``start_step + 1``, ... without end.

        Raises
        ------
        InputError
            If the split has fewer than ``batch_size`` samples, or the ranks cannot share it.
        """
        self.steps_per_epoch(batch_size)
        share = shard.of(batch_size)

        def serve() -> Iterator[Batch]:
            steps = self._steps(seed, batch_size, start_step)
            mine = ((step, indices[share]) for step, indices in steps)
            for step, indices, images in self._pictures(mine, batch_size):
                if augmentation is not None:
                    images = augmentation(images, seed, step, batch_size, share)
                yield self._finish(images, indices, xp, dtype)

        return serve()

    def in_order(
        self, batch_size: int, xp: ModuleType = np, dtype: DTypeLike = np.float32
    ) -> Iterator[Batch]:
        """Yield the whole split once, in its own order; the last batch may be smaller."""
        starts = range(0, self.n_samples, batch_size)
        steps = ((i, np.arange(a, min(a + batch_size, self.n_samples))) for i, a in enumerate(starts))
        for _, indices, images in self._pictures(steps, batch_size):
            yield self._finish(images, indices, xp, dtype)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of whole mini-batches in one pass through the split."""
        if not 0 < batch_size <= self.n_samples:
            raise InputError(
                f"a batch of {batch_size} cannot be drawn from the {self.n_samples} {self.name} samples: "
                f"choose a batch size from 1 to {self.n_samples}"
            )
        return self.n_samples // batch_size

    def _steps(self, seed: int, batch_size: int, start_step: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each step and the indices (batch_size,) of its mini-batch."""
        n_steps = self.steps_per_epoch(batch_size)
        for epoch in count(start_step // n_steps):
            order = self._order(generator(seed, "batches", epoch))
            first = epoch * n_steps
            for step in range(max(start_step, first), first + n_steps):
                place = (step - first) * batch_size
                yield step, order[place : place + batch_size]

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the order (N,) of one epoch."""
        return rng.permutation(self.n_samples)

    def _pictures(
        self, steps: Iterator[tuple[int, np.ndarray]], batch_size: int
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Add to each step its images (n, H, W, C)."""
        return ((step, indices, self._read(indices)) for step, indices in steps)

    @abstractmethod
    def _read(self, indices: np.ndarray) -> np.ndarray:
        """Return the images (n, H, W, C) uint8 at ``indices`` (n,)."""

    def _finish(self, images: np.ndarray, indices: np.ndarray, xp: ModuleType, dtype: DTypeLike) -> Batch:
        x = self._normalise(to_backend(xp, images), xp, dtype)
        return x, to_backend(xp, self.labels[indices])


class MemorySplit(Split):
    """A part of a data set in memory: images (N, H, W, C) uint8."""

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray, normalise: Normalisation) -> None:
        super().__init__(name, labels, normalise)
        self.images = images

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return self.images[indices]


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
            way_out = " or with --test-share" if name == "test" else ""
            raise InputError(
                f"data set '{self.name}' holds no {name} samples: import it again with more pictures{way_out}"
            )
        return split


def in_memory(
    description: Description,
    arrays: Arrays,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> Dataset:
    """Return the `Dataset` of ``arrays``; mean and deviation (C,) are computed unless given.

    Raises
    ------
    InputError
        If a channel has no contrast.
    """
    mean, deviation = statistics or moments(survey(arrays["train"][0])[0])
    check_contrast(deviation, description.name)
    normalise = Normalisation(mean, deviation)
    images, labels = arrays["train"]
    splits: dict[str, Split] = {
        name: MemorySplit(name, images[rows], labels[rows], normalise)
        for name, rows in train_and_validation(len(labels)).items()
    }
    splits["test"] = MemorySplit("test", *arrays["test"], normalise)
    return assemble(description, mean, deviation, splits)


def assemble(
    description: Description, mean: np.ndarray, deviation: np.ndarray, splits: dict[str, Split]
) -> Dataset:
    """Return the `Dataset` that has these splits."""
    names = list(description.class_names)
    shape, provenance = description.image_shape, description.provenance
    return Dataset(description.name, names, shape, mean, deviation, provenance, splits)


def train_and_validation(n_train: int) -> dict[str, np.ndarray]:
    """Return which rows of the file's train group each split takes, ascending.

    Validation is the last tenth (rounded down) after a permutation by seed 0.
    """
    order = np.random.default_rng(0).permutation(n_train)
    n_kept = n_train - n_train // 10
    return {"train": np.sort(order[:n_kept]), "validation": np.sort(order[n_kept:])}
