"""The one file layout of all data sets: HDF5, format version 1.

========================  ==============================  ==============================================
place                     type                            contents
========================  ==============================  ==============================================
``train/images``          uint8 (N, H, W, C)              pictures, C is 1 or 3
``train/labels``          int32 (N,)                      class numbers, 0 .. n_classes - 1
``test/images``, labels   the same                        may hold no picture
attribute of a dataset    ``sha256``                      of the dataset's values, little-endian, C order
attributes of the file    ``format``, ``format_version``  "l2lnp images", 1
\\                         ``name``, ``provenance``        text
\\                         ``class_names``                 text, one class a line
\\                         ``mean``, ``deviation``         float64 (C,): of ``train/images`` scaled to 0..1
========================  ==============================  ==============================================

Text is UTF-8 of fixed length (``numpy.bytes_``). Files appear complete or not at all, and
are never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np

from l2lnp.data.disk_room import check_room, take_room
from l2lnp.errors import InputError, unknown_name
from l2lnp.files import cannot, refuse_existing, sync

FORMAT = "l2lnp images"
FORMAT_VERSION = 1
SPLITS = ("train", "test")
LIBVER = ("v108", "latest")  # readable since HDF5 1.8; its metadata has checksums, its attributes no limit
LEAST_DEVIATION = 1e-6  # of a channel scaled to 0..1; below, there is nothing to see in it

_LABEL_BYTES = 4
_CHUNK_BYTES = 1 << 16  # so that a random picture costs at most this much reading beside its own bytes
_BLOCK_BYTES = 1 << 22  # of a pass over a whole dataset: all that is in memory at once


@dataclass(frozen=True)
class Description:
    """What a data set is, apart from its pictures."""

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (H, W, C)
    provenance: str


def write_dataset(
    path: Path,
    description: Description,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    compress: bool = False,
) -> None:
    """Write a whole data set from arrays: for each split its images, uint8 (N, H, W, C), and labels (N,).

    Raises
    ------
    InputError
        If ``path`` exists, arrays are not of these types and shapes or labels of no class, or the
        pictures have a channel without any contrast.
    """
    for split, (images, labels) in splits.items():
        _check_arrays(description, split, images, labels)
    sizes = {split: len(labels) for split, (_, labels) in splits.items()}
    with new_file(path) as beside:
        create_file(beside, path, description, sizes, compress)
        with h5py.File(beside, "r+", libver=LIBVER) as file:
            for split, (images, labels) in splits.items():
                file[split]["images"][...] = images
                file[split]["labels"][...] = labels
            seal(file, examine(file, path, sizes))


def _check_arrays(description: Description, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    wanted, n_classes = (len(labels), *description.image_shape), len(description.class_names)
    if images.dtype != np.uint8 or images.shape != wanted:
        raise InputError(
            f"{split} images must be uint8, from 0 to 255, and {wanted}, not {images.dtype} {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(f"{split} labels must be integers (N,), not {labels.dtype} {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise InputError(
            f"{split} labels must be from 0 to {n_classes - 1}, for {n_classes} class names, "
            f"not from {labels.min()} to {labels.max()}"
        )


def compress_file(source: Path, path: Path) -> None:
    """Write the complete file ``source`` anew to ``path``, its pictures packed by gzip."""
    with h5py.File(source, "r") as old, new_file(path) as beside:
        _, *shape = old["train/images"].shape
        sizes = {split: len(old[split]["labels"]) for split in SPLITS}
        description = Description("", (), (shape[0], shape[1], shape[2]), "")
        create_file(beside, path, description, sizes, compress=True)
        with h5py.File(beside, "r+", libver=LIBVER) as new:
            for place in ("/", *(f"{split}/{kind}" for split in SPLITS for kind in ("images", "labels"))):
                new[place].attrs.update(old[place].attrs)
            rows = max(1, _BLOCK_BYTES // prod(shape))
            for split, n in sizes.items():
                new[split]["labels"][...] = old[split]["labels"][...]
                for start in range(0, n, rows):
                    new[split]["images"][start : start + rows] = old[split]["images"][start : start + rows]


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a file to write beside ``path``, which is renamed to it at the end, or removed on an error."""
    refuse_existing(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise cannot("write", path, error) from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        publish(beside, path)
    except OSError as error:
        raise cannot("write", path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def publish(beside: Path, path: Path) -> None:
    """Give the finished file ``beside`` its name ``path``, which must still be free."""
    sync(beside)
    refuse_existing(path)
    beside.replace(path)
    sync(path.parent)


def create_file(
    beside: Path,
    path: Path,
    description: Description,
    sizes: Mapping[str, int],
    compress: bool = False,
) -> None:
    """Write a file with room for ``sizes`` pictures per split to ``beside``, which is to become ``path``.

    Raises
    ------
    InputError
        If the disk is too small.
    """
    n_bytes = most_bytes(description, sizes, compress)
    check_room(path, beside, n_bytes)
    take_room(beside, n_bytes)  # fails, if it must, before HDF5 can; what is taken is for the file below
    with h5py.File(beside, "w", libver=LIBVER) as file:
        create_datasets(file, description, sizes, compress)
    take_room(beside, n_bytes)


def most_bytes(description: Description, sizes: Mapping[str, int], compress: bool) -> int:
    """Return how many bytes ``sizes`` pictures per split and their labels take in a file, at most."""
    n_bytes = sum(sizes.values()) * (prod(description.image_shape) + _LABEL_BYTES)
    return n_bytes + (n_bytes >> 6) if compress else n_bytes  # what cannot be packed grows a little


def create_datasets(
    file: h5py.File, description: Description, sizes: Mapping[str, int], compress: bool = False
) -> None:
    """Create the groups, datasets and describing attributes for ``sizes`` pictures per split.

    Uncompressed datasets get their room in the file at once, so that writing the
    pictures later changes nothing but their bytes.
    """
    shape = description.image_shape
    rows = max(1, _CHUNK_BYTES // prod(shape))
    for split in SPLITS:
        n = sizes.get(split, 0)
        group = file.create_group(split)
        group.create_dataset(
            "images",
            (n, *shape),
            np.uint8,
            maxshape=(None, *shape),
            chunks=(min(max(n, 1), rows), *shape),
            compression="gzip" if compress else None,
            dcpl=None if compress else _at_once(),
        )
        group.create_dataset(
            "labels",
            (n,),
            "<i4",
            maxshape=(None,),
            chunks=(min(max(n, 1), _CHUNK_BYTES // _LABEL_BYTES),),
            dcpl=_at_once(),
        )
    file.attrs["format"] = as_text(FORMAT)
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["name"] = as_text(description.name)
    file.attrs["provenance"] = as_text(description.provenance)
    file.attrs["class_names"] = as_text("\n".join(description.class_names))


def as_text(text: str) -> np.bytes_:
    """Return ``text`` as an attribute: UTF-8 of fixed length, which HDF5 reads safely from damaged files."""
    return np.bytes_(text.encode())


def _at_once() -> h5py.h5p.PropDCID:
    """Return the setting that gives a dataset its room in the file when it is created."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return plan


@dataclass(frozen=True)
class Findings:
    """What is known of a data set only when all of its pictures are there."""

    mean: np.ndarray
    deviation: np.ndarray
    digests: dict[str, str]  # by place in the file


def examine(file: h5py.File, path: Path, sizes: Mapping[str, int]) -> Findings:
    """Read the first pictures of each split, as many as ``sizes`` says, once.

    Raises
    ------
    InputError
        If a channel has no contrast; ``path`` is for the message.
    """
    digests, histograms = {}, {}
    for split in SPLITS:
        n = sizes.get(split, 0)
        histograms[split], digests[f"{split}/images"] = survey(file[split]["images"], n)
        digests[f"{split}/labels"] = labels_digest(file[split]["labels"][:n])
    mean, deviation = moments(histograms["train"])
    check_contrast(deviation, f"cannot write {path}")
    return Findings(mean, deviation, digests)


def check_contrast(deviation: np.ndarray, what: str) -> None:
    """Raise `InputError`, beginning with ``what``, if one of the deviations (C,) is a constant channel's."""
    if deviation.min() < LEAST_DEVIATION:
        raise InputError(f"{what}: channel {int(np.argmin(deviation))} of the training images is constant")


def seal(file: h5py.File, findings: Findings) -> None:
    """Write down ``findings``: the last thing that makes a file complete."""
    file.attrs["mean"] = findings.mean
    file.attrs["deviation"] = findings.deviation
    for place, digest in findings.digests.items():
        file[place].attrs["sha256"] = as_text(digest)


def survey(images: np.ndarray | h5py.Dataset, n: int | None = None) -> tuple[np.ndarray, str]:
    """Return how often each channel takes each value (C, 256), and the SHA-256; of the first ``n`` images."""
    n_channels = images.shape[-1]
    n = len(images) if n is None else n
    rows = max(1, _BLOCK_BYTES // prod(images.shape[1:]))
    histogram = np.zeros((n_channels, 256), np.int64)
    digest = hashlib.sha256()
    for start in range(0, n, rows):
        block = np.ascontiguousarray(images[start : min(start + rows, n)])
        digest.update(block.data)
        for channel in range(n_channels):
            histogram[channel] += np.bincount(block[..., channel].reshape(-1), minlength=256)
    return histogram, digest.hexdigest()


def images_digest(images: np.ndarray) -> str:
    """Return the SHA-256 of images in memory."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def labels_digest(labels: np.ndarray) -> str:
    """Return the SHA-256 of the labels, as int32."""
    return hashlib.sha256(labels.astype("<i4").tobytes()).hexdigest()


def moments(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation per channel (C,) of values 0..1, from their histogram (C, 256)."""
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)
