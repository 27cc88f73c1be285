"""Read the headers of a tar archive: what lies where in it. Nothing is ever unpacked to disk.

Names that lead out of a folder are refused, and so is everything that is neither a
file nor a folder: links, devices, pipes. Each header lies behind the one before, so
reading ends; long names are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from l2lnp.errors import InputError

_BLOCK = 512
_MOST_NAME_BYTES = 1 << 14
_FILES = (b"0", b"\0", b"7")
_FOLDER = b"5"
_LONG_NAME = b"L"
_EXTENDED = b"x"
_EXTENDED_FOR_ALL = b"g"
_REFUSED = {
    b"1": "a link",
    b"2": "a link",
    b"K": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
}


class Seekable(Protocol):
    """What is needed of an open archive; a gzip file has it too."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes."""

    def seek(self, offset: int, /) -> int:
        """Go to ``offset``, counted from the beginning."""


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    offset: int
    size: int


def tar_members(file: Seekable, archive: str, most_bytes: int) -> Iterator[Member]:
    """Yield the files in a tar archive of at most ``most_bytes``; ``archive`` is its name for messages.

    Raises
    ------
    InputError
        If the archive is damaged, ends too early or goes on too long, or holds what is refused.
    """
    place, long_name = 0, None
    while True:
        file.seek(place)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            raise InputError(f"{archive} is truncated: it ends without the mark of its end; get it again")
        if not any(header):
            return
        size = _check(header, archive)
        offset = place + _BLOCK
        place = offset + -(-size // _BLOCK) * _BLOCK
        if place > most_bytes:
            raise InputError(f"{archive} is truncated, or holds more than the {most_bytes} bytes expected")
        kind = header[156:157]
        if kind in (_LONG_NAME, _EXTENDED):
            long_name = _long_name(file, kind, size, archive) or long_name
        elif kind != _EXTENDED_FOR_ALL:
            name = safe_name(_decode(long_name or _short_name(header)), archive)
            long_name = None
            if kind in _FILES and not name.endswith("/"):
                yield Member(name, offset, size)
            elif kind not in (*_FILES, _FOLDER):
                what = _REFUSED.get(kind, "an entry of an unknown kind")
                raise InputError(f"{archive} holds {what}, {name}: only files and folders are read")


def safe_name(name: str, archive: str) -> str:
    """Return the path ``name`` without a leading ``./``; raise `InputError` if it leads out of a folder."""
    name = name.removeprefix("./")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name.partition("/")[0]:
        raise InputError(f"{archive} holds the path {name!r}, which leads out of its folder")
    if not name.isprintable():
        raise InputError(f"{archive} holds the path {name!r}, which cannot be shown")
    return name


def _check(header: bytes, archive: str) -> int:
    """Return the size in a header whose checksum is right."""
    expected = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if _number(header[148:156]) != expected:
        raise InputError(
            f"{archive} is no archive, or a damaged one (checksum of a header): name a folder, tar or zip"
        )
    size = _number(header[124:136])
    if size is None:
        raise InputError(f"{archive} is damaged: a header has no size")
    return size


def _number(field: bytes) -> int | None:
    """Return the number in a header's field: octal digits, or binary where the first byte is 128."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _short_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _long_name(file: Seekable, kind: bytes, size: int, archive: str) -> bytes | None:
    """Return the name that stands in an entry of its own, before the entry that it names."""
    if size > _MOST_NAME_BYTES:
        raise InputError(f"{archive} holds a name or extended header of {size} bytes")
    content = file.read(size)
    return content.partition(b"\0")[0] if kind == _LONG_NAME else _path_record(content, archive)


def _path_record(content: bytes, archive: str) -> bytes | None:
    """Return the path among the records ``length key=value\\n`` of an extended header."""
    path = None
    while content:
        digits, _, rest = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        if not len(digits) + 2 < length <= len(content):
            raise InputError(f"{archive} is damaged: an extended header does not end")
        key, _, value = rest[: length - len(digits) - 2].partition(b"=")
        if key == b"size":
            raise InputError(f"{archive} holds a file with its size in an extended header, which is not read")
        path = value if key == b"path" else path
        content = content[length:]
    return path


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "replace")
