"""Find a data set by its name or its file."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from l2lnp.data.catalogue import KNOWN, Known
from l2lnp.data.dataset import Dataset, in_memory
from l2lnp.data.streaming import MEMORY_LIMIT_BYTES, load_file
from l2lnp.errors import InputError, unknown_name

NAMES = tuple(KNOWN)

SUFFIXES = (".h5", ".hdf5")
BUNDLED = "digits"  # the data set that comes with the package


def load_dataset(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Dataset:
    """Return the data set called ``name_or_path``, or the one in that HDF5 file.

    Parameters
    ----------
    data_dir
        Where to look for a named data set: its ``<name>.h5``, or the official files of
        MNIST, Fashion-MNIST or CIFAR-10, there or in a folder of the set's name. Without
        it, the cache folder, where ``l2lnp data fetch`` and ``import`` put data sets.
    memory_limit_bytes
        A file with more bytes of pictures is streamed; official files are always read into memory.

    Raises
    ------
    InputError
        If the name is unknown, or the files are missing, damaged or of something else.
    """
    name, folder = str(name_or_path), None if data_dir is None else Path(data_dir)
    known = KNOWN.get(name)
    if known is None or known.read is None or folder is None:
        return load_file(find_file(name, folder), memory_limit_bytes)
    path = folder / f"{name}.h5"
    if path.is_file():
        return load_file(path, memory_limit_bytes)
    inner = folder / name
    return in_memory(*known.read(inner if inner.is_dir() else folder))


def find_file(name_or_path: str, data_dir: Path | None = None) -> Path:
    """Return the HDF5 file of a data set by its name, or the file that is named.

    Raises
    ------
    InputError
        If the name is unknown, or the data set is not there yet.
    """
    if name_or_path.endswith(SUFFIXES):
        return Path(name_or_path)
    if name_or_path not in KNOWN and os.path.isdir(name_or_path):
        way_out = f"l2lnp data import folder --from {shlex.quote(name_or_path)} --out NAME.h5"
        raise InputError(f"{name_or_path} is a folder: of pictures, make a data set file by '{way_out}'")
    if name_or_path not in KNOWN and os.path.exists(name_or_path):
        raise InputError(f"{name_or_path} is no data set file: their names end in {' or '.join(SUFFIXES)}")
    known = known_dataset(name_or_path)
    if name_or_path == BUNDLED:
        return bundled_file()
    path = (data_dir or cache_folder()) / f"{name_or_path}.h5"
    if not path.is_file():
        raise InputError(f"data set '{name_or_path}' is not at {path}: {how_to_get(name_or_path, known)}")
    return path


def known_dataset(name: str) -> Known:
    """Return what is known of the data set ``name``; if nothing is, raise `InputError` with the nearest."""
    if name not in KNOWN:
        raise unknown_name("data set", name, NAMES)
    return KNOWN[name]


def bundled_file() -> Path:
    """Return where the bundled digits are."""
    return Path(__file__).with_name("digits.h5")


def how_to_get(name: str, known: Known) -> str:
    """Return what the user can do to have the data set ``name``."""
    if known.downloads:
        return f"get it by 'l2lnp data fetch {name}', or name its folder with --data-dir"
    return f"{known.origin}, then 'l2lnp data import {name} --from PATH'"


def cache_folder() -> Path:
    """Return the folder for downloads and imported data sets: ``L2LNP_CACHE``, else the platform's."""
    import pooch  # here, for it takes long to load

    return Path(os.environ.get("L2LNP_CACHE") or pooch.os_cache("l2lnp"))
