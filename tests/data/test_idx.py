"""idx files: what is well formed is read, everything else gives one sentence."""

import gzip
import resource
import struct

import numpy as np
import pytest
from data_files import FUZZ, is_sentence, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from l2lnp.data import idx
from l2lnp.data.idx import read_idx
from l2lnp.errors import InputError


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
PLAIN = idx_bytes(IMAGES)


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "file.idx"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_what_was_written(file, pack):
    np.testing.assert_array_equal(read_idx(file(pack(PLAIN)), 3), IMAGES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no idx file"),
        (b"PNG." + PLAIN[4:], "no idx file"),
        (b"\0\0\x0d\x03" + PLAIN[4:], "elements of type 0x0d"),
        (b"\0\0\x08\x01" + PLAIN[4:], "1 dimensions, expected 3"),
        (PLAIN[:9], "within its header"),
        (PLAIN[:-1], "truncated: its header says 24 bytes, there are 23"),
        (PLAIN + b"\0", "goes on after the 24 bytes"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28), "claims sizes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "claims sizes"),
    ],
)
def test_refuses_wrong_content(file, pack, content, message):
    with pytest.raises(InputError, match=message):
        read_idx(file(pack(content)), 3)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_idx(tmp_path / "none", 3)


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_refuses_truncated_gzip(file, cut):
    with pytest.raises(InputError, match=r"cannot read|no idx file"):
        read_idx(file(gzip.compress(PLAIN)[:-cut]), 3)


def test_decompresses_no_more_than_the_header_says(file, monkeypatch):
    """A bomb that unpacks to 512 MB behind a header of 24 bytes is refused after 24 + 1 bytes."""
    bomb = gzip.compress(PLAIN) + gzip.compress(bytes(1 << 26), 9) * 8
    read = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda f, n: read.append(len(b := original(f, n))) or b)
    with pytest.raises(InputError, match="goes on after"):
        read_idx(file(bomb), 3)
    assert sum(read) == len(PLAIN) + 1


def test_a_claim_takes_no_memory(file):
    """A header that claims the most it may, with nothing behind it, allocates nothing of that size."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="truncated"):
        read_idx(file(b"\0\0\x08\x01" + struct.pack(">I", idx.MOST_BYTES)), 1)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown_bytes < idx.MOST_BYTES // 8


mutations = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 400), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.integers(0, 400), st.integers(0, 40)),
    st.tuples(st.just("insert"), st.integers(0, 400), st.integers(0, 255)),
)


def mutate(content, mutation):
    kind, place, value = mutation
    place %= len(content) + 1
    if kind == "set":
        return content[:place] + bytes([value]) + content[place + 1 :]
    if kind == "cut":
        return content[:place] + content[place + value :]
    return content[:place] + bytes([value]) + content[place:]


def check_mutated(path, content, changes):
    for change in changes:
        content = mutate(content, change)
    path.write_bytes(content)
    found = outcome(read_idx, path, 3)
    if not (is_sentence(found) and str(path) in str(found)):
        assert found.dtype == np.uint8
        assert found.ndim == 3


@given(packed=st.booleans(), changes=st.lists(mutations, min_size=1, max_size=4))
def test_every_mutation_is_read_or_refused(tmp_path_factory, packed, changes):
    path = tmp_path_factory.getbasetemp() / "mutated.idx"
    check_mutated(path, gzip.compress(PLAIN, mtime=0) if packed else PLAIN, changes)


@pytest.mark.slow
@settings(max_examples=2_000 * FUZZ)
@given(packed=st.booleans(), changes=st.lists(mutations, min_size=1, max_size=8))
def test_very_many_mutations(tmp_path_factory, packed, changes):
    path = tmp_path_factory.getbasetemp() / "mutated.idx"
    check_mutated(path, gzip.compress(PLAIN, mtime=0) if packed else PLAIN, changes)
