"""A frozen training step as one CUDA graph: sweep, update and the new theta, replayed with one launch.

The step is `JointLearner.step` itself, run once while a stream records what it launches. Whatever
changes between steps lies in arrays of fixed addresses: the mini-batch, theta, the optimizer's
state, and the count of steps, from which moving averages and schedules take their factors.

What may be recorded is narrow: our kernels, and CuPy's elementwise ones. CuPy cannot record cuBLAS
(`l2lnp.kernels.cuda.products` stands in for it); a copy from the host would be replayed from memory that
is long in other use; and nothing can be read. All memory of the step comes from a pool of
its own, which lives as long as the graph, so that nobody else gets what replays write to.

Before it is used, a replay is compared with the same step launched kernel by kernel: where one number
differs, or the step cannot be recorded, `CannotCaptureError` says why, and steps are launched as ever.

No GPU has run this yet, so it is asked for by ``L2LNP_CUDA_GRAPH=1`` in the environment.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.meta.joint import JointLearner, Report, Training
from l2lnp.optimizers import HeldCurvature, InBasis
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.workspace import Workspace

_WARM_UPS = 2  # kernels are compiled and loaded, the pool is filled


class CannotCaptureError(Exception):
    """A step that cannot be a graph; the message says why."""


def is_wanted() -> bool:
    """Return whether the environment asks for graphs."""
    return os.environ.get("L2LNP_CUDA_GRAPH") == "1"


class CapturedStep:
    """One step of a frozen ``learner`` on batches of the size of ``batch``, from wherever a training stands.

    Raises
    ------
    CannotCaptureError
        If the step asks for numbers on its way, calls a library that CuPy cannot record, or, replayed, gives
        other numbers than when it is launched kernel by kernel.
    """

    def __init__(self, learner: JointLearner, task: Classification, training: Training, batch: Batch) -> None:
        _check(learner, task)
        xp = self._xp = array_module(training.theta)
        execution = replace(task.execution, waits=False, workspace=Workspace())
        self._task = replace(task, execution=execution)
        self._learner = copy.copy(learner)
        self._learner.optimizer = replace(learner.optimizer, execution=execution)
        self._stream, self._pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
        xp.cuda.Device().synchronize()
        try:
            with xp.cuda.using_allocator(self._pool.malloc), self._stream:
                self._batch = Batch(0, batch.x.copy(), batch.labels.copy())
                self._loss = xp.zeros(1, np.float64)
                self._flag: Array = xp.zeros(1, np.int32)
                self._learner.flag = self._flag
                self._static = self._on_device(training)
                self._graph = self._record(training)
                self._compare(training)
                self._stream.synchronize()
        except (NotImplementedError, RuntimeError, MemoryError, TypeError) as error:
            raise CannotCaptureError(str(error).strip().partition("\n")[0] or repr(error)) from error

    def fits(self, batch: Batch) -> bool:
        """Return whether ``batch`` has the size that the step was recorded for."""
        own = self._batch
        return (batch.x.shape, batch.labels.shape) == (own.x.shape, own.labels.shape)

    def run(self, training: Training, batches: Sequence[Batch], losses: Array, flag: Array) -> Training:
        """Make a step on each of ``batches`` and return the training after them.

        ``losses`` gets their losses, and ``flag`` (1,) becomes 1 where a number was not finite.
        """
        self._load(training)
        self._flag[...] = 0
        for number, batch in enumerate(batches):
            self._batch.x[...] = batch.x
            self._batch.labels[...] = batch.labels
            self._graph.launch()
            losses[number : number + 1] = self._loss
        flag[...] = self._flag
        return self._unload(training, len(batches))

    def _on_device(self, training: Training) -> Training:
        """Return a copy of ``training`` whose counts are arrays () too."""
        state = {key: self._moved(key, value) for key, value in training.state.items()}
        average = None if training.average is None else training.average.copy()
        step = self._moved("step", training.step)
        return training._replace(step=step, theta=training.theta.copy(), state=state, average=average)

    def _moved(self, key: str, value: Any) -> Any:
        if isinstance(value, int):
            return value if key == "chunk" else self._xp.asarray(np.array(float(value)))
        return value.copy()

    def _record(self, training: Training) -> Any:
        for _ in range(_WARM_UPS):
            self._step()
        self._stream.synchronize()
        self._load(training)
        self._stream.synchronize()
        self._stream.begin_capture()
        try:
            self._step()
        except BaseException:
            self._abandon()
            raise
        return self._stream.end_capture()

    def _abandon(self) -> None:
        """Leave the capture, which may be broken already."""
        with suppress(RuntimeError):
            self._stream.end_capture()

    def _step(self) -> None:
        """Make one step in place."""
        after, report = self._made()
        self._loss[...] = report.loss
        for mine, new in zip(_arrays(self._static), _arrays(after), strict=True):
            mine[...] = new

    def _made(self) -> tuple[Training, Report]:
        self._learner.resume(self._static)
        return self._learner.step(self._static, self._task, self._batch)

    def _compare(self, training: Training) -> None:
        """Raise RuntimeError unless a replay gives the bytes of the same step launched kernel by kernel."""
        self._load(training)
        self._step()
        expected = [a.copy() for a in (*_arrays(self._static), self._loss)]
        self._load(training)
        self._loss[...] = 0
        self._graph.launch()
        for ours, theirs in zip((*_arrays(self._static), self._loss), expected, strict=True):
            if not bool((ours == theirs).all()):
                raise RuntimeError("a replayed step gave other numbers than one launched kernel by kernel")

    def _load(self, training: Training) -> None:
        for mine, new in zip(_arrays(self._static), _arrays(training), strict=True):
            mine[...] = new

    def _unload(self, training: Training, n_steps: int) -> Training:
        """Return copies of all arrays, and the counts as whole numbers again."""
        state = {
            key: before + (n_steps if key != "chunk" else 0) if isinstance(before, int) else now.copy()
            for (key, before), now in zip(training.state.items(), self._static.state.values(), strict=True)
        }
        average = None if self._static.average is None else self._static.average.copy()
        return training._replace(
            step=training.step + n_steps, theta=self._static.theta.copy(), state=state, average=average
        )


def _check(learner: JointLearner, task: Classification) -> None:
    optimizer = learner.optimizer
    if learner.learns:
        raise CannotCaptureError("the optimizer is learned on the way")
    if isinstance(optimizer, InBasis):
        raise CannotCaptureError("the curvature basis is formed anew every few steps")
    if isinstance(optimizer, HeldCurvature):
        raise CannotCaptureError("h is computed every few steps only")
    if optimizer.uses_curvature and task.curvature not in ADJOINT_MODES:
        raise CannotCaptureError(f"curvature mode '{task.curvature}' draws on the host, or calls libraries")


def _arrays(training: Training) -> Iterator[Any]:
    """Yield what changes at a step: arrays, and the counts."""
    yield training.step
    yield training.theta
    for key, value in training.state.items():
        if key != "chunk":
            yield value
    if training.average is not None:
        yield training.average
