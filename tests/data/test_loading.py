"""Data sets by name: from the folder given, from the cache, or a sentence that says how to get them."""

import numpy as np
import pytest
from data_files import cifar_batch, write_tree

from l2lnp.data import load_dataset
from l2lnp.data.dataset import MemorySplit
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.loading import cache_folder, find_file
from l2lnp.data.streaming import StreamedSplit
from l2lnp.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("L2LNP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def write(path, name):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (20, 8, 8, 1), np.uint8), rng.integers(0, 2, 20)
    write_dataset(path, Description(name, ("a", "b"), (8, 8, 1), "random"), {"train": arrays, "test": arrays})
    return path


def test_a_file_by_its_path(tmp_path):
    path = write(tmp_path / "own.h5", "own")
    assert load_dataset(str(path)).name == load_dataset(path).name == "own"
    with pytest.raises(InputError, match=r"there is no file .*none\.h5"):
        load_dataset(str(tmp_path / "none.h5"))


def test_files_beyond_the_memory_limit_are_streamed(tmp_path):
    path = str(write(tmp_path / "own.h5", "own"))
    assert isinstance(load_dataset(path).split("train"), MemorySplit)
    n_bytes = 2 * 20 * 8 * 8
    assert isinstance(load_dataset(path, memory_limit_bytes=n_bytes).split("train"), MemorySplit)
    assert isinstance(load_dataset(path, memory_limit_bytes=n_bytes - 1).split("train"), StreamedSplit)


@pytest.mark.parametrize("name", ["mnist", "imagenet", "folder"])
def test_a_name_from_the_cache_folder_or_the_folder_given(tmp_path, cache, name):
    write(cache / f"{name}.h5", f"cached {name}")
    assert load_dataset(name).name == f"cached {name}"
    write(tmp_path / f"{name}.h5", f"given {name}")
    for folder in (tmp_path, str(tmp_path)):
        assert load_dataset(name, folder).name == f"given {name}"
    assert find_file(name) == cache / f"{name}.h5"


def test_cifar_batches_in_the_folder_given(tmp_path):
    planes = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
    write_tree(tmp_path, {"cifar-10-batches-py/data_batch_3": cifar_batch(planes, [1, 2, 3, 4, 5])})
    assert load_dataset("cifar-10", tmp_path).split("train").n_samples == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist", "is not at .*: get it by 'l2lnp data fetch mnist', or name its folder with --data-dir"),
        ("imagenet", "register at image-net.org and download ILSVRC2012, then 'l2lnp data import imagenet"),
        (".", r"\. is a folder: of pictures, .* 'l2lnp data import folder --from \. --out NAME\.h5'"),
        (__file__, r"is no data set file: their names end in \.h5 or \.hdf5"),
        ("cifar10", "unknown data set 'cifar10': did you mean 'cifar-10'"),
    ],
)
def test_missing_data_sets_say_how_to_get_them(name, message):
    with pytest.raises(InputError, match=message):
        load_dataset(name)


def test_the_platform_has_a_cache_folder(monkeypatch):
    monkeypatch.delenv("L2LNP_CACHE")
    assert cache_folder().name == "l2lnp"
