"""A job: one training without a run folder, and what was measured in it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2lnp.data import Dataset, load_dataset
from l2lnp.errors import DivergedError
from l2lnp.experiments.ablation import ChangedCurvature, changed
from l2lnp.experiments.contenders import checksum
from l2lnp.meta.joint import Training
from l2lnp.networks import find_network
from l2lnp.optimizers import OPTIMIZERS
from l2lnp.pretrained import RANDOM
from l2lnp.runs.blocks import Blocks
from l2lnp.runs.problem import Problem, fingerprint, pose
from l2lnp.runs.resolving import own_settings
from l2lnp.runs.settings import TrainSettings
from l2lnp.tasks.classification import Classification
from l2lnp.version import VERSION

_ELSEWHERE = (
    "data",
    "data_dir",
    "network",
    "pretrained",
    "optimizer_settings",
)  # told by contents, not by name
_INERT = ("threads", "log_every_steps", "eval_every_steps", "checkpoint_every_s")


class StoppedError(Exception):
    """A job was asked to stop."""


@dataclass(frozen=True)
class Job:
    """One training.

    Parameters
    ----------
    evaluate_at
        After how many steps the error on ``split`` is measured.
    h
        What is done to h (`l2lnp.experiments.ablation.CHANGES`).
    """

    settings: TrainSettings
    evaluate_at: tuple[int, ...] = ()
    split: str = "test"
    h: str = "as it is"

    def begin(self) -> tuple[Problem, Classification | ChangedCurvature, Training]:
        """Return the problem, the task with h as it is to be, and the training before its first step.

        Raises
        ------
        InputError
            If settings, data, network and optimizer do not go together.
        """
        s = self.settings
        problem = pose(s, dataset=loaded(s.data, s.data_dir))
        return problem, changed(problem.task, self.h, s.seed), problem.begin()

    @property
    def is_prefix_of_longer(self) -> bool:
        """Whether a longer run begins with this one: the optimizer does not know how long it runs."""
        is_learned = OPTIMIZERS[self.settings.optimizer].learned
        return not is_learned and "schedule" not in _own_settings(self.settings)

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on, and nothing else but steps and ``evaluate_at``.

        Settings at their defaults are left out, so that a setting that comes new changes no identity.
        """
        s, default = self.settings, TrainSettings()
        network = network_text(s.data, s.data_dir, s.network)
        found = {
            name: value
            for name, value in vars(s).items()
            if name not in (*_ELSEWHERE, *_INERT) and value != getattr(default, name)
        }
        found |= {
            "optimizer": s.optimizer,
            "optimizer_settings": _own_settings(s),
            "data": data_fingerprint(s.data, s.data_dir),
            "network": hashlib.sha256(network.encode()).hexdigest(),
            "learned": checksum(s.pretrained) if s.pretrained not in (None, RANDOM) else None,
            "split": self.split,
            "h": self.h,
            "version": VERSION,
        }
        if self.is_prefix_of_longer:
            found.pop("steps", None)
        else:
            found["steps"] = s.steps
        return found

    def key(self) -> str:
        """Return a checksum of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:32]

    def joined(self, other: Job) -> Job:
        """Return the job that gives this one's result and that of ``other``, which has the same key."""
        longer = self if self.settings.steps >= other.settings.steps else other
        return replace(longer, evaluate_at=tuple(sorted({*self.evaluate_at, *other.evaluate_at})))


def _own_settings(s: TrainSettings) -> dict[str, Any]:
    """Return the optimizer's own settings that are not at their defaults."""
    default = own_settings(s.optimizer, {})
    return {name: value for name, value in s.optimizer_settings.items() if value != default.get(name)}


