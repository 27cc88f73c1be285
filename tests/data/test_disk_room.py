"""A disk too small for a file: one sentence before anything is filled, and nothing left behind."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from data_files import encoded, picture, write_tree

from l2lnp.data import disk_room
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.streaming import load_file
from l2lnp.errors import InputError

RNG = np.random.default_rng(0)
ARRAYS = RNG.integers(0, 256, (20, 8, 8, 1), np.uint8), RNG.integers(0, 2, 20)
SPLITS = {"train": ARRAYS, "test": ARRAYS}
NOISE = Description("noise", ("a", "b"), (8, 8, 1), "drawn at random")


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 40 * (8 * 8 + 4) + disk_room._STRUCTURE_BYTES - 1})
    monkeypatch.setattr(disk_room.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"x\.h5 needs 0\.00 GB of disk, 0\.00 GB are free: choose another"):
        write_dataset(tmp_path / "x.h5", NOISE, SPLITS)
    assert list(tmp_path.iterdir()) == []
    usage.free += 1
    write_dataset(tmp_path / "x.h5", NOISE, SPLITS)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot take room ahead")
def test_room_that_cannot_be_taken(tmp_path, monkeypatch):
    def refuse(number):
        def fallocate(*arguments):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", fallocate)

    refuse(errno.ENOSPC)
    with pytest.raises(InputError, match=r"cannot write .*x\.h5: no space left on device"):
        write_dataset(tmp_path / "x.h5", NOISE, SPLITS)
    assert list(tmp_path.iterdir()) == []
    refuse(errno.EOPNOTSUPP)  # the file system knows no such thing: the file is written without
    write_dataset(tmp_path / "x.h5", NOISE, SPLITS)
    assert load_file(tmp_path / "x.h5").split("test").n_samples == 20


@pytest.mark.parametrize("compress", [False, True])
def test_the_room_taken_is_given_back_where_it_was_not_needed(tmp_path, compress):
    write_dataset(tmp_path / "x.h5", NOISE, SPLITS, compress)
    assert (tmp_path / "x.h5").stat().st_size < 20_000


LIMITED = """
import resource, sys
from l2lnp.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("compress", [[], ["--compress"]], ids=["plain", "compressed"])
def test_a_process_that_may_not_write_as_much_ends_well(tmp_path, compress):
    """Without room taken ahead, the HDF5 library ends such a process by a segmentation fault."""
    own = write_tree(tmp_path / "own", {f"train/a/{i}.png": encoded(picture(i), "PNG") for i in range(9)})
    command = [sys.executable, "-c", LIMITED, "data", "import", "folder", "--from", str(own)]
    command += ["--size", "300", "--workers", "1", "--out", str(tmp_path / "x.h5"), *compress]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended
    assert ended.stderr == f"l2lnp: cannot write {tmp_path / 'x.h5'}: file too large\n"
    assert not (tmp_path / "x.h5").exists()
