"""Steps in blocks: within one nothing waits for a GPU; losses and checks are fetched together at its end.

On the CPU a block is one step. On a GPU the host would otherwise stop at every step to read the
loss, to see that all numbers are finite and that labels are classes. Here it only notes that it
should have looked: a flag on the device. Where the flag is up at the end, the learner goes
back to where the block began and makes its steps again, one by one, each with all of its checks: so restarts,
messages and errors are those of the CPU, at the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import ModuleType
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array
from l2lnp.meta.joint import JointLearner, Report, Training
from l2lnp.runs.captured import CannotCaptureError, CapturedStep, is_wanted
from l2lnp.tasks.base import Optimizee
from l2lnp.tasks.classification import Batch

STEPS = 25  # of a block on a GPU


class Made(NamedTuple):
    """A step that was made."""

    step: int  # steps made, this one included
    training: Training  # after it, or after a later step of its block
    report: Report


class Blocks:
    """Makes the steps of a learner.

    Attributes
    ----------
    length
        The most steps of a block.
    why_one_by_one : str or None
        Why steps on a GPU are launched kernel by kernel; None where each is one CUDA graph, or on the CPU.
    """

    def __init__(self, learner: JointLearner, task: Optimizee, xp: ModuleType) -> None:
        self._learner, self._task, self._xp = learner, task, xp
        self.length = 1 if xp is np else STEPS
        self.why_one_by_one = None if self.length == 1 or is_wanted() else "L2LNP_CUDA_GRAPH=0 is set"
        self._captured: CapturedStep | None = None

    def run(self, training: Training, batches: Sequence[Batch]) -> Iterator[Made]:
        """Make one step on each of ``batches``, at most `length` of them, and yield them.

        Raises
        ------
        DivergedError
            As `JointLearner.step`.
        """
        step, back = training.step, self._learner.place()
        if self.length > 1:
            end, reports = self._without_waiting(training, batches)
            if reports is not None:
                for number, report in enumerate(reports, step + 1):
                    yield Made(number, end, report)
                return
            back()
        for batch in batches:
            training, report = self._learner.step(training, self._task, batch)
            yield Made(training.step, training, report)

    def through(self, training: Training, batches: Iterable[Batch]) -> Iterator[Made]:
        """Make one step on each of ``batches``, however many, and yield them."""
        drawn = iter(batches)
        while block := list(islice(drawn, self.length)):
            for made in self.run(training, block):
                training = made.training
                yield made

    def _without_waiting(
        self, training: Training, batches: Sequence[Batch]
    ) -> tuple[Training, list[Report] | None]:
        """Return the training after ``batches`` and the reports, or no reports where a check failed."""
        xp, n, learner = self._xp, len(batches), self._learner
        numbers, flag = xp.empty(n + 1, np.float64), xp.zeros(1, np.int32)
        reports: list[Report] = []
        with unwatched(learner, self._task, flag):
            while (done := len(reports)) < n:
                n_alike = learner.optimizer.n_alike(training.state, n - 1 - done)  # the last one is launched
                captured = self._captured_for(training, batches) if n_alike else None
                if captured is None:
                    training, report = learner.step(training, self._task, batches[done])
                    numbers[done] = report.loss
                    reports.append(report)
                else:
                    alike = batches[done : done + n_alike]
                    training = captured.run(training, alike, numbers[done:], flag)
                    learner.follow(training)
                    reports += [Report(None, False, None)] * n_alike
        numbers[-1] = flag[0]
        *losses, is_bad = fetched(xp, numbers).tolist()
        if is_bad:
            return training, None
        return training, [report._replace(loss=loss) for report, loss in zip(reports, losses, strict=True)]

    def _captured_for(self, training: Training, batches: Sequence[Batch]) -> CapturedStep | None:
        """Return the step as a graph, captured once for each size of batch; None where it cannot be."""
        if self.why_one_by_one is not None or len({batch.x.shape for batch in batches}) > 1:
            return None
        if self._captured is None or not self._captured.fits(batches[0]):
            try:
                self._captured = CapturedStep(self._learner, self._task, training, batches[0])
            except CannotCaptureError as error:
                self.why_one_by_one = str(error)
        return self._captured


@contextmanager
def unwatched(learner: JointLearner, task: Optimizee, flag: Array) -> Iterator[None]:
    """Let ``learner`` make steps that wait for nothing; ``flag`` goes up at what is not finite."""
    executions = {
        id(e): e for e in (getattr(task, "execution", None), learner.optimizer.execution) if e
    }.values()
    learner.flag = flag
    for execution in executions:
        execution.waits = False
    try:
        yield
    finally:
        learner.flag = None
        for execution in executions:
            execution.waits = True


def fetched(xp: ModuleType, a: Array) -> np.ndarray:
    """Return ``a`` on the host, copied asynchronously into pinned memory and waited for there."""
    pinned = xp.cuda.alloc_pinned_memory(a.nbytes)
    host = np.frombuffer(pinned, a.dtype, a.size)
    a.get(out=host, blocking=False)
    copied = xp.cuda.Event(disable_timing=True)
    copied.record()
    copied.synchronize()
    return host.copy()
