"""Read a file of the one layout (see `l2lnp.data.hdf5`), trusting nothing in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from l2lnp.data.hdf5 import FORMAT, FORMAT_VERSION, LEAST_DEVIATION, SPLITS, Description, moments, survey
from l2lnp.errors import InputError

_LARGEST_EXPANSION = 1100  # deflate gives at most 1032 bytes for one
_MOST_DIMENSION = 1 << 14  # rows or columns of a picture
_MOST_CHUNK_BYTES = 1 << 26  # a chunk is decompressed as a whole


class Contents(NamedTuple):
    """Everything in a file but the pictures."""

    description: Description
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)
    labels: dict[str, np.ndarray]  # by split, (N,) int64
    images_bytes: int  # of all pictures, uncompressed


def open_file(path: Path) -> tuple[h5py.File, Contents]:
    """Open ``path`` for reading and check all of its structure; the caller closes the file.

    Raises
    ------
    InputError
        With one sentence that names the file and what is wrong with it.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file, or is truncated or damaged ({error})") from None
    try:
        return file, _contents(file)
    except _ContentError as wrong:
        file.close()
        raise InputError(f"{path} {wrong}") from None
    except Exception as error:  # the HDF5 library raises every type there is on damaged files
        file.close()
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error})") from None


def check_digest(file: h5py.File, path: Path, place: str, values: np.ndarray) -> None:
    """Raise `InputError` unless ``values`` have the checksum that stands at ``place``, if one does."""
    expected = file[place].attrs.get("sha256")
    if expected is not None and expected != hashlib.sha256(np.ascontiguousarray(values).data).hexdigest():
        raise InputError(f"{path} is damaged: the checksum of {place} does not match")


def verify_file(path: Path) -> Contents:
    """Read everything in ``path`` once, in constant memory, and compare checksums, mean and deviation.

    Raises
    ------
    InputError
        If the file is not what it says.
    """
    file, contents = open_file(path)
    with file:
        for split, labels in contents.labels.items():
            check_digest(file, path, f"{split}/labels", labels.astype("<i4"))
            with reading(path, f"{split}/images"):
                histogram, digest = survey(file[split]["images"])
            if digest != file[split]["images"].attrs.get("sha256", digest):
                raise InputError(f"{path} is damaged: the checksum of {split}/images does not match")
            if split == "train":
                _check_moments(path, contents, histogram)
    return contents


@contextmanager
def reading(path: Path, place: str) -> Iterator[None]:
    """Turn the failure to read values, such as a compressed piece that does not unpack, into `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} is damaged: {place} cannot be read ({error})") from None


def _check_moments(path: Path, contents: Contents, histogram: np.ndarray) -> None:
    for key, value in zip(("mean", "deviation"), moments(histogram), strict=True):
        if not np.allclose(getattr(contents, key), value, rtol=1e-6, atol=1e-9):
            raise InputError(f"{path} is damaged: {key} is not that of its training images")


class _ContentError(Exception):
    """What is wrong with a file: the sentence without its name."""


def _contents(file: h5py.File) -> Contents:
    _check_version(file)
    images = {split: _dataset(file, split, "images") for split in SPLITS}
    labels = {split: _dataset(file, split, "labels") for split in SPLITS}
    for split in SPLITS:
        _check_images(split, images[split], images["train"].shape[1:])
        _check_labels(split, labels[split], len(images[split]))
    if not len(images["train"]):
        raise _ContentError("holds no training images")
    shape = images["train"].shape[1:]
    class_names = tuple(_text(file, "class_names").split("\n"))
    description = Description(_text(file, "name"), class_names, shape, _text(file, "provenance"))
    return Contents(
        description,
        _per_channel(file, "mean", shape[2], 0.0, 1.0),
        _per_channel(file, "deviation", shape[2], LEAST_DEVIATION, 0.501),
        {split: _read_labels(split, labels[split], len(class_names)) for split in SPLITS},
        sum(dataset.nbytes for dataset in images.values()),
    )


def _check_version(file: h5py.File) -> None:
    if "format" not in file.attrs or _text(file, "format") != FORMAT:
        raise _ContentError("is HDF5 but no l2lnp data set: make one with 'l2lnp data import'")
    version = file.attrs.get("format_version")
    if not isinstance(version, np.integer) or version != FORMAT_VERSION:
        raise _ContentError(
            f"has format version {version}, this program reads version {FORMAT_VERSION}: import again"
        )


def _text(file: h5py.File, key: str) -> str:
    value = file.attrs.get(key)
    if not isinstance(value, str) or not all(line.isprintable() for line in value.split("\n")):
        raise _ContentError(f"lacks the attribute '{key}' (printable text)")
    return value


def _per_channel(file: h5py.File, key: str, n_channels: int, low: float, high: float) -> np.ndarray:
    value = file.attrs.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != (n_channels,):
        raise _ContentError(f"lacks the attribute '{key}' ({n_channels} numbers, one per channel)")
    if not np.all((value >= low) & (value <= high)):
        raise _ContentError(
            f"has an impossible {key} {value.tolist()}: of values in 0..1 it lies in {low:g}..{high:g}"
        )
    return value.astype(np.float64)


def _dataset(file: h5py.File, split: str, name: str) -> h5py.Dataset:
    """Return the dataset ``split/name`` if its values lie in this very file, in a known encoding."""
    place = f"{split}/{name}"
    group = _member(file, split, split)
    dataset = _member(group, name, place) if isinstance(group, h5py.Group) else None
    if not isinstance(dataset, h5py.Dataset):
        raise _ContentError(f"lacks the dataset {place}")
    if dataset.is_virtual or dataset.external:
        raise _ContentError(f"keeps {place} in another file, which is not allowed")
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}:
        raise _ContentError(f"encodes {place} in an unknown way: only gzip is read")
    compressed = h5py.h5z.FILTER_DEFLATE in filters
    if compressed and name == "labels":
        raise _ContentError(f"compresses {place}: only images may be compressed")
    if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dataset.dtype.itemsize > _MOST_CHUNK_BYTES:
        raise _ContentError(f"stores {place} in chunks of more than {_MOST_CHUNK_BYTES} bytes")
    if dataset.nbytes > dataset.id.get_storage_size() * (_LARGEST_EXPANSION if compressed else 1):
        raise _ContentError(f"claims more values in {place} than it holds")
    return dataset


def _member(group: h5py.Group, name: str, place: str) -> h5py.HLObject:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _ContentError(f"lacks {place}")
    return group[name]


def _check_images(split: str, images: h5py.Dataset, shape: tuple[int, ...]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise _ContentError(
            f"has {split}/images of type {images.dtype} {images.shape}, not uint8 (N, H, W, C)"
        )
    if images.shape[1:] != shape:
        raise _ContentError(f"has test images of shape {images.shape[1:]} beside training images of {shape}")
    if shape[2] not in (1, 3) or not all(0 < size <= _MOST_DIMENSION for size in shape):
        raise _ContentError(f"has images of shape {shape}: the last size must be 1 (grey) or 3 (colours)")


def _check_labels(split: str, labels: h5py.Dataset, n_images: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (n_images,):
        raise _ContentError(
            f"has {split}/labels of type {labels.dtype} {labels.shape}, not one integer per image"
        )


def _read_labels(split: str, dataset: h5py.Dataset, n_classes: int) -> np.ndarray:
    labels = dataset[...]
    if labels.size and not (labels.min() >= 0 and labels.max() < n_classes):
        bad = int(labels[(labels < 0) | (labels >= n_classes)][0])
        raise _ContentError(f"has the label {bad} in {split}/labels but names {n_classes} classes")
    return labels.astype(np.int64)
