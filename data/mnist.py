"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 grey pixels, from the official idx files.

LeCun, Cortes, Burges: The MNIST database of handwritten digits. CC BY-SA 3.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l2lnp.data.dataset import Arrays
from l2lnp.data.hdf5 import Description
from l2lnp.data.idx import read_idx
from l2lnp.errors import InputError

FILES = {"train": "train", "test": "t10k"}  # how the official names begin
CLASS_NAMES = tuple("0123456789")
PROVENANCE = "MNIST, LeCun, Cortes and Burges (1998), from the official idx files; CC BY-SA 3.0"


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
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / f"{candidate}{suffix}"
            if path.is_file():
                return path
    raise InputError(f"{folder} has no file {name} (or {name}.gz)")
