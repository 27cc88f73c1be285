"""Results of jobs in a folder, one small HDF5 file each: what was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from l2lnp.errors import InputError
from l2lnp.experiments.job import Job, Result
from l2lnp.files import make_folder
from l2lnp.sealed import read_sealed, write_sealed


class Cache:
    """The folder ``path``; made when the first result is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: str) -> Result | None:
        """Return the stored result; None if there is none to be read."""
        path = self._file(key)
        if not path.exists():
            return None
        try:
            return read_sealed(path, "result of a job", _take)
        except InputError:
            return None  # computed again, and written over

    def write(self, job: Job, key: str, result: Result) -> None:
        """Store ``result``, in one step."""
        make_folder(self.path)

        def fill(file: h5py.File) -> None:
            file.attrs["identity"] = json.dumps(job.identity(), sort_keys=True)
            for name in ("losses", "wall_s", "cpu_s", "errors", "restarts"):
                file[name] = getattr(result, name)
            file["evaluated_at"] = np.array(result.evaluated_at, np.int64)

        write_sealed(self._file(key), fill)

    def _file(self, key: str) -> Path:
        return self.path / f"{key}.h5"


def _take(file: h5py.File) -> Result:
    return Result(
        file["losses"][()],
        file["wall_s"][()],
        file["cpu_s"][()],
        tuple(file["evaluated_at"][()].tolist()),
        file["errors"][()],
        file["restarts"][()],
    )
