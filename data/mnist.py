"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 grey pixels, from the official idx files.

LeCun, Cortes, Burges: The MNIST database of handwritten digits. CC BY-SA 3.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l2lnp.data.addresses import Download
from l2lnp.data.dataset import Arrays
from l2lnp.data.hdf5 import Description
from l2lnp.data.idx import read_idx
from l2lnp.errors import InputError

FILES = {"train": "train", "test": "t10k"}  # how the official names begin
CLASS_NAMES = tuple("0123456789")
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
PROVENANCE = "MNIST, LeCun, Cortes and Burges (1998), from the official idx files; CC BY-SA 3.0"

_MOST_BYTES = 1 << 26  # of one packed file


def idx_downloads(mirrors: tuple[str, ...], sha256: dict[str, str]) -> tuple[Download, ...]:
    """Return how to download the files with these checksums from folders that hold all of them."""
    return tuple(
        Download(name, tuple(mirror + name for mirror in mirrors), f"sha256:{digest}", _MOST_BYTES)
        for name, digest in sha256.items()
    )


DOWNLOADS = idx_downloads(MIRRORS, SHA256)


def read_mnist(folder: Path) -> tuple[Description, Arrays]:
    """Return the data set in the four official files in ``folder``, plain or gzipped.

    Raises
    ------
    InputError
        If a file is missing or damaged, or holds something else than 28x28 digits.
    """
    return Description("mnist", CLASS_NAMES, (28, 28, 1), PROVENANCE), read_idx_folder(folder)


def read_idx_folder(folder: Path) -> Arrays:
    """Return images (N, 28, 28, 1) and labels 0..9 of both splits, from MNIST's file names."""
    return {split: _read_split(folder, begin) for split, begin in FILES.items()}


def _read_split(folder: Path, begin: str) -> tuple[np.ndarray, np.ndarray]:
    images_path = find_idx(folder, f"{begin}-images-idx3-ubyte")
    labels_path = find_idx(folder, f"{begin}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (28, 28):
        raise InputError(f"{images_path} holds pictures of {images.shape[1:]}, expected (28, 28)")
    if len(images) != len(labels):
        raise InputError(f"{images_path} holds {len(images)} pictures but {labels_path} {len(labels)} labels")
    if labels.max() > 9:
        raise InputError(f"{labels_path} holds the label {labels.max()}, expected 0 to 9")
    return images[..., None], labels.astype(np.int64)


def find_idx(folder: Path, name: str) -> Path:
    """Return the file ``name`` in ``folder``, plain or ``.gz``, with the dot that some unpackers put."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the one that holds the four idx files")
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / f"{candidate}{suffix}"
            if path.is_file():
                return path
    raise InputError(f"{folder} has no file {name} (or {name}.gz)")
