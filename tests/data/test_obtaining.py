"""Fetching and importing by name, the whole way from official files to a data set."""

import dataclasses
import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import tar_bytes, write_tree
from lying_server import serving

from l2lnp.data import catalogue, cifar10, download, load_dataset
from l2lnp.data.addresses import Download
from l2lnp.data.download import DownloadError
from l2lnp.data.hdf5_reading import verify_file
from l2lnp.data.mnist import SHA256, idx_downloads
from l2lnp.data.obtaining import ImportOptions, fetch_dataset, import_dataset
from l2lnp.errors import InputError


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def mnist_files():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 28, 28), np.uint8), rng.integers(0, 10, 30, np.uint8)
    contents = (images, labels, images[:5], labels[:5])
    return {name: gzip.compress(idx(array), mtime=0) for name, array in zip(SHA256, contents, strict=True)}


def offer(monkeypatch, server, files, name="mnist"):
    """Let ``name`` be downloaded from two mirrors on ``server``."""
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    mirrors = tuple(server.url("", mirror) for mirror in ("first", "second"))
    known = dataclasses.replace(catalogue.KNOWN[name], downloads=idx_downloads(mirrors, digests))
    monkeypatch.setitem(catalogue.KNOWN, name, known)


def fetch(folder, name="mnist", say=print):
    return fetch_dataset(name, folder, lambda file: lambda done, total: None, say)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_PAUSES_S", (0.0, 0.0))
    with serving(mnist_files()) as server:
        offer(monkeypatch, server, server.files)
        yield server


def test_fetched_data_sets_load_by_name(server, tmp_path, monkeypatch):
    monkeypatch.setenv("L2LNP_CACHE", str(tmp_path))
    server.lies["first", "t10k-images-idx3-ubyte.gz"] = ["truncate", 404]
    assert fetch(tmp_path) == tmp_path / "mnist.h5"
    assert load_dataset("mnist").split("test").n_samples == 5
    n_requests = len(server.requests)
    (tmp_path / ".mnist.lock").unlink()
    fetch(tmp_path)
    assert not (tmp_path / ".mnist.lock").exists()  # so the folder need not be writable any more
    assert len(server.requests) == n_requests


def test_a_failed_fetch_leaves_no_data_set(server, tmp_path):
    server.lies["t10k-labels-idx1-ubyte.gz"] = [404] * 9
    with pytest.raises(DownloadError, match=r"t10k-labels-idx1-ubyte\.gz: .*first.*404.*second.*404"):
        fetch(tmp_path)
    assert not (tmp_path / "mnist.h5").exists()


def test_a_damaged_data_set_is_not_taken_for_fetched(server, tmp_path):
    content = bytearray(fetch(tmp_path).read_bytes())
    content[-200] ^= 1
    (tmp_path / "mnist.h5").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        fetch(tmp_path)


FETCH = """
import sys
from pathlib import Path
import dataclasses
from l2lnp.data import catalogue
from l2lnp.data.mnist import idx_downloads
from l2lnp.data.obtaining import fetch_dataset

digests = dict(pair.split("=") for pair in sys.argv[3:])
known = dataclasses.replace(catalogue.KNOWN["mnist"], downloads=idx_downloads((sys.argv[2],), digests))
catalogue.KNOWN["mnist"] = known
print(fetch_dataset("mnist", Path(sys.argv[1]), lambda file: lambda done, total: None, print))
"""


def test_two_processes_at_once_both_end_well_and_download_once(server, tmp_path):
    digests = [f"{name}={hashlib.sha256(content).hexdigest()}" for name, content in server.files.items()]
    command = [sys.executable, "-c", FETCH, str(tmp_path), server.url(""), *digests]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert all(output.endswith(f"{tmp_path / 'mnist.h5'}\n") for output in outputs)
    assert len(server.requests) == 4
    verify_file(tmp_path / "mnist.h5")


def test_the_official_files_are_fetched_from_a_server_that_serves_them(data_dir, tmp_path, monkeypatch):
    files = {name: data_dir / "mnist" / name for name in SHA256}
    if not all(path.exists() for path in files.values()):
        pytest.skip("not all official MNIST files in the folder with data")
    with serving({name: path.read_bytes() for name, path in files.items()}) as server:
        mirrors = tuple(server.url("", mirror) for mirror in ("first", "second"))
        known = dataclasses.replace(catalogue.KNOWN["mnist"], downloads=idx_downloads(mirrors, SHA256))
        monkeypatch.setitem(catalogue.KNOWN, "mnist", known)
        server.lies["first", "train-images-idx3-ubyte.gz"] = ["truncate"]
        path = fetch(tmp_path)
    assert [len(labels) for labels in verify_file(path).labels.values()] == [60_000, 10_000]


