"""A frozen training step as one CUDA graph (`l2lnp.kernels.cuda.graph`): sweep, update and the new theta.

The step is `JointLearner.step` itself, run once while a stream records what it launches. Whatever
changes between steps lies in arrays of fixed addresses: the mini-batch, theta, the optimizer's
state, and the count of steps, from which moving averages and schedules take their factors.

Where not all steps do the same, as in the curvature basis, which is formed anew every few steps, the graph
is of the steps in between (`l2lnp.optimizers.base.Optimizer.n_alike`), and the others are launched as ever.
What stands still in between, axes and eigenvalues, is copied to its fixed address when it is new.

Before it is used, a replay is compared with the same step launched kernel by kernel: where one number
differs, or the step cannot be recorded, `CannotCaptureError` says why, and steps are launched as ever.

``L2LNP_CUDA_GRAPH=0`` in the environment leaves graphs aside.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.kernels.cuda.graph import Graph
from l2lnp.meta.joint import JointLearner, Training
from l2lnp.optimizers.base import State
from l2lnp.tasks.base import Optimizee
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.workspace import Workspace

MOST_COORDINATES = 1 << 21  # beyond, kernels take longer than their launches, and memory is dearer
_COUNT = "t"  # of steps in a state, that numbers depend on; by other counts optimizers choose what they do


class CannotCaptureError(Exception):
    """A step that cannot be a graph; the message says why."""


def is_wanted() -> bool:
    """Return whether the environment allows graphs."""
    return os.environ.get("L2LNP_CUDA_GRAPH") != "0"


class CapturedStep:
    """One step of a frozen ``learner`` on batches of the size of ``batch``, of the common kind.

    ``training`` stands before such a step (`l2lnp.optimizers.base.Optimizer.n_alike`).

    Raises
    ------
    CannotCaptureError
        If the step asks for numbers on its way, calls a library that CuPy cannot record, or, replayed, gives
        other numbers than when it is launched kernel by kernel.
    """

    def __init__(self, learner: JointLearner, task: Optimizee, training: Training, batch: Batch) -> None:
        task = _checked(learner, task, training)
        xp = self._xp = array_module(training.theta)
        execution = replace(task.execution, waits=False, workspace=Workspace())
        self._task = replace(task, execution=execution)
        self._learner = copy.copy(learner)
        self._learner.optimizer = replace(learner.optimizer, execution=execution)
        self._batch = Batch(0, batch.x.copy(), batch.labels.copy())
        self._loss = xp.zeros(1, np.float64)
        self._flag: Array = xp.zeros(1, np.int32)
        self._learner.flag = self._flag
        self._static = self._on_device(training)
        self._still: frozenset[str] = frozenset()  # what such steps leave as it is, of the state
        self._sources: dict[str, Array] = {}  # where it was copied from
        self._per_step: dict[str, int] = {}  # what a step adds to the counts
        try:
            self._graph = Graph(xp, self._step)
            self._compare(training)
        except (NotImplementedError, RuntimeError, MemoryError, TypeError) as error:
            raise CannotCaptureError(str(error).strip().partition("\n")[0] or repr(error)) from error

    def fits(self, batch: Batch) -> bool:
        """Return whether ``batch`` has the size that the step was recorded for."""
        own = self._batch
        return (batch.x.shape, batch.labels.shape) == (own.x.shape, own.labels.shape)

    def run(self, training: Training, batches: Sequence[Batch], losses: Array, flag: Array) -> Training:
        """Make a step on each of ``batches`` and return the training after them.

        ``losses`` gets their losses, and ``flag`` (1,) becomes 1 where a number was not finite. All steps
        are of the common kind.
        """
        self._load(training)
        self._flag[...] = flag
        for number, batch in enumerate(batches):
            self._batch.x[...] = batch.x
            self._batch.labels[...] = batch.labels
            self._graph.launch()
            losses[number : number + 1] = self._loss
        flag[...] = self._flag
        return self._unload(training, len(batches))

    def _on_device(self, training: Training) -> Training:
        """Return a copy of ``training`` in which the counts that numbers depend on are arrays ()."""
        state = {
            key: self._count(value) if key == _COUNT else value if isinstance(value, int) else value.copy()
            for key, value in training.state.items()
        }
        average = None if training.average is None else training.average.copy()
        step = self._count(training.step)
        return training._replace(step=step, theta=training.theta.copy(), state=state, average=average)

    def _count(self, n: int) -> Array:
        return self._xp.asarray(np.array(float(n)))

    def _step(self) -> None:
        """Make one step in place."""
        self._learner.resume(self._static)
        after, report = self._learner.step(self._static, self._task, self._batch)
        self._note(after.state)
        self._loss[...] = report.loss
        for mine, new in zip(_changing(self._static), _changing(after), strict=True):
            if new is not mine:
                mine[...] = new

    def _note(self, after: State) -> None:
        """Take note of what a step leaves as it is, and of what it adds to whole numbers."""
        ints = {key: n for key, n in self._static.state.items() if isinstance(n, int)}
        others = self._static.state.keys() - ints.keys()
        self._still = frozenset(key for key in others if after[key] is self._static.state[key])
        self._per_step = {key: after[key] - n for key, n in ints.items()} | {_COUNT: 1}

    def _compare(self, training: Training) -> None:
        """Raise RuntimeError unless a replay gives the bytes of the same step launched kernel by kernel."""
        self._load(training)
        self._step()
        expected = [a.copy() for a in (*_changing(self._static), self._loss)]
        self._load(training)
        self._loss[...] = 0
        self._graph.launch()
        for ours, theirs in zip((*_changing(self._static), self._loss), expected, strict=True):
            is_same = (ours == theirs) | ((ours != ours) & (theirs != theirs))  # NaN in both is the same
            if not bool(is_same.all()):
                raise RuntimeError("a replayed step gave other numbers than one launched kernel by kernel")

    def _load(self, training: Training) -> None:
        held = {id(self._static.state[key]): key for key in self._still}
        for mine, new in zip(_changing(self._static), _changing(training), strict=True):
            key = held.get(id(mine))
            if key is None or self._sources.get(key) is not new:
                mine[...] = new
            if key is not None:
                self._sources[key] = new

    def _unload(self, training: Training, n_steps: int) -> Training:
        """Return copies of all that changed, and the counts as whole numbers again."""
        state = {key: self._after(key, before, n_steps) for key, before in training.state.items()}
        average = None if self._static.average is None else self._static.average.copy()
        return training._replace(
            step=training.step + n_steps, theta=self._static.theta.copy(), state=state, average=average
        )

    def _after(self, key: str, before: Any, n_steps: int) -> Any:
        """Return the part ``key`` of the state after steps, of which it was ``before``."""
        if isinstance(before, int):
            return before + n_steps * self._per_step[key]
        return before if key in self._still else self._static.state[key].copy()


def _checked(learner: JointLearner, task: Optimizee, training: Training) -> Classification:
    optimizer = learner.optimizer
    if learner.learns:
        raise CannotCaptureError("the optimizer is learned on the way")
    if not optimizer.n_alike(training.state, 1):
        raise CannotCaptureError("the next step is of another kind than most")
    if training.theta.size > MOST_COORDINATES:
        raise CannotCaptureError(f"beyond {MOST_COORDINATES:,} parameters launches no longer matter")
    if not isinstance(task, Classification):
        raise CannotCaptureError("the task is another's, changed")
    if optimizer.uses_curvature and task.curvature not in ADJOINT_MODES:
        raise CannotCaptureError(f"curvature mode '{task.curvature}' draws on the host, or calls libraries")
    return task


def _changing(training: Training) -> Iterator[Any]:
    """Yield what may change at a step: all arrays, and the counts that numbers depend on."""
    yield training.step
    yield training.theta
    for key, value in training.state.items():
        if key == _COUNT or not isinstance(value, int):
            yield value
    if training.average is not None:
        yield training.average
