"""A run is one folder: its settings, environment, metrics, checkpoint and curves.

The folder appears whole, with a checkpoint of step 0 in it, so that a run can go on
wherever it was killed. Nothing that exists is ever overwritten by a new run.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from l2lnp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from l2lnp.errors import InputError
from l2lnp.files import cannot, read_text, replace_file, sync
from l2lnp.lock import alone_in
from l2lnp.runs.settings import MAY_CHANGE, TrainSettings, parse_config, read_config

_HEADER = "# The settings of this run; `l2lnp train --config` reads them back.\n\n"


class RunFolderExistsError(InputError):
    """A new run was to be put where something stands already."""

    def __init__(self, path: Path) -> None:
        quoted = shlex.quote(str(path))
        super().__init__(
            f"{path} exists already: choose another --out, or go on with it by --resume {quoted}"
        )


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and what stands where in it."""

    path: Path

    @property
    def config(self) -> Path:
        """``config.toml``: everything that was asked for, defaults filled in."""
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        """``environment.json``: what each session of the run was computed with."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: a line for each logged step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """``checkpoint.h5``: theta and all that is needed to go on."""
        return self.path / "checkpoint.h5"

    @property
    def curves(self) -> Path:
        """``curves.png``: the metrics as a picture."""
        return self.path / "curves.png"

    def read_settings(self) -> TrainSettings:
        """Return the settings in ``config.toml``."""
        if not self.path.is_dir():
            raise InputError(f"there is no run folder {self.path}")
        if not self.config.exists():
            raise InputError(f"{self.path} is no run folder: it has no config.toml")
        if (self.path / "progress.h5").exists():
            raise InputError(
                f"{self.path} is the folder of a meta-training run: go on with it by l2lnp meta-train "
                "--resume, or take its learned.h5 by l2lnp train --pretrained"
            )
        return TrainSettings(**read_config(self.config))

    def write_settings(self, settings: TrainSettings) -> None:
        """Write ``config.toml``."""
        replace_file(self.config, (_HEADER + settings.to_toml()).encode())

    def load_checkpoint(self) -> Checkpoint:
        """Return the checkpoint, or raise `InputError` if it is not of the run that ``config.toml`` is of."""
        settings, checkpoint = self.read_settings(), load_checkpoint(self.checkpoint)
        stored = vars(TrainSettings(**parse_config(checkpoint.config)))
        for name, value in vars(settings).items():
            if name not in MAY_CHANGE and stored[name] != value:
                raise InputError(
                    f"{self.checkpoint} is of another run than config.toml: "
                    f"its {name} is {stored[name]}, not {value}"
                )
        return checkpoint

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put ``checkpoint`` in place of the one before, with the metrics it counts on safe first."""
        try:
            sync(self.metrics)
        except OSError as error:
            raise cannot("write", self.metrics, error) from error
        save_checkpoint(self.checkpoint, checkpoint)

    def add_session(self, environment: dict[str, Any]) -> None:
        """Add one session to ``environment.json``."""
        text = json.dumps({"sessions": [*self._sessions(), environment]}, indent=2)
        replace_file(self.environment, text.encode() + b"\n")

    def _sessions(self) -> list[Any]:
        text = read_text(self.environment) if self.environment.exists() else '{"sessions": []}'
        try:
            return [*json.loads(text)["sessions"]]
        except (ValueError, LookupError, TypeError):
            raise InputError(
                f"{self.environment} is damaged: remove it, and the run goes on with a new one"
            ) from None

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from going on with the same run."""
        return alone_in(self.path, "training")


def create_run_folder(path: Path, fill: Callable[[RunFolder], None]) -> RunFolder:
    """Make the run folder ``path``, filled by ``fill``, in one step.

    Raises
    ------
    InputError
        If ``path`` exists (`RunFolderExistsError`) or cannot be written; then nothing is left behind.
    """
    if path.is_symlink() or path.exists():
        raise RunFolderExistsError(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        partial.mkdir(parents=True)
        fill(RunFolder(partial))
        partial.rename(path)
        sync(path.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise RunFolderExistsError(path) from error
        raise cannot("make the run folder", path, error) from error
    except InputError as error:
        raise InputError(str(error).replace(str(partial), str(path))) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not path.exists():
            _remove_empty(made)
    return RunFolder(path)


def free_name(settings: TrainSettings, parent: Path = Path("runs")) -> Path:
    """Return the first free folder name for a run with ``settings``: ``runs/digits-small-slstm-1``, ..."""
    stem = "-".join(Path(part).stem for part in (settings.data, settings.network, settings.optimizer))
    return next(path for n in count(1) if not (path := parent / f"{stem}-{n}").exists())


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
