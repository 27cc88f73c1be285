"""The one file layout: written whole or not at all, and read with nothing trusted."""

import hashlib
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2lnp.data.hdf5 import Description, moments, new_file, survey, write_dataset
from l2lnp.data.streaming import load_file
from l2lnp.errors import InputError

COLOURS = Description("tiny", ("cat", "dog", "lynx"), (5, 4, 3), "drawn at random")


def arrays(rng, n):
    return rng.integers(0, 256, (n, 5, 4, 3), np.uint8), rng.integers(0, 3, n)


@pytest.fixture
def splits():
    rng = np.random.default_rng(3)
    return {"train": arrays(rng, 20), "test": arrays(rng, 7)}


@pytest.fixture
def path(tmp_path, splits):
    write_dataset(tmp_path / "tiny.h5", COLOURS, splits)
    return tmp_path / "tiny.h5"


@pytest.mark.parametrize("compress", [False, True])
def test_layout(tmp_path, splits, compress):
    path = tmp_path / "tiny.h5"
    write_dataset(path, COLOURS, splits, compress)
    with h5py.File(path) as file:
        assert file.attrs["format"] == b"l2lnp images"
        assert file.attrs["format_version"] == 1
        assert file.attrs["class_names"] == b"cat\ndog\nlynx"
        for split, (images, labels) in splits.items():
            np.testing.assert_array_equal(file[split]["images"], images)
            np.testing.assert_array_equal(file[split]["labels"], labels)
            assert (
                file[split]["images"].attrs["sha256"].decode() == hashlib.sha256(images.tobytes()).hexdigest()
            )
            assert (
                file[split]["labels"].attrs["sha256"].decode()
                == hashlib.sha256(labels.astype("<i4")).hexdigest()
            )
        scaled = splits["train"][0] / 255
        np.testing.assert_allclose(file.attrs["mean"], scaled.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(file.attrs["deviation"], scaled.std((0, 1, 2)), rtol=1e-12)


@given(st.integers(1, 30), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_moments_are_exact(n, channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (n, 3, 2, channels), np.uint8)
    mean, deviation = moments(survey(images)[0])
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(deviation, (images / 255).std((0, 1, 2)), rtol=1e-10, atol=1e-12)


def test_never_overwrites(path, splits):
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"tiny\.h5 exists already"):
        write_dataset(path, COLOURS, splits)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_file(tmp_path / "a.h5") as beside:  # noqa: PT012
        beside.write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_that_is_not_there(tmp_path, splits):
    with pytest.raises(InputError, match=r"cannot write .*no such file"):
        write_dataset(tmp_path / "none" / "tiny.h5", COLOURS, splits)


def test_refuses_pictures_without_contrast(tmp_path, splits):
    splits["train"][0][..., 1] = 7
    with pytest.raises(InputError, match="channel 1 of the training images is constant"):
        write_dataset(tmp_path / "tiny.h5", COLOURS, splits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x / 255, y), r"train images must be uint8, .* not float64 \(20, 5, 4, 3\)"),
        (lambda x, y: (x.transpose(0, 2, 1, 3), y), r"\(20, 5, 4, 3\), not uint8 \(20, 4, 5, 3\)"),
        (lambda x, y: (x[:19], y), r"\(20, 5, 4, 3\), not uint8 \(19, 5, 4, 3\)"),
        (lambda x, y: (x, y.astype(float)), r"labels must be integers \(N,\), not float64 \(20,\)"),
        (lambda x, y: (x, np.eye(3, dtype=int)[y]), r"labels must be integers \(N,\), not int64 \(20, 3\)"),
        (lambda x, y: (x, y + 1), "labels must be from 0 to 2, for 3 class names, not from 1 to 3"),
        (lambda x, y: (x, y - 1), "not from -1 to 1"),
    ],
)
def test_refuses_arrays_that_would_be_written_as_others(tmp_path, splits, change, message):
    with pytest.raises(InputError, match=message):
        write_dataset(tmp_path / "tiny.h5", COLOURS, splits | {"train": change(*splits["train"])})
    with pytest.raises(InputError, match="unknown split 'tests': did you mean 'test'"):
        write_dataset(tmp_path / "tiny.h5", COLOURS, splits | {"tests": splits["test"]})
    assert list(tmp_path.iterdir()) == []


def replace(group, name, value, **settings):
    del group[name]
    group.create_dataset(name, data=value, **settings)


def set_item(index, place, value):
    def damage(file):
        file[place][index] = value

    return damage


