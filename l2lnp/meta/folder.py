"""The folder of a meta-training run: settings, progress, measurements, and the best optimizer so far.

* ``config.toml``: settings, the texts of the tasks and of their network files, checksums of their data;
* ``progress.h5``: phi, Adam's state, the best phi, the number of episodes, and ``config.toml`` as the run
  began with it: enough to go on exactly;
* ``metrics.jsonl``: a line for each episode;
* ``learned.h5``: the best optimizer so far, for ``l2lnp train --pretrained``;
* ``curves.png``: losses over episodes, drawn anew at each validation.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
from matplotlib.figure import Figure

from l2lnp.errors import InputError
from l2lnp.files import read_text, replace_file
from l2lnp.lock import alone_in
from l2lnp.meta.settings import MetaSettings
from l2lnp.meta.trainer import MetaTrainer, Progress, Report
from l2lnp.pretrained import LearnedOptimizer, save_learned_optimizer
from l2lnp.runs.folder import RunFolder, create_run_folder
from l2lnp.runs.settings import toml_line
from l2lnp.sealed import read_sealed, read_tree, write_sealed, write_tree
from l2lnp.tasks.distribution import Distribution
from l2lnp.version import VERSION

_LINE = ("episode", "task", "mean_loss", "final_loss", "validation")
_PROGRESS = "progress of meta-training"


@dataclass(frozen=True)
class MetaFolder:
    """What stands where in the folder ``path``."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings and tasks."""
        return self.path / "config.toml"

    @property
    def progress(self) -> Path:
        """All that is needed to go on."""
        return self.path / "progress.h5"

    @property
    def metrics(self) -> Path:
        """A line for each episode."""
        return self.path / "metrics.jsonl"

    @property
    def learned(self) -> Path:
        """The best optimizer so far."""
        return self.path / "learned.h5"

    @property
    def curves(self) -> Path:
        """Losses over episodes."""
        return self.path / "curves.png"

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from going on with the same run."""
        return alone_in(self.path, "meta-training")

    def create(self, trainer: MetaTrainer) -> None:
        """Make the folder in one step, with the progress of no episode in it; refuse an existing one."""
        progress = trainer.start()

        def fill(folder: RunFolder) -> None:
            own = MetaFolder(folder.path)
            replace_file(own.config, _config(trainer).encode())
            own.save(trainer, progress, [])

        create_run_folder(self.path, fill)

    def read(self) -> tuple[MetaSettings, Distribution]:
        """Return settings and tasks of a run that goes on.

        Raises
        ------
        InputError
            If the folder holds no whole run, or ``config.toml`` or the data have changed since it began.
        """
        if not self.config.exists():
            raise InputError(f"{self.path} is no folder of a meta-training run: it has no config.toml")
        try:
            found = tomllib.loads(read_text(self.config))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{self.config} is damaged: {error}") from None
        if "tasks_source" not in found:
            raise InputError(
                f"{self.path} is no folder of a meta-training run: {self.config.name} names no tasks"
            )
        began = read_sealed(self.progress, _PROGRESS, lambda file: tomllib.loads(file["config"].asstr()[()]))
        for name in sorted({*found, *began}):
            if found.get(name) != began.get(name):
                raise InputError(f"{self.config} has another {name} than the run began with: put it back")
        data_dir = began.pop("data_dir", None)
        fingerprints = began.pop("data")
        distribution = Distribution(
            began.pop("tasks_source"),
            began.pop("tasks"),
            Path(data_dir) if data_dir else None,
            Path(began.pop("folder")),
            began.pop("networks"),
        )
        for name, fingerprint in distribution.fingerprints.items():
            if fingerprint != fingerprints[name]:
                raise InputError(f"the data '{name}' is not what the run in {self.path} began with")
        return MetaSettings(**began), distribution

    def save(self, trainer: MetaTrainer, progress: Progress, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write progress and metrics; first the metrics, which are cut back when a run goes on."""
        text = "".join(json.dumps(report) + "\n" for report in reports)
        replace_file(self.metrics, text.encode())

        def fill(file: h5py.File) -> None:
            file["config"] = _config(trainer)
            write_tree(file.create_group("phi"), progress.phi)
            write_tree(file.create_group("meta"), progress.meta)
            write_tree(file.create_group("best"), progress.best_phi)
            file.attrs.update(
                episode=progress.episode,
                best_score=progress.best_score,
                best_episode=progress.best_episode,
                l2lnp_version=VERSION,
            )

        write_sealed(self.progress, fill)

    def load(self) -> tuple[Progress, list[dict[str, Any]]]:
        """Return the progress, and the metrics up to it."""

        def take(file: h5py.File) -> Progress:
            return Progress(
                int(file.attrs["episode"]),
                read_tree(file["phi"]),
                read_tree(file["meta"]),
                read_tree(file["best"]),
                float(file.attrs["best_score"]),
                int(file.attrs["best_episode"]),
            )

        progress = read_sealed(self.progress, _PROGRESS, take)
        lines = read_text(self.metrics).splitlines()[: progress.episode]
        if len(lines) < progress.episode:
            raise InputError(
                f"{self.metrics} is not whole: it has {len(lines)} of {progress.episode} episodes"
            )
        return progress, [self._report(number, line) for number, line in enumerate(lines, start=1)]

    def _report(self, number: int, line: str) -> dict[str, Any]:
        try:
            report = json.loads(line)
        except json.JSONDecodeError:
            report = None
        is_whole = (
            isinstance(report, dict)
            and set(report) == set(_LINE)
            and report["episode"] == number
            and all(isinstance(report[name], float) for name in ("mean_loss", "final_loss"))
            and isinstance(report["validation"], float | None)
        )
        if not is_whole:
            raise InputError(f"{self.metrics}: line {number} is damaged: put back a copy of the file")
        return report

    def save_learned(self, learned: LearnedOptimizer) -> None:
        """Write the best optimizer so far."""
        save_learned_optimizer(self.learned, learned)

    def draw(self, reports: Sequence[Mapping[str, Any]], title: str) -> None:
        """Draw losses over episodes: of training, and of validation."""
        from l2lnp.runs.curves import BLUE, ORANGE, write_figure

        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        episodes = range(1, len(reports) + 1)
        axes.plot(
            episodes, [r["mean_loss"] for r in reports], ".", ms=3, color=BLUE, alpha=0.5, label="episodes"
        )
        scores = [(r["episode"], r["validation"]) for r in reports if r["validation"] is not None]
        if scores:
            axes.plot(*zip(*scores, strict=True), "o-", color=ORANGE, label="validation")
        axes.set(yscale="log", xlabel="episode", ylabel="mean loss over the steps")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
        axes.legend(frameon=False)
        write_figure(self.curves, figure)


def _config(trainer: MetaTrainer) -> str:
    """Return everything that the run depends on as TOML: settings, tasks, networks, and checksums of data."""
    values, distribution = asdict(trainer.settings), trainer.distribution
    tables = {
        "optimizer_settings": values.pop("optimizer_settings"),
        "networks": distribution.networks,
        "data": distribution.fingerprints,
    }
    values |= {
        "tasks_source": distribution.source,
        "tasks": distribution.text,
        "folder": str(distribution.folder.absolute()),
    }
    if distribution.data_dir is not None:
        values["data_dir"] = str(distribution.data_dir.absolute())
    lines = [toml_line(name, value) for name, value in values.items() if value is not None]
    for title, table in tables.items():
        lines += ["", f"[{title}]", *(toml_line(name, value) for name, value in table.items())]
    return "\n".join([*lines, ""])


def as_line(progress: Progress, report: Report) -> dict[str, Any]:
    """Return one episode as a line of ``metrics.jsonl``."""
    values = progress.episode, report.title, report.mean_loss, report.final_loss, report.validation_score
    return dict(zip(_LINE, values, strict=True))
