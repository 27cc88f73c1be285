"""Run many jobs over several processes; what is in the cache is not run again."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from l2lnp.errors import InputError
from l2lnp.experiments.cache import Cache
from l2lnp.experiments.job import Job, Result, StoppedError, run_job

_POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_POLL_S = 0.2


class JobsProgress(NamedTuple):
    """How far a set of jobs is: those from the cache are not counted."""

    what: str
    n_done: int
    n_jobs: int
    elapsed_s: float
    remaining_s: float  # by the steps left


@dataclass(frozen=True)
class Runner:
    """Where results are kept, and how jobs are run.

    Parameters
    ----------
    workers
        Processes, each with one BLAS thread; 1: this process alone.
    watch
        Is told after each job.
    is_interrupted
        Asked several times a second; then nothing more is run, `KeyboardInterrupt` is raised, and finished
        jobs stay in the cache.
    """

    cache: Path
    workers: int = 1
    watch: Callable[[JobsProgress], None] = lambda _: None
    is_interrupted: Callable[[], bool] = lambda: False

    def run(self, jobs: Sequence[Job], what: str = "jobs") -> list[Result]:
        """Return the result of each job; jobs that are parts of one longer run are run once.

        Raises
        ------
        KeyboardInterrupt
            If interrupted.
        InputError
            If a job's settings do not go together.
        """
        cache = Cache(self.cache)
        keys = [job.key() for job in jobs]
        asked: dict[str, Job] = {}
        for key, job in zip(keys, jobs, strict=True):
            asked[key] = asked[key].joined(job) if key in asked else job
        found = {key: cache.read(key) for key in asked}
        missing = {key: job for key, job in asked.items() if not _has(found[key], job)}
        longest_first = dict(sorted(missing.items(), key=lambda item: -item[1].settings.steps))
        meter = _Meter(what, longest_first)
        for key, result in self._run_missing(longest_first):
            found[key] = kept = result.joined(found[key])
            cache.write(missing[key], key, kept)
            self.watch(meter.after(key))
        return [_part(found[key], job) for key, job in zip(keys, jobs, strict=True)]

    def _run_missing(self, missing: dict[str, Job]) -> Iterator[tuple[str, Result]]:
        if not missing:
            return
        if self.workers > 1:
            yield from self._run_in_processes(missing)
            return
        for key, job in missing.items():
            try:
                yield key, run_job(job, self.is_interrupted)
            except StoppedError:
                raise KeyboardInterrupt from None

    def _run_in_processes(self, missing: dict[str, Job]) -> Iterator[tuple[str, Result]]:
        context = get_context("spawn")
        stop = context.Event()
        n_workers = min(self.workers, len(missing))
        with (
            _one_thread_each(),
            ProcessPoolExecutor(n_workers, context, initializer=_prepare, initargs=(stop,)) as pool,
        ):
            pending = {pool.submit(_run_here, job): key for key, job in missing.items()}
            try:
                while pending:
                    done, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield pending.pop(future), _result(future)
                    if self.is_interrupted():
                        raise KeyboardInterrupt
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


def _has(result: Result | None, job: Job) -> bool:
    return result is not None and result.of(job) is not None


def _part(result: Result | None, job: Job) -> Result:
    assert result is not None
    part = result.of(job)
    assert part is not None
    return part


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was ended from outside (too little memory?): give fewer --workers; "
            "finished jobs are kept"
        ) from None


class _Meter:
    """Counts jobs and steps."""

    def __init__(self, what: str, missing: dict[str, Job]) -> None:
        self._what, self._began_s, self._n_done = what, time.monotonic(), 0
        self._left = {key: job.settings.steps for key, job in missing.items()}
        self._n_steps = sum(self._left.values())

    def after(self, key: str) -> JobsProgress:
        """Return the progress now that the job ``key`` is done."""
        del self._left[key]
        self._n_done += 1
        left, elapsed_s = sum(self._left.values()), time.monotonic() - self._began_s
        remaining_s = elapsed_s * left / (self._n_steps - left)
        return JobsProgress(self._what, self._n_done, self._n_done + len(self._left), elapsed_s, remaining_s)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes begin with one thread for each numerical library, which reads this when it is loaded."""
    before = {name: os.environ.get(name) for name in _POOLS}
    os.environ.update(dict.fromkeys(_POOLS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_stop: Event | None = None  # of this worker process


def _prepare(stop: Event) -> None:
    """Make this worker process leave Ctrl-C to the first process, and end when that one is gone."""
    import signal

    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _run_here(job: Job) -> Result:
    assert _stop is not None
    return run_job(job, _stop.is_set)
