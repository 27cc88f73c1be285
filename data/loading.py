"""Find a data set by its name or its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from l2lnp.data.dataset import Arrays, Dataset, in_memory
from l2lnp.data.hdf5 import Description
from l2lnp.data.mnist import read_mnist
from l2lnp.data.streaming import load_file
from l2lnp.errors import InputError, unknown_name

READERS: dict[str, Callable[[Path], tuple[Description, Arrays]]] = {"mnist": read_mnist}
NAMES = ("digits", *READERS)


def load_dataset(name_or_path: str, data_dir: Path | None = None) -> Dataset:
    """Return the data set called ``name_or_path``, or the one in that ``.h5`` file.

    Parameters
    ----------
    data_dir
        Folder with the official files of a named data set, or with a folder of the
        data set's name that holds them. Not needed for ``digits``, which is bundled.

    Raises
    ------
    InputError
        If the name is unknown, or the files are missing, damaged or of something else.
    """
    if name_or_path.endswith((".h5", ".hdf5")):
        return load_file(Path(name_or_path))
    if name_or_path not in NAMES:
        raise unknown_name("data set", name_or_path, NAMES)
    if name_or_path == "digits":
        return load_file(Path(__file__).with_name("digits.h5"))
    if data_dir is None:
        raise InputError(f"data set '{name_or_path}' is not bundled: say with --data-dir where its files are")
    inner = data_dir / name_or_path
    return in_memory(*READERS[name_or_path](inner if inner.is_dir() else data_dir))
