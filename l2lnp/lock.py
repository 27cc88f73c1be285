"""Locks between processes, which the system frees when their holder ends, in whatever way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from l2lnp.errors import InputError
from l2lnp.files import cannot, remove_partials

_WAIT_S = 0.1

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO | int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock that the file ``path`` stands for; ``waiting`` is called once if somebody else does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise cannot("write", path, error) from None
    with file:
        if not _taken(file, path):
            waiting()
            while not _taken(file, path):
                time.sleep(_WAIT_S)
        yield


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Keep other processes from ``doing`` the same in ``folder`` (but on Windows, where none has locks).

    What killed ones have half written there is removed.

    Raises
    ------
    InputError
        If another process is there.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _taken(descriptor, folder):
            raise InputError(f"another process is {doing} in {folder}: wait for it, or stop it")
        remove_partials(folder)
        yield
    finally:
        os.close(descriptor)


def _taken(file: BinaryIO | int, path: Path) -> bool:
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # the latter on Windows
        return False
    except OSError as error:
        raise cannot("lock", path, error) from None
    return True