def test_an_archive_of_cifar_with_the_right_checksum_but_other_batches_is_refused(tmp_path, monkeypatch):
    content = tar_bytes({"cifar-10-batches-bin/data_batch_1.bin": bytes(3073)}, "w:gz")
    with serving({cifar10.DOWNLOADS[0].name: content}) as server:
        name, digest = cifar10.DOWNLOADS[0].name, hashlib.md5(content).hexdigest()
        offered = (Download(name, (server.url(name),), f"md5:{digest}", 1 << 20),)
        known = dataclasses.replace(catalogue.KNOWN["cifar-10"], downloads=offered)
        monkeypatch.setitem(catalogue.KNOWN, "cifar-10", known)
        with pytest.raises(InputError, match="other batches than the official ones"):
            fetch(tmp_path, "cifar-10")


def test_refuses_to_fetch_what_cannot_be_fetched(tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded: download tiny-imagenet-200\.zip"):
        fetch(tmp_path, "tiny-imagenet")
    with pytest.raises(InputError, match="did you mean 'fashion-mnist'"):
        fetch(tmp_path, "fashion-mnst")
    assert fetch(tmp_path, "digits").name == "digits.h5"


def import_(name, source, out, **options):
    said = []
    import_dataset(name, source, out, ImportOptions(**options), lambda done, total: None, said.append)
    return said


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_imports_arrays(tmp_path, name):
    source = write_tree(tmp_path / "files", mnist_files())
    out = tmp_path / "new folder" / "x.h5"
    assert "from the official idx files" in import_(name, source, out, compress=True)[0]
    assert verify_file(out).description.name == name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {"size": 32}, "leave --size, --grey and --skip-bad out"),
        ("mnist", {"grey": True}, "leave --size, --grey and --skip-bad out"),
        ("mnist", {"skip_bad": True}, "leave --size, --grey and --skip-bad out"),
        ("mnist", {"test_share": 0.1}, "has test pictures: leave --test-share out"),
        ("digits", {}, "bundled: there is nothing to import"),
        ("folder", {"size": 0}, "--size is 0: choose from 1 to 4096"),
        ("folder", {"size": 5000}, "--size is 5000"),
        ("minst", {}, "did you mean 'mnist'.*; pictures of your own are imported by the name 'folder'"),
    ],
)
def test_refuses_options_that_do_not_fit(tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        import_(name, tmp_path, tmp_path / "x.h5", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["x", "x.txt", "x.h5.gz", "/dev/null"])
def test_refuses_names_that_no_command_would_read(tmp_path, out):
    with pytest.raises(InputError, match=r"cannot be a data set file: their names end in \.h5 or \.hdf5"):
        import_("mnist", tmp_path, tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_refuses_missing_sources_and_places_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        import_("mnist", tmp_path / "none", tmp_path / "x.h5")
    with pytest.raises(InputError, match="there is no file or folder /dev/null"):
        import_("cifar-10", Path("/dev/null"), tmp_path / "x.h5")
    (tmp_path / "file").write_bytes(b"")
    source = write_tree(tmp_path / "files", mnist_files())
    with pytest.raises(InputError, match="cannot make"):
        import_("mnist", source, tmp_path / "file" / "x.h5")


def test_tiny_imagenet_from_its_sample(data_dir, tmp_path):
    source = data_dir / "tiny-imagenet-20.tar"
    if not source.exists():
        pytest.skip("no sample of Tiny ImageNet in the folder with data")
    import_("tiny-imagenet", source, tmp_path / "x.h5", n_workers=1)
    dataset = load_dataset(str(tmp_path / "x.h5"))
    assert [dataset.split(s).n_samples for s in ("train", "validation", "test")] == [7_200, 800, 1_000]
    np.testing.assert_array_equal(np.bincount(dataset.split("test").labels), 50)
    assert dataset.class_names[0] == "n01443537 goldfish, Carassius auratus"


def test_imagenet_from_its_sample(data_dir, tmp_path):
    source = data_dir / "ilsvrc2012-sample.tar"
    if not source.exists():
        pytest.skip("no sample of ILSVRC2012 in the folder with data")
    import_("imagenet", source, tmp_path / "x.h5", size=32, n_workers=1)
    assert len(verify_file(tmp_path / "x.h5").labels["train"]) == 23
