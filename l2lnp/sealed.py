"""HDF5 files that know when they are damaged: a checksum stands in front of the HDF5 part.

HDF5 leaves the first bytes of a file to the user (its *user block*). Here they hold one
line, ``l2lnp sha256 <checksum of the rest>``, so any HDF5 program reads the file, and
`read_sealed` finds every truncation and every changed byte before HDF5 sees them. A file
without the line, made by another program, is read without that protection.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from l2lnp.backend import to_host
from l2lnp.errors import InputError
from l2lnp.files import read_file, replace_file

T = TypeVar("T")

_SEAL_BYTES = 512  # the smallest user block that HDF5 allows
_OF_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def write_sealed(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Write the HDF5 file that ``fill`` fills to ``path``, in one step."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=_SEAL_BYTES) as file:
        fill(file)
    body = buffer.getvalue()[_SEAL_BYTES:]
    replace_file(path, _seal(body) + body)


def read_sealed(path: Path, what: str, take: Callable[[h5py.File], T]) -> T:
    """Return what ``take`` takes out of the HDF5 file at ``path``, which should be a ``what``.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not what ``take`` expects.
    """
    content = read_file(path)
    if not content.startswith(_SIGNATURE):
        _check_seal(path, what, content)
    try:
        with h5py.File(io.BytesIO(content)) as file:
            return take(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _OF_DAMAGE as error:
        reason = str(error).strip("'\"")
        raise InputError(f"{path} is damaged, or no {what} ({reason})") from error


def write_tree(group: h5py.Group, tree: Mapping[str, Any]) -> None:
    """Write arrays and whole numbers into ``group``, under their keys as paths, in the order of the keys."""
    for key, value in sorted(tree.items()):
        group[key] = value if isinstance(value, int) else to_host(value)


def read_tree(group: h5py.Group) -> dict[str, Any]:
    """Return what `write_tree` wrote, in the order of the keys."""
    tree: dict[str, Any] = {}

    def visit(key: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            whole = item.shape == () and item.dtype.kind == "i"
            tree[key] = int(item[()]) if whole else np.asarray(item[()])

    group.visititems(visit)
    return tree


def _seal(body: bytes) -> bytes:
    line = f"l2lnp sha256 {hashlib.sha256(body).hexdigest()}\n"
    return line.encode().ljust(_SEAL_BYTES, b"\0")


def _check_seal(path: Path, what: str, content: bytes) -> None:
    body = content[_SEAL_BYTES:]
    if not body.startswith(_SIGNATURE):
        raise InputError(f"{path} is no {what}: it is not an HDF5 file, or its beginning is damaged")
    if content[:_SEAL_BYTES] != _seal(body):
        raise InputError(f"{path} is damaged or cut short: its checksum does not match")
