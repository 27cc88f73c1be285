"""Write a file beside its place, then rename it there: a reader sees the old file or the whole new one."""

from __future__ import annotations

import os
from pathlib import Path

from l2lnp.errors import InputError


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that no crash can leave half of it there.

    Raises
    ------
    InputError
        If the file system refuses; what stood at ``path`` before is still there.
    """
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"  # others may write the same file
    try:
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from error


def remove_partials(folder: Path) -> None:
    """Remove files that killed processes have half written in ``folder``, in which no other is at work."""
    for partial in folder.glob(".*.partial"):
        if partial.is_file():
            partial.unlink()


def check_place(path: Path) -> None:
    """Raise `InputError` if no file can be put at ``path``: to be asked before long work."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


def check_folder(path: Path) -> None:
    """Raise `InputError` if ``path`` is no folder to write into, and none can be made: before long work."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"cannot write into {path}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {path}: {there} is not open to you")


def make_folder(path: Path) -> None:
    """Make the folder ``path``, unless it is there; raise `InputError` if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot("make", path, error) from None


def refuse_existing(path: Path) -> None:
    """Raise `InputError` if there is something at ``path`` already."""
    if path.is_symlink() or path.exists():
        raise InputError(f"{path} exists already: choose another place, or remove it first")


def read_file(path: Path) -> bytes:
    """Return what stands in ``path``; raise `InputError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot("read", path, error) from error


def read_text(path: Path) -> str:
    """Return the UTF-8 text in ``path``; raise `InputError` if it cannot be read."""
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8: byte {error.start} cannot be read") from None


def sync(path: Path) -> None:
    """Make what was written to a file, or renamed inside a folder, survive a loss of power."""
    if path.is_dir() and os.name != "posix":
        return  # only POSIX systems open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot(action: str, path: Path, error: OSError) -> InputError:
    """Return the error for a file system that refuses to ``action`` (read, write, make) ``path``."""
    reason = os.strerror(error.errno) if error.errno else str(error)  # of HDF5, strerror has a page
    return InputError(f"cannot {action} {path}: {reason[:1].lower()}{reason[1:]}")
