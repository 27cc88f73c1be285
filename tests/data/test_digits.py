"""The bundled digits."""

import gzip

import numpy as np

from l2lnp.data import load_dataset
from l2lnp.data.digits import N_TRAIN, convert
from l2lnp.data.streaming import load_file


def test_the_bundled_file():
    dataset = load_dataset("digits")
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == list("0123456789")
    assert [dataset.split(s).n_samples for s in ("train", "validation", "test")] == [1294, 143, 360]
    assert "CC BY 4.0" in dataset.provenance
    assert "Alpaydin" in dataset.provenance
    values = np.unique(dataset.split("train").images)
    np.testing.assert_array_equal(values, np.round(np.arange(17) * 255 / 16))


def test_conversion(tmp_path):
    rng = np.random.default_rng(2)
    rows = np.hstack([rng.integers(0, 17, (1500, 64)), rng.integers(0, 10, (1500, 1))])
    with gzip.open(tmp_path / "digits.csv.gz", "wt") as table:
        np.savetxt(table, rows, fmt="%d", delimiter=",")
    convert(tmp_path / "digits.csv.gz", tmp_path / "digits.h5")
    test = load_file(tmp_path / "digits.h5").split("test")
    assert test.n_samples == 1500 - N_TRAIN
    first = rows[np.random.default_rng(0).permutation(1500)[N_TRAIN]]
    np.testing.assert_array_equal(np.rint(test.images[0].reshape(-1) / 255 * 16), first[:64])
    assert test.labels[0] == first[64]
