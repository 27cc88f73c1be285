"""Where the files of a data set lie: in a folder, in tar archives (also in each other), or in a zip.

Nothing is unpacked to disk: an `Entry` says in which file on disk, at which place and
how many bytes. All sizes are known, and bounded, before anything is read.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from l2lnp.data.tar import safe_name, tar_members
from l2lnp.errors import InputError
from l2lnp.files import cannot

MOST_FILE_BYTES = 1 << 26  # of one picture or list; the largest picture of ILSVRC2012 has 16 MB

_DEEPEST_FOLDER = 8
_DEEPEST_ARCHIVE = 3
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1


class Entry(NamedTuple):
    """One file of a data set."""

    name: str  # its path inside the data set, with "/"
    container: str  # the archive on disk that holds its bytes, or the folder in which it is a file
    offset: int  # in the archive; negative for a file in a folder
    stored: int  # bytes there
    size: int  # bytes unpacked
    deflated: bool = False

    @property
    def path(self) -> Path:
        """The file on disk that holds its bytes."""
        return Path(self.container) if self.offset >= 0 else Path(self.container, self.name)


def walk(path: Path) -> Iterator[Entry]:
    """Yield the files in the folder, tar or zip ``path``, and those in tar archives among them.

    Hidden files are left out. Links in a folder are followed, they are the user's own;
    in an archive they are refused.

    Raises
    ------
    InputError
        If there is nothing at ``path``, or an archive is damaged or holds what is refused.
    """
    try:
        if path.is_dir():
            found = _walk_folder(path, "", 0)
        elif _begins_with(path, _ZIP):
            found = _walk_zip(path)
        else:
            found = _walk_tar(Entry("", str(path), 0, path.stat().st_size, path.stat().st_size), 1)
        yield from found
    except OSError as error:
        raise cannot("read", path, error) from None


def _walk_folder(root: Path, inner: str, depth: int) -> Iterator[Entry]:
    folder = root / inner
    if depth > _DEEPEST_FOLDER:
        raise InputError(f"{folder} lies more than {_DEEPEST_FOLDER} folders deep: name the data set's own")
    with os.scandir(folder) as items:
        names = sorted((item.name, item.is_dir()) for item in items if not item.name.startswith("."))
    for name, is_folder in names:
        path = folder / name
        if is_folder:
            yield from _walk_folder(root, f"{inner}{name}/", depth + 1)
        elif path.is_file():
            size = path.stat().st_size
            yield from _expand(Entry(inner + name, str(root), -1, size, size), 0)


def _walk_tar(archive: Entry, depth: int) -> Iterator[Entry]:
    """Yield the files in the tar archive that ``archive`` is."""
    if depth > _DEEPEST_ARCHIVE:
        raise InputError(f"{archive.path} holds archives in archives more than {_DEEPEST_ARCHIVE} deep")
    if _begins_with(archive.path, _GZIP):
        raise InputError(f"{archive.path} is compressed as a whole: unpack it (gunzip) and name the tar")
    prefix = f"{archive.name}/" if archive.name else ""
    start = max(0, archive.offset)
    with open(archive.path, "rb") as file:
        section = _Section(file, start, archive.size)
        label = f"{archive.path} ({archive.name})" if start else str(archive.path)
        for name, offset, size in tar_members(section, label, archive.size):
            if not _hidden(name):
                entry = Entry(prefix + name, str(archive.path), start + offset, size, size)
                yield from _expand(entry, depth)


def _expand(entry: Entry, depth: int) -> Iterator[Entry]:
    """Yield ``entry``, or what is in it if it is a tar archive."""
    if entry.name.endswith(".tar"):
        yield from _walk_tar(entry, depth + 1)
    else:
        yield entry


class _Section:
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._place = 0

    def seek(self, offset: int, /) -> int:
        self._place = offset
        return offset

    def read(self, size: int, /) -> bytes:
        self._file.seek(self._start + self._place)
        content = self._file.read(max(0, min(size, self._size - self._place)))
        self._place += len(content)
        return content


def _walk_zip(path: Path) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise InputError(f"{path} is a damaged zip archive ({error})") from None
    with open(path, "rb") as file:
        for member in members:
            name = safe_name(member.filename, str(path))
            _check_zip_member(member, name, path)
            if not name.endswith("/") and not _hidden(name):
                offset = _content_offset(file, member, path)
                deflated = member.compress_type == zipfile.ZIP_DEFLATED
                yield Entry(name, str(path), offset, member.compress_size, member.file_size, deflated)


def _check_zip_member(member: zipfile.ZipInfo, name: str, path: Path) -> None:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{path} holds a link or device, {name}: only files and folders are read")
    packings = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if member.flag_bits & _ENCRYPTED or member.compress_type not in packings:
        raise InputError(f"{path} holds {name} encrypted or packed in an unusual way: pack it anew")


def _content_offset(file: BinaryIO, member: zipfile.ZipInfo, path: Path) -> int:
    """Return where a member's bytes begin: behind the header that stands before them."""
    is_inside = 0 <= member.header_offset < path.stat().st_size
    file.seek(member.header_offset if is_inside else 0)
    header = file.read(_LOCAL_HEADER.size if is_inside else 0)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_ZIP):
        raise InputError(f"{path} is a damaged zip archive (no header before {member.filename!r})")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    return member.header_offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


def _begins_with(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def read_entry(entry: Entry) -> bytes:
    """Return the bytes of a file found by `walk`.

    Raises
    ------
    InputError
        If they are not there, are not as many as said, or are too many.
    """
    if max(entry.size, entry.stored) > MOST_FILE_BYTES:
        raise InputError(f"{entry.name} claims {entry.size} bytes, more than {MOST_FILE_BYTES}")
    try:
        with open(entry.path, "rb") as file:
            file.seek(max(0, entry.offset))
            content = file.read(entry.stored)
    except OSError as error:
        raise cannot("read", entry.path, error) from None
    if entry.deflated:
        content = _inflate(content, entry.size)
    if len(content) != entry.size:
        raise InputError(f"{entry.name} is damaged: it has not the {entry.size} bytes that it should have")
    return content


def _inflate(content: bytes, size: int) -> bytes:
    """Unpack at most one byte more than ``size``; nothing where the packing is damaged."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    except zlib.error:
        return b""
