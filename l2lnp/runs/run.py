"""A run: begun in a new folder, or gone on with in an old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil
from pathlib import Path
from typing import Any

from l2lnp.backend import to_host
from l2lnp.checkpoint import Checkpoint
from l2lnp.errors import InputError
from l2lnp.files import replace_file
from l2lnp.meta.joint import Training
from l2lnp.runs.environment import describe_environment
from l2lnp.runs.folder import RunFolder, RunFolderExistsError, create_run_folder, free_name
from l2lnp.runs.metrics import Line, read_metrics, write_metrics
from l2lnp.runs.problem import Problem, load_data, on_backend, pose
from l2lnp.runs.settings import MAY_CHANGE, TrainSettings, check_given, full_path, option
from l2lnp.scalars import LARGEST


@dataclass(frozen=True)
class Run:
    """A run ready to go on: its folder, what is trained, and where it stands."""

    folder: RunFolder
    problem: Problem
    training: Training
    lines: list[Line]  # of metrics, so far
    elapsed_s: float

    @property
    def settings(self) -> TrainSettings:
        """The run's settings."""
        return self.problem.settings

    def checkpoint(self, training: Training, boundary: Training, elapsed_s: float) -> Checkpoint:
        """Return what is to be stored of ``training``, whose unroll began at ``boundary``."""
        s = self.settings
        return Checkpoint(
            config=s.to_toml(),
            seed=s.seed,
            subject=self.problem.subject,
            step=training.step,
            theta=to_host(training.result),
            boundary=boundary,
            optimizer=s.optimizer,
            optimizer_settings=s.optimizer_settings,
            curvature=s.curvature,
            elapsed_s=elapsed_s,
        )


def begin(settings: TrainSettings, path: Path | None = None, epochs: float | None = None) -> Run:
    """Make the run folder ``path``, or one with a free name, and return the run before its first step.

    Parameters
    ----------
    epochs
        Passes through the training pictures, in place of ``settings.steps``.

    Raises
    ------
    InputError
        If anything about the run is wrong; then nothing is written.
    """
    dataset = load_data(settings)
    if epochs is not None:
        n_samples = dataset.split("train").n_samples
        settings = replace(settings, steps=steps_of(epochs, n_samples, settings.batch_size))
    problem = pose(settings, dataset=dataset)
    with problem.noting_memory():
        training = problem.begin()

    def fill(folder: RunFolder) -> None:
        folder.write_settings(settings)
        folder.add_session(describe_environment(settings, step=0))
        replace_file(folder.metrics, b"")
        folder.save_checkpoint(Run(folder, problem, training, [], 0.0).checkpoint(training, training, 0.0))

    while True:
        try:
            folder = create_run_folder(path or free_name(settings), fill)
            return Run(folder, problem, training, [], 0.0)
        except RunFolderExistsError:
            if path is not None:
                raise  # otherwise another run took the name meanwhile


def steps_of(epochs: float, n_samples: int, batch_size: int) -> int:
    """Return the least number of steps that takes ``epochs`` passes through the data.

    Raises
    ------
    InputError
        If that is no number of steps from 1 to `l2lnp.scalars.LARGEST`.
    """
    steps = epochs * n_samples / batch_size
    if not 0 < steps <= LARGEST:
        raise InputError(f"--epochs must be more than 0, and no more than {LARGEST:,} steps, not {epochs:g}")
    return ceil(steps)


def resume(folder: RunFolder, settings: TrainSettings) -> Run:
    """Return the run in ``folder`` at its last checkpoint, to end as if it had never stopped.

    Parameters
    ----------
    settings
        The run's own, or those with a change that `changed` allows.

    Raises
    ------
    InputError
        If the folder holds no whole run, or parts of different ones, or its data changed.
    """
    checkpoint = folder.load_checkpoint()
    made = checkpoint.step
    if settings.steps < made or settings.steps == made != folder.read_settings().steps:
        raise InputError(f"--steps {settings.steps} is not more than the {made} steps made in {folder.path}")
    problem = pose(settings, checkpoint.subject.network_file)
    if problem.subject != checkpoint.subject:
        raise InputError(f"the data '{settings.data}' is not what the run in {folder.path} began with")
    boundary = checkpoint.boundary
    lines = _kept_lines(folder.metrics, settings, boundary.step)
    folder.add_session(describe_environment(settings, boundary.step))  # refuses a damaged file
    folder.write_settings(settings)
    write_metrics(folder.metrics, lines)
    training = problem.learner.resume(on_backend(boundary, problem.xp))
    return Run(folder, problem, training, lines, checkpoint.elapsed_s)


def changed(settings: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """Return ``settings`` with ``changes``, or raise `InputError` if a run cannot go on with them."""
    for name, value in check_given(changes).items():
        own = getattr(settings, name)
        if name not in MAY_CHANGE and full_path(name, value) != own:
            allowed = " and ".join(option(other) for other in MAY_CHANGE)
            raise InputError(
                f"{option(name)} {value} cannot be given to a run that goes on with {own}: only {allowed} can"
            )
    return replace(settings, **{name: changes[name] for name in MAY_CHANGE if name in changes})


def _kept_lines(path: Path, settings: TrainSettings, step: int) -> list[Line]:
    """Return the lines up to ``step``, as a run writes them that does not end there."""
    lines = [line for line in read_metrics(path) if line.step <= step and settings.logs_at(line.step)]
    logged = [s for s in range(1, step + 1) if settings.logs_at(s)]
    found = [line.step for line in lines]
    if found != logged:
        missing = next((s for s, has in zip_longest(logged, found) if s != has), step)
        raise InputError(f"{path} is not whole: the line of step {missing} is missing, or not in its place")
    return [line if settings.evaluates_at(line.step) else line._replace(test_error=None) for line in lines]