DAMAGE = {
    "no l2lnp data set": lambda f: f.attrs.pop("format"),
    "format version 2, not 1": lambda f: f.attrs.modify("format_version", 2),
    "has format version None": lambda f: f.attrs.pop("format_version"),
    "format version None, not 1": lambda f: f.attrs.create("format_version", "one"),
    "lacks test$": lambda f: f.pop("test"),
    "lacks test/labels$": lambda f: f["test"].pop("labels"),
    "lacks the dataset train/images": lambda f: (f["train"].pop("images"), f["train"].create_group("images")),
    "train/images of type float32": lambda f: replace(
        f["train"], "images", np.zeros((20, 5, 4, 3), np.float32)
    ),
    r"train/images of type uint8 \(20, 20\)": lambda f: replace(
        f["train"], "images", np.zeros((20, 20), np.uint8)
    ),
    r"images of shape \(5, 4, 2\)": lambda f: [
        replace(f[s], "images", np.zeros((n, 5, 4, 2), np.uint8)) for s, n in (("train", 20), ("test", 7))
    ],
    r"test images of shape \(5, 5, 3\)": lambda f: replace(
        f["test"], "images", np.zeros((7, 5, 5, 3), np.uint8)
    ),
    "not one integer per image": lambda f: replace(f["train"], "labels", np.zeros(19, np.int32)),
    "labels of type float64": lambda f: replace(f["train"], "labels", np.zeros(20)),
    "the label 3 in train/labels but names 3 classes": set_item(4, "train/labels", 3),
    "the label -1 in test/labels": set_item(0, "test/labels", -1),
    "compresses train/labels": lambda f: replace(
        f["train"], "labels", np.zeros(20, np.int32), compression="gzip"
    ),
    "train/images in an unknown way": lambda f: replace(
        f["train"], "images", f["train/images"][...], compression="lzf"
    ),
    "chunks of more than": lambda f: (
        f["train"].pop("images"),
        f["train"].create_dataset(
            "images",
            (4096, 5, 4, 3),
            np.uint8,
            chunks=(4096, 5 * 512, 4 * 4, 3),
            maxshape=(None,) * 4,
        ),
    ),
    "claims more values in train/images than it holds": lambda f: (
        f["train"].pop("images"),
        f["train"].create_dataset("images", (10**12, 5, 4, 3), np.uint8, chunks=(9, 5, 4, 3)),
    ),
    "holds no training images": lambda f: (
        replace(f["train"], "images", np.zeros((0, 5, 4, 3), np.uint8)),
        replace(f["train"], "labels", np.zeros(0, np.int32)),
    ),
    "lacks the attribute 'class_names'": lambda f: f.attrs.create("class_names", 3),
    r"lacks the attribute 'name' \(printable text": lambda f: f.attrs.modify("name", "\x1b[2J"),
    "lacks the attribute 'mean'": lambda f: f.attrs.create("mean", np.zeros(2)),
    "impossible mean .*nan": lambda f: f.attrs.modify("mean", np.array([0.1, np.nan, 0.2])),
    "impossible mean .*1.5": lambda f: f.attrs.modify("mean", np.array([0.1, 1.5, 0.2])),
    "impossible deviation .*0.0": lambda f: f.attrs.modify("deviation", np.array([0.1, 0.0, 0.2])),
    "impossible deviation .*inf": lambda f: f.attrs.modify("deviation", np.array([0.1, np.inf, 0.2])),
    "impossible deviation .*-": lambda f: f.attrs.modify("deviation", np.array([0.1, -0.1, 0.2])),
    "lacks train/images$": lambda f: (
        f["train"].pop("images"),
        f["train"].__setitem__("images", h5py.ExternalLink("other.h5", "/x")),
    ),
    "lacks train$": lambda f: (f.pop("train"), f.__setitem__("train", h5py.SoftLink("/test"))),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_refuses_damage(path, message):
    with h5py.File(path, "r+") as file:
        DAMAGE[message](file)
    with pytest.raises(InputError, match=message) as caught:
        load_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_changed_pictures_are_refused_when_they_are_loaded(path, split):
    with h5py.File(path, "r+") as file:
        file[split]["images"][3, 2, 1, 0] ^= 1
    with pytest.raises(InputError, match=f"checksum of {split}/images does not match; remove it, then fetch"):
        load_file(path)


def test_refuses_values_kept_in_another_file(path, tmp_path):
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((20, 5, 4, 3), np.uint8)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (20, 5, 4, 3))
        del file["train/images"]
        file["train"].create_virtual_dataset("images", layout)
        del file["test/images"]
        place = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        file["test"].create_dataset("images", (7, 5, 4, 3), np.uint8, external=place)
    with pytest.raises(InputError, match="keeps train/images in another file"):
        load_file(path)


def test_refuses_what_is_no_hdf5(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"hello")
    with pytest.raises(InputError, match="is no HDF5 file"):
        load_file(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"there is no file .*b\.h5"):
        load_file(tmp_path / "b.h5")
    with pytest.raises(InputError, match="is a folder, a pipe or a device: name a file"):
        load_file(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(InputError, match="is a folder, a pipe or a device"):
        load_file(tmp_path / "a.h5")


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_every_truncation_is_refused(tmp_path_factory, seed):
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.h5"
    if not whole.exists():
        rng = np.random.default_rng(0)
        write_dataset(whole, COLOURS, {"train": arrays(rng, 20), "test": arrays(rng, 7)})
    content = whole.read_bytes()
    (folder / "cut.h5").write_bytes(content[: seed % len(content)])
    with pytest.raises(InputError, match="is no HDF5 file, or is truncated"):
        load_file(folder / "cut.h5")
