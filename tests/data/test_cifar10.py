"""CIFAR-10 from python and binary batches, in folders and archives."""

import gzip
import tarfile

import numpy as np
import pytest
from data_files import cifar_batch, special, tar_bytes, write_tree

from l2lnp.data import load_dataset
from l2lnp.data.cifar10 import read_cifar10
from l2lnp.errors import InputError

RNG = np.random.default_rng(0)
PLANES = {
    name: RNG.integers(0, 256, (4, 3072), np.uint8) for name in ("data_batch_2", "data_batch_1", "test_batch")
}
LABELS = {name: RNG.integers(0, 10, 4, np.uint8) for name in PLANES}
PYTHON = {f"cifar-10-batches-py/{name}": cifar_batch(PLANES[name], LABELS[name]) for name in PLANES}
BINARY = {
    f"cifar-10-batches-bin/{name}.bin": np.hstack([LABELS[name][:, None], PLANES[name]]).tobytes()
    for name in PLANES
}


def place(tmp_path, files, form):
    if form == "folder":
        return write_tree(tmp_path, files)
    if form == "inner folder":
        return write_tree(tmp_path, files) / next(iter(files)).partition("/")[0]
    archive = tmp_path / "archive"
    content = tar_bytes(files)
    archive.write_bytes(content if form == "tar" else gzip.compress(content))
    return archive


@pytest.mark.parametrize("form", ["folder", "inner folder", "tar", "tar.gz"])
@pytest.mark.parametrize("files", [PYTHON, BINARY], ids=["python", "binary"])
def test_reads_every_form(tmp_path, files, form):
    description, arrays = read_cifar10(place(tmp_path, files, form))
    images, labels = arrays["train"]
    assert images.shape == (8, 32, 32, 3)
    np.testing.assert_array_equal(labels, [*LABELS["data_batch_1"], *LABELS["data_batch_2"]])
    np.testing.assert_array_equal(images[5, 3, 7], PLANES["data_batch_2"][1].reshape(3, 32, 32)[:, 3, 7])
    np.testing.assert_array_equal(arrays["test"][1], LABELS["test_batch"])
    assert "batches as found: data_batch_1, data_batch_2, test_batch" in description.provenance


def test_a_subset_without_test_is_read_and_stated(tmp_path):
    one = {"data_batch_2.bin": BINARY["cifar-10-batches-bin/data_batch_2.bin"]}
    description, arrays = read_cifar10(write_tree(tmp_path, one))
    assert len(arrays["train"][1]) == 4
    assert arrays["test"][0].shape == (0, 32, 32, 3)
    assert description.provenance.endswith("batches as found: data_batch_2")


def test_unofficial_batches_are_refused_where_official_ones_are_needed(tmp_path):
    with pytest.raises(InputError, match="other batches than the official ones"):
        read_cifar10(place(tmp_path, PYTHON, "folder"), official=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_1", cifar_batch(PLANES["test_batch"], [1, 2, 3]), "not one whole number per picture"),
        ("data_batch_1", cifar_batch(PLANES["test_batch"], [1, 2, 3, 10]), "label outside 0 to 9"),
        ("data_batch_1", b"\x80\x02}.", "no pictures of 3072 bytes"),
        ("data_batch_1.bin", bytes(3072), "no whole number of records"),
        ("data_batch_1.bin", b"", "no whole number of records"),
        ("data_batch_1.bin", b"\x0a" + bytes(3072), "label outside 0 to 9"),
        ("readme.html", b"", "no training batch"),
    ],
)
def test_refuses_wrong_contents(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read_cifar10(write_tree(tmp_path, {name: content}))


def test_refuses_the_same_batch_twice(tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes(PYTHON | BINARY))
    with pytest.raises(InputError, match="data_batch_2 twice"):
        read_cifar10(archive)


def test_refuses_links_in_an_archive_and_damaged_packing(tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes({"data_batch_1": special("data_batch_1", tarfile.SYMTYPE, "/etc/passwd")}))
    with pytest.raises(InputError, match="holds a link"):
        read_cifar10(archive)
    archive.write_bytes(gzip.compress(tar_bytes(PYTHON))[:-2000])
    with pytest.raises(InputError, match="cannot read"):
        read_cifar10(archive)
    with pytest.raises(InputError, match="no folder or archive"):
        read_cifar10(tmp_path / "none")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    entry = tarfile.TarInfo("data_batch_1")
    entry.size = 1 << 40
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(InputError, match="more than the"):
        read_cifar10(archive)


def test_the_official_batches(data_dir):
    if not (data_dir / "cifar-10-batches-py").is_dir():
        pytest.skip("no official CIFAR-10 batches in the folder with data")
    dataset = load_dataset("cifar-10", data_dir)
    assert [dataset.split(s).n_samples for s in ("train", "validation", "test")] == [45_000, 5_000, 10_000]
    assert dataset.provenance.endswith("all batches, with their known checksums")
    np.testing.assert_allclose(dataset.mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(dataset.deviation, [0.2470, 0.2435, 0.2616], atol=5e-5)
    assert [dataset.class_names[i] for i in dataset.split("test").labels[:4]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
    ]
