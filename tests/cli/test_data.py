"""``l2lnp data``: what its commands print and write, and how they end on bad input."""

import dataclasses

import h5py
import numpy as np
import pytest
from data_files import encoded, picture, write_tree
from lying_server import serving

from l2lnp.data import catalogue, download, importing
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.mnist import idx_downloads

from .command_line import files_in, l2lnp


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("L2LNP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own(tmp_path):
    files = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": encoded(picture(i), "PNG") for i in range(30)}
    return write_tree(tmp_path / "own", files | {"test/cat/x.png": encoded(picture(99), "PNG")})


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (20, 8, 8, 1), np.uint8), rng.integers(0, 2, 20)
    description = Description("noise", ("a", "b"), (8, 8, 1), "drawn at random")
    write_dataset(tmp_path / "noise.h5", description, {"train": arrays, "test": arrays})
    return tmp_path / "noise.h5"


def test_list_names_every_data_set_with_its_licence_and_state(capsys, cache, file):
    cache.mkdir()
    file.rename(cache / "mnist.h5")
    ended = l2lnp(capsys, "data", "list")
    assert ended.code == 0
    for name, known in catalogue.KNOWN.items():
        assert name in ended.out
        assert known.licence in ended.out
    assert ended.out.count("ready") == 1
    assert "l2lnp data fetch fashion-mnist" in ended.out
    assert str(cache) in ended.out


def test_import_info_verify_and_training_by_name(capsys, own, cache):
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--size", 12, "--grey", "--workers", 1)
    assert (ended.code, ended.err) == (0, "")
    assert "31/31 pictures" in ended.out
    assert ended.out.endswith(f"written: {cache / 'folder.h5'}\n")
    ended = l2lnp(capsys, "data", "info", "folder")
    for part in (
        "27 train, 3 validation, 1 test; 12 x 12, grey",
        "2: cat; dog",
        "own pictures, from the folder own",
    ):
        assert part in ended.out
    assert "31 pictures and labels are as written" in l2lnp(capsys, "data", "verify", "folder").out


def test_pictures_without_a_test_group_get_one(capsys, tmp_path, cache):
    files = {f"{'cat' if i % 2 else 'dog'}/{i}.png": encoded(picture(i), "PNG") for i in range(30)}
    own = write_tree(tmp_path / "pets", files)
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--size", 12, "--workers", 1)
    assert (ended.code, ended.err) == (0, "")
    assert "6 of the 30 training pictures become them, 0.2 of each class (--test-share)" in ended.out
    assert "22 train, 2 validation, 6 test" in l2lnp(capsys, "data", "info", "folder").out
    few = ["train", "--batch-size", 5, "--steps", 1, "--out", tmp_path / "run"]
    assert l2lnp(capsys, *few, "--data", "folder").code == 0


def test_without_test_pictures_nothing_is_trained(capsys, tmp_path, own):
    (own / "test" / "cat" / "x.png").unlink()
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--test-share", 0)
    assert "there are no test pictures, and training needs some (--test-share makes some)" in ended.out
    ended = l2lnp(capsys, "train", "--data", "folder", "--batch-size", 5, "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert "holds no test samples: import it again with more pictures or with --test-share" in ended.err


@pytest.mark.parametrize(
    ("share", "message"),
    [(1, "--test-share is 1: choose from 0"), (0.1, "there are 1 test pictures already")],
)
def test_a_share_of_test_pictures_that_cannot_be(capsys, own, share, message):
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--test-share", share)
    assert ended.code == 2
    assert message in ended.err


def test_skipped_pictures_are_named(capsys, own):
    (own / "train" / "cat" / "1.png").write_bytes(b"")
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own)
    assert ended.code == 2
    assert "train/cat/1.png cannot be decoded" in ended.err
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--skip-bad")
    assert ended.code == 0
    assert ended.err.startswith("skipped: train/cat/1.png cannot be decoded")


def test_an_interrupted_import_says_how_it_goes_on(capsys, own, cache, monkeypatch):
    def interrupted(jobs, n_workers):
        yield from []
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importing, "decode_all", interrupted)
        ended = l2lnp(capsys, "data", "import", "folder", "--from", own)
    assert ended.code == 130
    assert "the same command goes on from here" in ended.err
    assert not (cache / "folder.h5").exists()
    assert l2lnp(capsys, "data", "import", "folder", "--from", own).code == 0


def test_a_fetch_that_fails_names_every_address_and_ends_with_code_1(capsys, monkeypatch, cache):
    monkeypatch.setattr(download, "_PAUSES_S", (0.0,))
    with serving({}) as server:
        mirrors = (server.url("", "first"), server.url("", "second"))
        known = dataclasses.replace(
            catalogue.KNOWN["mnist"], downloads=idx_downloads(mirrors, {"x.gz": "0" * 64})
        )
        monkeypatch.setitem(catalogue.KNOWN, "mnist", known)
        ended = l2lnp(capsys, "data", "fetch", "mnist")
    assert ended.code == 1
    assert ended.err.startswith("l2lnp: cannot download x.gz: http://127.0.0.1")
    assert ended.err.count("answered 404 Not Found") == 2
    assert not (cache / "mnist.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "imagnet"], "did you mean 'imagenet'"),
        (["fetch", "imagenet"], "cannot be downloaded: register at image-net.org"),
        (["import", "mnist"], "Missing option '--from'; see 'l2lnp data import --help'"),
        (["fetsh", "mnist"], "No such command 'fetsh'"),
        (["import", "mnist", "--from", "none"], "there is no file or folder none"),
        (["import", "folder", "--from", ".", "--size", "0"], "--size is 0"),
        (["info", "mnist"], "l2lnp data fetch mnist"),
        (["info", "none.h5"], "there is no file none.h5"),
        (["verify", "none.h5"], "there is no file none.h5"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    ended = l2lnp(capsys, "data", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert files_in(tmp_path) == set()


def test_an_existing_file_is_not_overwritten(capsys, own, file):
    before = file.read_bytes()
    ended = l2lnp(capsys, "data", "import", "folder", "--from", own, "--out", file)
    assert ended.code == 2
    assert "exists already" in ended.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_damaged_file_is_bad_input(capsys, file, command):
    with h5py.File(file, "r+") as opened:
        opened["train/labels"][3] = 2
    ended = l2lnp(capsys, "data", command, file)
    assert ended.code == 2
    assert "has the label 2 in train/labels but names 2 classes" in ended.err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f["train/images"].__setitem__((2, 3), 0), "checksum of train/images does not match"),
        (lambda f: f["test/labels"].__setitem__(0, 1 - f["test/labels"][0]), "checksum of test/labels"),
        (lambda f: f.attrs.modify("mean", np.array([0.3])), "mean is not that of its training images"),
        (lambda f: f.attrs.modify("deviation", np.array([0.3])), "deviation is not that"),
    ],
)
def test_verify_finds_every_change(capsys, file, damage, message):
    with h5py.File(file, "r+") as opened:
        damage(opened)
    ended = l2lnp(capsys, "data", "verify", file)
    assert ended.code == 2
    assert message in ended.err
