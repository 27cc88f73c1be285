"""Room on the disk, taken before a file is filled: the HDF5 library crashes where it runs out of it later."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from l2lnp.errors import InputError

_STRUCTURE_BYTES = 1 << 20  # of an HDF5 file, beside its values


def check_room(path: Path, beside: Path, n_bytes: int) -> None:
    """Raise `InputError` unless ``n_bytes`` of values fit where ``beside``, to become ``path``, lies."""
    free = shutil.disk_usage(beside.parent).free
    if n_bytes + _STRUCTURE_BYTES > free:
        raise InputError(
            f"{path} needs {n_bytes / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free: "
            "choose another place or smaller pictures, or make room"
        )


def take_room(path: Path, n_bytes: int) -> None:
    """Take room on the disk for ``n_bytes`` of values in the file ``path``, where the system can do that.

    Raises
    ------
    OSError
        If there is not as much.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, n_bytes + _STRUCTURE_BYTES)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot
                    raise
