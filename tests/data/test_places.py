"""Where files lie: folders, tars in tars and zips are read in place; lies and links are refused."""

import io
import stat
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from data_files import FUZZ, is_sentence, outcome, special, tar_bytes, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from l2lnp.data import places
from l2lnp.data.places import read_entry, walk
from l2lnp.errors import InputError

FILES = {
    "train/a/1.png": b"one",
    "train/b/2.png": bytes(5000),
    "words.txt": b"",
    ".hidden/x": b"",
    "a/.y": b"",
}
SHOWN = {name: content for name, content in FILES.items() if "." not in (name[0], name[2])}


def zip_bytes(files, packing=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def contents(path):
    return {entry.name: read_entry(entry) for entry in walk(path)}


@pytest.mark.parametrize("form", ["folder", "tar", "zip", "stored zip"])
def test_reads_every_form_in_place(tmp_path, form):
    before = FILES | {"train/c/": b""} if "zip" in form else FILES
    if form == "folder":
        path = write_tree(tmp_path / "data", FILES)
    else:
        path = tmp_path / "archive"
        packing = zipfile.ZIP_STORED if form == "stored zip" else zipfile.ZIP_DEFLATED
        path.write_bytes(tar_bytes(FILES) if form == "tar" else zip_bytes(before, packing))
    assert contents(path) == SHOWN
    assert {p.name for p in tmp_path.iterdir()} == {path.name}


def test_reads_archives_in_archives(tmp_path):
    inner = tar_bytes({"1.png": b"one", "2.png": b"two"})
    outer = tar_bytes({"n01.tar": inner, "plain": b"x"})
    expected = {"n01.tar/1.png": b"one", "n01.tar/2.png": b"two", "plain": b"x"}
    path = write_tree(tmp_path / "data", {"train.tar": outer, "list.txt": b"y"})
    assert contents(path / "train.tar") == expected
    assert contents(path) == {f"train.tar/{name}": c for name, c in expected.items()} | {"list.txt": b"y"}


def test_archives_in_archives_end(tmp_path):
    content = b""
    for _ in range(5):
        content = tar_bytes({"inner.tar": content} if content else {"x": b""})
    (tmp_path / "nested.tar").write_bytes(content)
    with pytest.raises(InputError, match="archives in archives"):
        contents(tmp_path / "nested.tar")


def test_folders_in_folders_end(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(InputError, match="folders deep"):
        contents(tmp_path)


def test_links_to_pictures_in_a_folder_are_followed(tmp_path):
    elsewhere = write_tree(tmp_path / "elsewhere", {"x.png": b"x"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(elsewhere)
    assert contents(tmp_path / "data") == {"train/x.png": b"x"}


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "C:/x"])
def test_refuses_paths_that_lead_out_of_a_zip(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(zip_bytes({"first": b"x", name: b"x"}))
    with pytest.raises(InputError, match="leads out of its folder"):
        contents(tmp_path / "a.zip")


@pytest.mark.parametrize("offset", [1 << 40, (1 << 64) - 1001])
def test_refuses_a_member_beyond_the_end_of_a_zip(tmp_path, offset):
    content = zip_bytes({"x.png": b"x" * 40}, zipfile.ZIP_STORED)
    place = content.rindex(b"PK\x01\x02")  # the entry in the directory
    name = place + 46
    extra = struct.pack("<HHQ", 1, 8, offset)  # zip64: the offset alone
    entry = bytearray(content[place : name + len("x.png")])
    entry[30:32] = struct.pack("<H", len(extra))
    entry[42:46] = b"\xff" * 4
    end = bytearray(content[content.rindex(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", len(entry) + len(extra))
    (tmp_path / "a.zip").write_bytes(content[:place] + bytes(entry) + extra + bytes(end))
    with pytest.raises(InputError, match="damaged zip archive"):
        contents(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_refuses_links_and_devices_in_a_zip(tmp_path, kind):
    entry = zipfile.ZipInfo("trap")
    entry.external_attr = (kind | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="holds a link or device"):
        contents(tmp_path / "a.zip")


def test_refuses_links_in_a_tar_inside_a_tar(tmp_path):
    inner = tar_bytes({"trap": special("trap", tarfile.SYMTYPE, "/etc/passwd")})
    (tmp_path / "a.tar").write_bytes(tar_bytes({"n.tar": inner}))
    with pytest.raises(InputError, match=r"a\.tar \(n\.tar\) holds a link"):
        contents(tmp_path / "a.tar")


def test_refuses_unusual_packing_and_whole_compression(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(zip_bytes(FILES, zipfile.ZIP_LZMA))
    with pytest.raises(InputError, match="packed in an unusual way"):
        contents(path)
    path.write_bytes(tar_bytes(FILES, "w:gz"))
    with pytest.raises(InputError, match="compressed as a whole"):
        contents(path)
    path.write_bytes(zip_bytes(FILES)[:-30])
    with pytest.raises(InputError, match="damaged zip"):
        contents(path)
    with pytest.raises(InputError, match=r"cannot read .*none"):
        contents(tmp_path / "none")


def with_size(content, size):
    """A zip of one file whose directory claims another unpacked size."""
    place = content.index(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<I", size) + content[place + 4 :]


@pytest.mark.parametrize(
    ("size", "message"), [(4999, "has not the 4999"), (5001, "has not the 5001"), (1 << 31, "claims")]
)
def test_sizes_are_bounded_before_unpacking(tmp_path, size, message):
    (tmp_path / "a.zip").write_bytes(with_size(zip_bytes({"x": bytes(5000)}), size))
    with pytest.raises(InputError, match=message):
        contents(tmp_path / "a.zip")


def test_a_bomb_unpacks_no_further_than_it_claims(tmp_path, monkeypatch):
    unpacked = []
    original = places._inflate
    monkeypatch.setattr(places, "_inflate", lambda *a: unpacked.append(original(*a)) or unpacked[-1])
    (tmp_path / "a.zip").write_bytes(with_size(zip_bytes({"x": bytes(1 << 24)}), 100))
    with pytest.raises(InputError, match="has not the 100"):
        contents(tmp_path / "a.zip")
    assert len(unpacked[0]) == 101


def check_mutated(tmp_path, seed, n_changes):
    rng = np.random.default_rng(seed)
    content = bytearray(zip_bytes(FILES))
    for _ in range(n_changes):
        content[rng.integers(len(content))] = rng.integers(256)
    path = tmp_path / "mutated.zip"
    path.write_bytes(content)
    found = outcome(contents, path)
    assert is_sentence(found) or isinstance(found, dict)


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_every_mutated_zip_is_read_or_refused(tmp_path_factory, seed, n_changes):
    check_mutated(tmp_path_factory.getbasetemp(), seed, n_changes)


@pytest.mark.slow
@settings(max_examples=2_000 * FUZZ)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_very_many_mutated_zips(tmp_path_factory, seed, n_changes):
    check_mutated(tmp_path_factory.getbasetemp(), seed, n_changes)