class Result(NamedTuple):
    """What was measured in a job of T steps.

    ``losses[t]`` is the mini-batch loss before update t + 1 (infinite where it was not finite, and after
    a run was given up), ``wall_s[t]`` and ``cpu_s[t]`` the time up to the end of that update, without that
    for errors; where steps are made in blocks, on a GPU, all of a block take the same.
    """

    losses: np.ndarray  # (T,)
    wall_s: np.ndarray  # (T,)
    cpu_s: np.ndarray  # (T,), of this process
    evaluated_at: tuple[int, ...]
    errors: np.ndarray  # (E,), NaN where the run was given up before
    restarts: np.ndarray  # (T,), how many there were so far

    def of(self, job: Job) -> Result | None:
        """Return the part of the result that ``job`` asks for; None if there is not enough."""
        steps = job.settings.steps
        if len(self.losses) < steps or not set(job.evaluate_at) <= set(self.evaluated_at):
            return None
        chosen = [self.evaluated_at.index(step) for step in job.evaluate_at]
        losses, wall_s, cpu_s, restarts = (
            values[:steps] for values in (self.losses, self.wall_s, self.cpu_s, self.restarts)
        )
        return Result(losses, wall_s, cpu_s, job.evaluate_at, self.errors[chosen], restarts)

    def joined(self, other: Result | None) -> Result:
        """Return the longer of two results of one run, with the errors that either has measured."""
        if other is None:
            return self
        errors = {
            **dict(zip(other.evaluated_at, other.errors, strict=True)),
            **dict(zip(self.evaluated_at, self.errors, strict=True)),
        }
        at = tuple(sorted(errors))
        longer = self if len(self.losses) >= len(other.losses) else other
        return longer._replace(evaluated_at=at, errors=np.array([errors[step] for step in at], float))

    @property
    def n_restarts(self) -> int:
        """How often the numbers were not finite and the run went back."""
        return int(self.restarts[-1])

    @property
    def mean_loss(self) -> float:
        """The mean over all steps; infinite where a number was not finite, or the run started anew."""
        return float("inf") if self.n_restarts else float(self.losses.mean())


def run_job(job: Job, should_stop: Callable[[], bool] = lambda: False) -> Result:
    """Train, and measure. A pure function of the job but for the times.

    Raises
    ------
    StoppedError
        If ``should_stop`` says so after a step, or a block of them.
    """
    s = job.settings
    problem, task, training = job.begin()
    batches = problem.batches(0)
    losses, errors = np.full(s.steps, np.inf), np.full(len(job.evaluate_at), np.nan)
    times, restarts = np.zeros((2, s.steps)), np.zeros(s.steps, np.int64)
    split, blocks, step = problem.dataset.split(job.split), Blocks(problem.learner, task, problem.xp), 0
    while step < s.steps:
        if should_stop():
            raise StoppedError
        stop = min(step + blocks.length, s.steps, *(at for at in job.evaluate_at if at > step))
        block, began = slice(step, stop), _clocks()
        try:
            for made in blocks.run(training, list(islice(batches, stop - step))):
                step, training = made.step, made.training
                restarts[step - 1] = training.n_restarts
                losses[step - 1] = made.report.loss if np.isfinite(made.report.loss) else np.inf
        except DivergedError:
            restarts[step:] = training.n_restarts + 1
            break
        times[:, block] = ((_clocks() - began) / (stop - block.start))[:, None]
        if step in job.evaluate_at:
            at = job.evaluate_at.index(step)
            with np.errstate(over="ignore", invalid="ignore"):  # of a network that diverged
                errors[at] = problem.task.measure(training.result, split, problem.xp).error
    wall_s, cpu_s = times.cumsum(1)
    return Result(losses, wall_s, cpu_s, job.evaluate_at, errors, restarts)


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


@lru_cache(maxsize=4)
def loaded(data: str, data_dir: str | None) -> Dataset:
    """Return the data set, loaded once in a process."""
    return load_dataset(data, Path(data_dir) if data_dir else None)


@lru_cache(maxsize=16)
def data_fingerprint(data: str, data_dir: str | None) -> str:
    """Return the checksum of a data set (`l2lnp.runs.problem.fingerprint`)."""
    return fingerprint(loaded(data, data_dir))


def network_text(data: str, data_dir: str | None, network: str) -> str:
    """Return the description of the network called ``network`` for these data."""
    rows, columns, channels = loaded(data, data_dir).image_shape
    return find_network(network, (channels, rows, columns)).text
