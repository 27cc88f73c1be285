"""The idx files of MNIST and its relatives: a magic number, the sizes, the bytes; plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from l2lnp.errors import InputError

MOST_BYTES = 1 << 30  # a header that claims more is refused; the largest known set (EMNIST) has 547 MB

_UNSIGNED_BYTE = 0x08
_PIECE_BYTES = 1 << 20


class Readable(Protocol):
    """What the parser needs of an open file."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""


def read_idx(path: Path, n_dimensions: int) -> np.ndarray:
    """Return the array in the idx file ``path``: uint8 with ``n_dimensions`` axes.

    No more is decompressed than the header says, plus one byte that must not be there.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another type or of another size than it says.
    """
    try:
        with _plain(path) as file:
            return _parse(file, path, n_dimensions)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from None


@contextmanager
def _plain(path: Path) -> Iterator[Readable]:
    """Open ``path``, through gzip where its first bytes say so, whatever its name."""
    with path.open("rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        if magic != b"\x1f\x8b":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as file:
            yield file


def _parse(file: Readable, path: Path, n_dimensions: int) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise InputError(f"{path} is no idx file: it does not begin with two zero bytes")
    if magic[2] != _UNSIGNED_BYTE:
        raise InputError(f"{path} holds elements of type 0x{magic[2]:02x}, expected bytes (0x08)")
    if magic[3] != n_dimensions:
        raise InputError(f"{path} has {magic[3]} dimensions, expected {n_dimensions}")
    header = file.read(4 * n_dimensions)
    if len(header) < 4 * n_dimensions:
        raise InputError(f"{path} ends within its header")
    shape = struct.unpack(f">{n_dimensions}I", header)
    n_bytes = prod(shape)
    if not 0 < n_bytes <= MOST_BYTES:
        raise InputError(f"{path} claims sizes {shape}: between 1 and {MOST_BYTES} bytes are read")
    values = _read_exactly(file, n_bytes)
    if len(values) < n_bytes:
        raise InputError(f"{path} is truncated: its header says {n_bytes} bytes, there are {len(values)}")
    if file.read(1):
        raise InputError(f"{path} goes on after the {n_bytes} bytes that its header says")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_exactly(file: Readable, n_bytes: int) -> bytearray:
    """Read up to ``n_bytes`` in pieces: memory grows with what is there, not with what is claimed."""
    values = bytearray()
    while len(values) < n_bytes:
        piece = file.read(min(_PIECE_BYTES, n_bytes - len(values)))
        if not piece:
            break
        values += piece
    return values
