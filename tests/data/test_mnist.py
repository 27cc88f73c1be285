"""MNIST from its official idx files."""

import gzip

import numpy as np
import pytest

from l2lnp.data import load_dataset
from l2lnp.data.mnist import read_mnist
from l2lnp.errors import InputError


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A tiny set with the official names, one of them gzipped, one with the other dot."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(labels))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images[:5]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:5]))
    return tmp_path


def test_reads_plain_and_gzipped(folder):
    description, arrays = read_mnist(folder)
    assert description.image_shape == (28, 28, 1)
    assert arrays["train"][0].shape == (20, 28, 28, 1)
    np.testing.assert_array_equal(arrays["test"][0], arrays["train"][0][:5])
    np.testing.assert_array_equal(arrays["test"][1], [0, 1, 2, 3, 4])


def test_refuses_pictures_without_contrast(folder):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((20, 28, 28), np.uint8))))
    with pytest.raises(InputError, match="mnist: channel 0 of the training images is constant"):
        load_dataset("mnist", folder)


def test_finds_the_folder_or_one_of_its_name_inside(folder, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (outer / "mnist").symlink_to(folder)
    for place in (folder, outer):
        assert load_dataset("mnist", place).split("train").n_samples == 18


def test_refuses_a_missing_file(folder):
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match=r"has no file t10k-images-idx3-ubyte \(or t10k-images"):
        read_mnist(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("t10k-labels-idx1-ubyte", np.zeros(4, np.uint8), "5 pictures but .* 4 labels"),
        ("t10k-labels-idx1-ubyte", np.full(5, 10, np.uint8), "holds the label 10"),
        ("t10k-images-idx3-ubyte", np.zeros((5, 28, 27), np.uint8), r"pictures of \(28, 27\)"),
    ],
)
def test_refuses_what_is_not_mnist(folder, name, array, message):
    (folder / name).write_bytes(idx(array))
    with pytest.raises(InputError, match=message):
        read_mnist(folder)


def test_the_official_files(data_dir):
    dataset = load_dataset("mnist", data_dir)
    assert [dataset.split(s).n_samples for s in ("train", "validation", "test")] == [54_000, 6_000, 10_000]
    np.testing.assert_allclose([dataset.mean[0], dataset.deviation[0]], [0.1307, 0.3081], atol=5e-5)
    assert dataset.split("test").labels[:5].tolist() == [7, 2, 1, 0, 4]
