"""Digits: 1,797 handwritten digits of 8x8 grey pixels, bundled as ``digits.h5``.

Alpaydin and Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository (1998), https://doi.org/10.24432/C50P49, CC BY 4.0, in the copy that
scikit-learn distributes. The bundled file was made once from that copy by

    python -m l2lnp.data.digits digits.csv.gz digits.h5

The values 0..16 are stored as round(value * 255 / 16), which keeps them apart.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

from l2lnp.data.hdf5 import Description, write_dataset

N_TRAIN = 1437
DESCRIPTION = Description(
    "digits",
    tuple("0123456789"),
    (8, 8, 1),
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning "
    "Repository, https://doi.org/10.24432/C50P49, CC BY 4.0; the test part as distributed by scikit-learn; "
    "changed: values 0..16 scaled to 0..255, order permuted by numpy default_rng(0)",
)


def convert(table: Path, out: Path) -> None:
    """Write ``out`` from scikit-learn's ``digits.csv.gz``: 64 values and the class a line."""
    with gzip.open(table, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    images = np.round(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, 64]
    splits = {"train": (images[:N_TRAIN], labels[:N_TRAIN]), "test": (images[N_TRAIN:], labels[N_TRAIN:])}
    write_dataset(out, DESCRIPTION, splits, compress=True)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
