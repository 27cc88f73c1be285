"""Sealed HDF5 files: what is written is read, and no damage goes unseen."""

import errno
import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.errors import InputError
from l2lnp.files import replace_file
from l2lnp.sealed import read_sealed, read_tree, write_sealed, write_tree

TREE = {
    "conv/lstm1/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "v": np.full(3, np.pi),
    "rate": np.asarray(0.1, np.float32),
    "t": 7,
    "none": np.zeros((0, 4)),
}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "file.h5"
    write_sealed(path, lambda file: write_tree(file.create_group("tree"), TREE))
    return path


def take(file):
    return read_tree(file["tree"])


def test_a_tree_comes_back_in_the_same_bytes_and_types(sealed):
    tree = read_sealed(sealed, "tree", take)
    assert set(tree) == set(TREE)
    assert type(tree["t"]) is int
    for key, value in TREE.items():
        assert np.asarray(tree[key]).dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(tree[key], value)


def test_the_order_in_which_a_tree_is_held_does_not_change_the_file(sealed, tmp_path):
    backwards = dict(reversed(TREE.items()))
    write_sealed(tmp_path / "file.h5", lambda file: write_tree(file.create_group("tree"), backwards))
    assert (tmp_path / "file.h5").read_bytes() == sealed.read_bytes()


def test_any_hdf5_program_reads_a_sealed_file(sealed):
    with h5py.File(sealed) as file:
        np.testing.assert_array_equal(file["tree/v"], TREE["v"])


def test_a_file_by_another_program_is_read_without_a_seal(tmp_path):
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["tree/v"] = TREE["v"]
    np.testing.assert_array_equal(read_sealed(path, "tree", take)["v"], TREE["v"])


@given(st.data())
def test_every_changed_byte_is_noticed(sealed, tmp_path_factory, data):
    content = bytearray(sealed.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "file.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_sealed(path, "tree", take)


@given(st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_noticed(sealed, tmp_path_factory, share):
    content = sealed.read_bytes()
    path = tmp_path_factory.mktemp("cut") / "file.h5"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="damaged"):
        read_sealed(path, "tree", take)


def test_what_is_no_such_file_is_said_in_one_sentence(tmp_path, sealed):
    with pytest.raises(InputError, match=r"cannot read .*no such file"):
        read_sealed(tmp_path / "none.h5", "tree", take)
    (tmp_path / "text.h5").write_text("Not HDF5 at all. " * 100)
    with pytest.raises(InputError, match=r"text\.h5 is no tree: it is not an HDF5 file"):
        read_sealed(tmp_path / "text.h5", "tree", take)
    with pytest.raises(InputError, match=r"file\.h5 is damaged, or no fruit .*apple"):
        read_sealed(sealed, "fruit", lambda file: file["apple"])


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*file: no space left on device"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
