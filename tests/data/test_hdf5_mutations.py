"""Mutated HDF5 files: a data set or one sentence; no crash, no hang, no memory beyond the bound.

The HDF5 library is written in C, so the mutations run in a process of their own, which is
given at most 1 GiB of address space beyond what it has at its start.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import FUZZ

from l2lnp.data import hdf5
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.streaming import load_file

RUN = """
import resource, sys, time
from pathlib import Path
import numpy as np
from data_files import is_sentence, outcome
from l2lnp.data.hdf5_reading import verify_file
from l2lnp.data.streaming import load_file

source, first, n = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (1 << 30),) * 2)
content, mutated = source.read_bytes(), source.with_suffix(".mutated.h5")
for seed in range(first, first + n):
    print(seed, flush=True)
    rng, changed = np.random.default_rng(seed), bytearray(content)
    for _ in range(rng.integers(1, 6)):
        changed[rng.integers(len(changed))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    mutated.write_bytes(changed)
    begin = time.monotonic()
    for limit_bytes in (1 << 30, 0):
        found = outcome(load_file, mutated, limit_bytes)
        if not isinstance(found, Exception):
            found = outcome(found.split("train").batch, np.arange(5))
        assert is_sentence(found) or found[0].shape == (3, 5, 4, 5), found
    found = outcome(verify_file, mutated)
    assert is_sentence(found) or found.labels, found
    assert time.monotonic() - begin < 5
"""


def write(path, libver, compress, monkeypatch):
    monkeypatch.setattr(hdf5, "LIBVER", libver)
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (n, 5, 4, 3), np.uint8), rng.integers(0, 3, n))
        for split, n in SIZES.items()
    }
    description = Description("tiny", ("cat", "dog", "lynx"), (5, 4, 3), "drawn at random")
    write_dataset(path, description, splits, compress)
    return path


SIZES = {"train": 20, "test": 7}
FORMATS = {"ours": hdf5.LIBVER, "without checksums": ("earliest", "v108")}


def check(path, first, n):
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", RUN, str(path), str(first), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tests, timeout=3600)
    assert done.returncode == 0, (done.returncode, done.stdout[-9:], done.stderr[-2000:])
    assert len(done.stdout.split()) == n


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
CASES = pytest.mark.parametrize(
    ("libver", "compress"), [(v, c) for v in FORMATS.values() for c in (False, True)], ids=str
)


@LINUX
@CASES
def test_mutations(tmp_path, monkeypatch, libver, compress):
    check(write(tmp_path / "whole.h5", libver, compress, monkeypatch), 0, 100)


@pytest.mark.slow
@LINUX
@CASES
def test_very_many_mutations(tmp_path, monkeypatch, libver, compress):
    check(write(tmp_path / "whole.h5", libver, compress, monkeypatch), 1000, 600 * FUZZ)


def test_older_files_open_too(tmp_path, monkeypatch):
    path = write(tmp_path / "old.h5", FORMATS["without checksums"], False, monkeypatch)
    assert load_file(path).split("test").n_samples == SIZES["test"]
