"""CIFAR-10: 50,000 + 10,000 colour pictures of 32x32 in 10 classes, from the official batches.

Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009). No formal
licence, for research. The python and the binary version are read, as a folder or as
the official archive; any subset of the batches, which the provenance then states.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from l2lnp.data.addresses import Download
from l2lnp.data.batch_reader import MOST_BYTES, read_batch
from l2lnp.data.dataset import Arrays
from l2lnp.data.hdf5 import Description
from l2lnp.data.tar import tar_members
from l2lnp.errors import InputError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PROVENANCE = "CIFAR-10, A. Krizhevsky (2009), from the official batches; no formal licence, for research"

DOWNLOADS = (
    Download(
        "cifar-10-python.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        "md5:c58f30108f718f92721af3b95e74349a",  # the only one published; the batches are compared as well
        1 << 28,
    ),
)

# of the python version, computed from files whose official MD5 sums were right
SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_PIXELS = 32 * 32 * 3
_MOST_ARCHIVE_BYTES = 1 << 28  # unpacked; the official archives have 186 MB


def read_cifar10(path: Path, official: bool = False) -> tuple[Description, Arrays]:
    """Return the data set in the batches at ``path``: a folder, or a tar or tar.gz archive of one.

    Parameters
    ----------
    official
        Refuse anything but all batches of the python version with their known checksums.

    Raises
    ------
    InputError
        If there is no training batch, or a batch is damaged.
    """
    batches, digests = {}, {}
    for file_name, content in _batch_files(path):
        name = file_name.removesuffix(".bin")
        if name in (*_TRAIN, _TEST):
            if name in batches:
                raise InputError(f"{path} holds {name} twice: name one version's folder")
            digests[name] = hashlib.sha256(content).hexdigest()
            batches[name] = _parse(file_name, content, f"{path} ({file_name})")
    if not any(name in batches for name in _TRAIN):
        raise InputError(f"{path} holds no training batch of CIFAR-10 (data_batch_1 or data_batch_1.bin)")
    if official and digests != SHA256:
        raise InputError(f"{path} holds other batches than the official ones: their checksums differ")
    description = Description("cifar-10", CLASS_NAMES, (32, 32, 3), _provenance(digests))
    return description, {
        "train": _join([batches[name] for name in _TRAIN if name in batches]),
        "test": _join([batches[_TEST]] if _TEST in batches else []),
    }


def read_official(folder: Path) -> tuple[Description, Arrays]:
    """Return the data set in the official archive in ``folder``; refuse any other contents."""
    return read_cifar10(folder / DOWNLOADS[0].name, official=True)


def _provenance(digests: dict[str, str]) -> str:
    if digests == SHA256:
        return f"{PROVENANCE}; all batches, with their known checksums"
    return f"{PROVENANCE}; batches as found: {', '.join(sorted(digests))}"


def _batch_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that can be batches."""
    try:
        yield from _folder_files(path) if path.is_dir() else _archive_files(path)
    except FileNotFoundError:
        raise InputError(f"there is no folder or archive {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for inner in ("cifar-10-batches-py", "cifar-10-batches-bin"):
        if (folder / inner).is_dir():
            folder = folder / inner
            break
    for path in sorted(folder.iterdir()):
        if _can_be_batch(path.name) and path.is_file():
            with path.open("rb") as file:
                yield path.name, file.read(MOST_BYTES + 1)


def _archive_files(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        archive: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        for member in tar_members(archive, str(path), _MOST_ARCHIVE_BYTES):
            name = PurePosixPath(member.name).name
            if _can_be_batch(name):
                archive.seek(member.offset)
                yield name, archive.read(min(member.size, MOST_BYTES + 1))


def _can_be_batch(name: str) -> bool:
    return name.removesuffix(".bin") in (*_TRAIN, _TEST)


def _parse(file_name: str, content: bytes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) and labels (N,) of one batch."""
    planes, labels = (
        _parse_binary(content, label) if file_name.endswith(".bin") else _parse_python(content, label)
    )
    if labels.size and not (labels.min() >= 0 and labels.max() < len(CLASS_NAMES)):
        raise InputError(f"{label} holds a label outside 0 to 9")
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _parse_binary(content: bytes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Read records of one byte for the class and 3,072 for the red, green and blue planes."""
    if not content or len(content) % (1 + _PIXELS) or len(content) > MOST_BYTES:
        raise InputError(f"{label} has {len(content)} bytes, no whole number of records of {1 + _PIXELS}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _parse_python(content: bytes, label: str) -> tuple[np.ndarray, np.ndarray]:
    batch = read_batch(content, label)
    planes, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(planes, np.ndarray) or planes.ndim != 2 or planes.shape[1] != _PIXELS:
        raise InputError(f"{label} holds no pictures of {_PIXELS} bytes under the key 'data'")
    if not isinstance(labels, list) or len(labels) != len(planes) or not all(type(n) is int for n in labels):
        raise InputError(f"{label} holds not one whole number per picture under the key 'labels'")
    return planes, np.array(labels, np.int64)


def _join(batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if not batches:
        return np.empty((0, 32, 32, 3), np.uint8), np.empty(0, np.int64)
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)
