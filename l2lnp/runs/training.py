"""The training loop: steps, metrics and checkpoints, until the end or an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from l2lnp.meta.joint import Training
from l2lnp.runs.blocks import Blocks
from l2lnp.runs.captured import is_wanted
from l2lnp.runs.metrics import Line, append_line
from l2lnp.runs.run import Run

_PAUSE_PER_SAVE = 20  # a large checkpoint is written so seldom that it takes a twentieth of the time


class Progress(NamedTuple):
    """Where a run stands after a step."""

    step: int
    steps: int
    loss: float
    test_error: float | None  # the last one measured
    is_measured: bool  # whether it was measured at this step
    steps_per_s: float
    remaining_s: float


class Watcher(Protocol):
    """What is told how a run goes."""

    def step(self, progress: Progress) -> None:
        """Take note of a step."""

    def message(self, text: str) -> None:
        """Take note of something the user should know."""


@dataclass(frozen=True)
class Outcome:
    """How a session of a run ended."""

    step: int
    lines: list[Line]
    elapsed_s: float
    n_restarts: int
    interrupted: bool


def train(run: Run, watcher: Watcher, is_interrupted: Callable[[], bool] = lambda: False) -> Outcome:
    """Train until all steps are made or ``is_interrupted``; the folder is up to date afterwards.

    Raises
    ------
    DivergedError
        If the numbers do not stay finite.
    InputError
        If the folder cannot be written; its last checkpoint stays good.
    """
    with run.problem.noting_memory():
        return _Session(run, watcher).train(is_interrupted)


class _Session:
    """One go at a run, from its start or a checkpoint to the end or an interruption."""

    def __init__(self, run: Run, watcher: Watcher) -> None:
        self.run = run
        self.watcher = watcher
        self.lines = list(run.lines)
        self.has_said_how = False
        self.first_step = run.training.step
        self.began_s = time.monotonic()
        self.next_save_s = self.began_s + run.settings.checkpoint_every_s
        self.test_error = next((x.test_error for x in reversed(self.lines) if x.test_error is not None), None)

    @property
    def elapsed_s(self) -> float:
        """Time in this run, earlier sessions included."""
        return self.run.elapsed_s + time.monotonic() - self.began_s

    def train(self, is_interrupted: Callable[[], bool]) -> Outcome:
        """See `l2lnp.runs.training.train`."""
        problem, settings, training = self.run.problem, self.run.settings, self.run.training
        interrupted = False
        drawn = problem.batches(training.step)
        blocks = Blocks(problem.learner, problem.task, problem.xp)
        while training.step < settings.steps and not (interrupted := is_interrupted()):
            batches = list(islice(drawn, self._steps_to_look(training.step, blocks.length)))
            for made in blocks.run(training, batches):
                if made.report.message is not None:
                    self.watcher.message(f"step {made.step}: {made.report.message}")
                self._record(made.step, made.training, made.report.loss)
                training = made.training
            if time.monotonic() >= self.next_save_s:
                self._save(training)
            self._say_how(blocks)
        self._save(training)
        return Outcome(training.step, self.lines, self.elapsed_s, training.n_restarts, interrupted)

    def _say_how(self, blocks: Blocks) -> None:
        """Say once why there is no CUDA graph, where one was asked for."""
        if blocks.why_one_by_one is not None and is_wanted() and not self.has_said_how:
            self.watcher.message(
                f"no CUDA graph, steps are launched kernel by kernel: {blocks.why_one_by_one}"
            )
            self.has_said_how = True

    def _steps_to_look(self, step: int, most: int) -> int:
        """Return how many steps may be made before theta is looked at, at ``most``."""
        settings = self.run.settings
        every = settings.eval_every_steps
        return min(most, settings.steps - step, every - step % every)

    def _record(self, step: int, training: Training, loss: float) -> None:
        settings = self.run.settings
        if settings.evaluates_at(step):
            problem = self.run.problem
            test = problem.dataset.split("test")
            self.test_error = problem.task.measure(training.result, test, problem.xp).error
        if settings.logs_at(step):
            test_error = self.test_error if settings.evaluates_at(step) else None
            self.lines.append(Line(step, loss, test_error, self.elapsed_s))
            append_line(self.run.folder.metrics, self.lines[-1])
        self.watcher.step(self._progress(step, loss))

    def _progress(self, step: int, loss: float) -> Progress:
        settings = self.run.settings
        rate = (step - self.first_step) / max(time.monotonic() - self.began_s, 1e-9)
        remaining_s = (settings.steps - step) / rate
        is_measured = settings.evaluates_at(step)
        return Progress(step, settings.steps, loss, self.test_error, is_measured, rate, remaining_s)

    def _save(self, training: Training) -> None:
        start_s = time.monotonic()
        boundary = self.run.problem.learner.checkpoint
        self.run.folder.save_checkpoint(self.run.checkpoint(training, boundary, self.elapsed_s))
        end_s = time.monotonic()
        pause_s = max(self.run.settings.checkpoint_every_s, _PAUSE_PER_SAVE * (end_s - start_s))
        self.next_save_s = end_s + pause_s
