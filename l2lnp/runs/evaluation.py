"""Measure the network of a run on a split of its data."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from l2lnp.errors import InputError
from l2lnp.execution import Execution, available_cores
from l2lnp.runs.folder import RunFolder
from l2lnp.runs.problem import describe, load_data
from l2lnp.tasks.classification import Classification, Measured


class Evaluated(NamedTuple):
    """What was measured, on what, and after how many steps."""

    measured: Measured
    data: str
    class_names: tuple[str, ...]
    step: int


def evaluate_run(path: Path, split: str, threads: int | None = None) -> Evaluated:
    """Measure the network in the run folder ``path`` on ``split`` of its data, on the host.

    Raises
    ------
    InputError
        If the folder is no whole run, or its data is gone or has changed.
    """
    folder = RunFolder(path)
    settings, checkpoint = folder.read_settings(), folder.load_checkpoint()
    dataset = load_data(settings)
    subject = checkpoint.subject
    if describe(settings, dataset, subject.network_file) != subject:
        raise InputError(f"the data '{settings.data}' is not what the run in {path} was trained on")
    execution = Execution(threads or available_cores(), settings.micro_batch, settings.lanes, settings.chunk)
    task = Classification(subject.network(), execution=execution)
    measured = task.measure(checkpoint.theta, dataset.split(split))
    return Evaluated(measured, dataset.name, subject.class_names, checkpoint.step)
