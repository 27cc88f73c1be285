"""CIFAR-10 batches: the official instructions are followed, no other."""

import os
import pickle
import resource

import numpy as np
import pytest
from data_files import FUZZ, cifar_batch, is_sentence, outcome
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l2lnp.data import batch_reader
from l2lnp.data.batch_reader import read_batch
from l2lnp.errors import InputError

PLANES = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
BATCH = cifar_batch(PLANES, [4, 0, 9])


class Malicious:
    """An object whose pickle runs a command when Python's own reader loads it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_reads_a_batch():
    batch = read_batch(BATCH, "batch")
    np.testing.assert_array_equal(batch[b"data"], PLANES)
    assert batch[b"labels"] == [4, 0, 9]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_does_nothing(tmp_path, protocol):
    trap = tmp_path / "trapped"
    content = pickle.dumps({b"data": Malicious(f"touch {trap}"), b"labels": [1]}, protocol)
    with pytest.raises(InputError, match="no official CIFAR-10 batch"):
        read_batch(content, "batch")
    assert not trap.exists()


@pytest.mark.parametrize(
    "names",
    [
        b"os\nsystem\n",
        b"builtins\neval\n",
        b"numpy\nload\n",
        b"numpy.core.multiarray\nscalar\n",
    ],
)
def test_no_other_name_is_looked_up(names):
    with pytest.raises(InputError, match="it asks for"):
        read_batch(b"\x80\x02c" + names + b"U\x04true\x85R.", "batch")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends too early"),
        (BATCH[:-1], "ends too early"),
        (BATCH.replace(b"U\x02u1", b"U\x02O8"), "it calls something"),
        (BATCH.replace(b"M\x00\x0c\x86", b"M\x01\x0c\x86"), "cannot reshape"),
        (b"\x80\x03}.", "not of protocol 2"),
        (b"\x80\x02].", "holds no dictionary"),
        (b"\x80\x02}}.", "damaged"),
        (b"\x80\x02T\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x02K\x05K\x01(K\x02e.", "appends to what is no list"),
        (b"\x80\x02}(K\x01K\x02u.", "sets items"),
        (b"\x80\x02}(U\x01au.", "damaged"),
        (b"\x80\x02tK\x01.", "takes what is not there"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02}K\x01b.", "builds something"),
    ],
)
def test_refuses_what_is_no_batch(content, message):
    with pytest.raises(InputError, match=message):
        read_batch(content, "batch")


def test_refuses_too_many_bytes(monkeypatch):
    monkeypatch.setattr(batch_reader, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="bytes, an official"):
        read_batch(BATCH, "batch")


def test_memory_stays_within_the_size_of_the_file():
    """Claims of huge strings, places in the memo and shapes allocate nothing of that size."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (
        b"\x80\x02T\xff\xff\xff\x7f",
        b"\x80\x02]r\xff\xff\xff\x7f.",
        BATCH.replace(b"M\x03\x00M", b"J\xff\xff\xff\x7fM"),
        b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 50_000 + b".",
    ):
        with pytest.raises(InputError):
            read_batch(content, "batch")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024


def refused_or_plain(content):
    found = outcome(read_batch, content, "batch")
    assert is_sentence(found) or type(found) is dict


@given(st.binary(max_size=200))
@example(b"(" * 1000)
def test_any_bytes_are_refused_or_plain(content):
    refused_or_plain(b"\x80\x02" + content)


def mutated(seed, n_changes):
    """The batch with some bytes changed, cut or doubled, most of them outside the pixels."""
    rng = np.random.default_rng(seed)
    content = bytearray(BATCH)
    pixels = BATCH.index(PLANES.tobytes())
    for _ in range(n_changes):
        place = int(rng.integers(len(content)))
        if pixels <= place < pixels + PLANES.size and rng.random() < 0.97:
            place = int(rng.integers(pixels))
        match rng.integers(3):
            case 0:
                content[place] = rng.integers(256)
            case 1:
                del content[place : place + int(rng.integers(1, 9))]
            case _:
                content[place:place] = content[place : place + int(rng.integers(1, 9))]
    return bytes(content)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_every_mutation_is_read_or_refused(seed, n_changes):
    refused_or_plain(mutated(seed, n_changes))


@pytest.mark.slow
@settings(max_examples=4_000 * FUZZ)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_very_many_mutations(seed, n_changes):
    refused_or_plain(mutated(seed, n_changes))
