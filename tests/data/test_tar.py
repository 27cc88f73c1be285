"""Tar headers: read as Python's own module does; whatever leads out of a folder, links or lies is refused."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from data_files import FUZZ, is_sentence, outcome, special, tar_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from l2lnp.data.tar import safe_name, tar_members
from l2lnp.errors import InputError

FILES = {"a.txt": b"first", "folder/b.bin": bytes(1000), "empty": b"", "deep/" * 30 + "c": b"long name"}


def members(content, most_bytes=1 << 20):
    return list(tar_members(io.BytesIO(content), "archive", most_bytes))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_finds_what_python_finds(layout):
    files = FILES | {"folder": special("folder", tarfile.DIRTYPE), "./x": b"dot"}
    if layout != tarfile.USTAR_FORMAT:
        files["n" * 300] = b"longer"
        files["grün"] = b"not ASCII"
    content = tar_bytes(files, layout=layout)
    found = {name: content[offset : offset + size] for name, offset, size in members(content)}
    assert found == {name.removeprefix("./"): c for name, c in files.items() if isinstance(c, bytes)}


def test_reads_through_gzip():
    packed = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(tar_bytes(FILES))))
    assert [m.name for m in tar_members(packed, "archive", 1 << 20)] == list(FILES)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out", "a/../../out", "C:/out", "a\\..\\out", "..", "./../x"]
)
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_refuses_paths_that_lead_out(name, layout):
    with pytest.raises(InputError, match="leads out of its folder"):
        members(tar_bytes({name: b"x"}, layout=layout))


def test_refuses_names_that_hide_in_long_headers():
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with pytest.raises(InputError, match="leads out"):
            members(tar_bytes({"a/" * 100 + "../" * 101 + "out": b"x"}, layout=layout))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "unknown kind"),
    ],
)
def test_refuses_links_and_devices(kind, message):
    with pytest.raises(InputError, match=message):
        members(tar_bytes({"a": b"fine", "trap": special("trap", kind, "/etc/passwd")}))


def test_refuses_damage_and_lies():
    content = tar_bytes(FILES)
    big = tarfile.TarInfo("big")
    big.size = 1 << 60
    for damaged, message in [
        (b"", "truncated"),
        (content[:700], "truncated"),
        (content[: 512 * 5], "truncated"),
        (b"x" * 512, "no archive"),
        (content.replace(b"a.txt", b"b.txt"), "checksum of a header"),
        (big.tobuf(tarfile.GNU_FORMAT) + bytes(1024), "more than the"),
        (tar_bytes({"x" * 20_000: b""}, layout=tarfile.GNU_FORMAT), "extended header of"),
    ]:
        with pytest.raises(InputError, match=message):
            members(damaged)


def pax(records):
    header = special("pax", b"x")
    header.size = len(records)
    return header.tobuf() + records.ljust(-(-len(records) // 512) * 512, b"\0") + tar_bytes({"a": b"x"})


@pytest.mark.parametrize(
    "records", [b"0 path=x\n", b"5 a", b"999999 path=x\n", b"path=x\n", b"12 size=1\n\n\n\n"]
)
def test_refuses_extended_headers_that_lie(records):
    with pytest.raises(InputError, match=r"does not end|which is not read"):
        members(pax(records))


def test_names_are_cleaned_or_refused():
    assert safe_name("./a/b", "archive") == "a/b"
    with pytest.raises(InputError, match="cannot be shown"):
        safe_name("a\x1b[2J", "archive")


def check_mutated(seed, n_changes):
    """Members or `InputError`, and never more members than there can be headers."""
    rng = np.random.default_rng(seed)
    layouts = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    content = bytearray(tar_bytes(FILES | ({"n" * 200: b""} if seed % 3 else {}), layout=layouts[seed % 3]))
    for _ in range(n_changes):
        block = 512 * int(rng.integers(len(content) // 512))
        content[block + int(rng.integers(512))] = rng.integers(256)
        if rng.random() < 0.8:  # a right checksum lets the change through to what follows
            field = content[block : block + 512]
            total = sum(field[:148]) + 256 + sum(field[156:])
            content[block + 148 : block + 156] = b"%06o\0 " % total
    found = outcome(members, bytes(content), len(content))
    if not is_sentence(found):
        assert len(found) <= len(content) // 512
        assert all(m.offset >= 0 and m.offset + m.size <= len(content) for m in found)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_every_mutation_is_read_or_refused(seed, n_changes):
    check_mutated(seed, n_changes)


@pytest.mark.slow
@settings(max_examples=2_000 * FUZZ)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_very_many_mutations(seed, n_changes):
    check_mutated(seed, n_changes)
