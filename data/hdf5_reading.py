"""Read a file of the one layout (see `l2lnp.data.hdf5`), trusting nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from l2lnp.data.hdf5 import (
    FORMAT,
    FORMAT_VERSION,
    LEAST_DEVIATION,
    SPLITS,
    Description,
    as_text,
    labels_digest,
    moments,
    survey,
)
from l2lnp.errors import InputError

_ANEW = "remove it, then fetch or import it again"
_LARGEST_EXPANSION = 1100  # deflate gives at most 1032 bytes for one
_MOST_DIMENSION = 1 << 14  # rows or columns of a picture
_MOST_CHUNK_BYTES = 1 << 26  # a chunk is decompressed as a whole


class Contents(NamedTuple):
    """Everything in a file but the pictures."""

    description: Description
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)
    labels: dict[str, np.ndarray]  # by split, (N,) int64
    digests: dict[str, str | None]  # of the pictures, by split: their SHA-256 where the file has one
    images_bytes: int  # of all pictures, uncompressed


def open_file(path: Path) -> tuple[h5py.File, Contents]:
    """Open ``path`` for reading and check everything in it but its pictures; the caller closes the file.

    Raises
    ------
    InputError
        With one sentence that names the file and what is wrong with it.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise _ContentError("is a folder, a pipe or a device: name a file")
        file = h5py.File(path, "r")
        try:
            return file, _contents(file)
        except BaseException:
            file.close()
            raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while ``path`` is read into `InputError`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except _ContentError as wrong:
        raise InputError(f"{path} {wrong}") from None
    except Exception as error:  # the HDF5 library raises every type there is on damaged files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{path} is no HDF5 file, or is truncated or damaged ({reason}): {_ANEW}") from None


def verify_file(path: Path) -> Contents:
    """Read everything in ``path`` once, in constant memory, and compare checksums, mean and deviation.

    Raises
    ------
    InputError
        If the file is not what it says.
    """
    file, contents = open_file(path)
    with file, reading(path):
        for split in SPLITS:
            histogram, digest = survey(file[split]["images"])
            check_digest(f"{split}/images", digest, contents.digests[split])
            if split == "train":
                _check_moments(contents, histogram)
    return contents


def check_digest(place: str, found: str, expected: str | None) -> None:
    """Raise an error unless a checksum is the one expected, if one is; for use within `reading`."""
    if expected not in (found, None):
        raise _ContentError(f"is damaged: the checksum of {place} does not match; {_ANEW}")


def _check_moments(contents: Contents, histogram: np.ndarray) -> None:
    for key, value in zip(("mean", "deviation"), moments(histogram), strict=True):
        if not np.allclose(getattr(contents, key), value, rtol=1e-6, atol=1e-9):
            raise _ContentError(f"is damaged: {key} is not that of its training images; {_ANEW}")


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
        {split: _digest(images[split]) for split in SPLITS},
        sum(dataset.nbytes for dataset in images.values()),
    )


def _check_version(file: h5py.File) -> None:
    if _attribute(file, "format") != as_text(FORMAT):
        raise _ContentError("is HDF5 but no l2lnp data set: make one with 'l2lnp data import'")
    version = _attribute(file, "format_version")
    if not isinstance(version, np.integer) or version != FORMAT_VERSION:
        raise _ContentError(f"has format version {version}, not {FORMAT_VERSION}: import the data set again")


def _attribute(item: h5py.File | h5py.Dataset, key: str) -> Any:
    """Return an attribute that is a number, numbers, or text of fixed length; else None.

    Attributes of other types are not read: the HDF5 library can crash on damaged ones.
    """
    if key not in item.attrs:
        return None
    kind = item.attrs.get_id(key).get_type()
    if isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str():
        return item.attrs[key]
    return item.attrs[key] if isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID) else None


def _text(file: h5py.File, key: str) -> str:
    value = _attribute(file, key)
    text = value.decode() if isinstance(value, bytes) else ""
    if not text or not all(line.isprintable() for line in text.split("\n")):
        raise _ContentError(f"lacks the attribute '{key}' (printable text of fixed length, in UTF-8)")
    return text


def _digest(dataset: h5py.Dataset) -> str | None:
    value = _attribute(dataset, "sha256")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else None


def _per_channel(file: h5py.File, key: str, n_channels: int, low: float, high: float) -> np.ndarray:
    value = _attribute(file, key)
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
    check_digest(f"{split}/labels", labels_digest(labels), _digest(dataset))
    return labels.astype(np.int64)
