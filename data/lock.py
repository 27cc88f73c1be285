"""A lock between processes, which the system frees when its holder ends, in whatever way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from l2lnp.files import cannot

_WAIT_S = 0.1

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
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
        if not _taken(file):
            waiting()
            while not _taken(file):
                time.sleep(_WAIT_S)
        yield


def _taken(file: BinaryIO) -> bool:
    try:
        _lock(file)
    except OSError:
        return False
    return True
