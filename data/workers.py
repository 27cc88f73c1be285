"""Decode pictures in parallel processes, in order, with a bounded number under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from l2lnp.data.decoding import decode
from l2lnp.data.places import Entry, read_entry
from l2lnp.errors import InputError

_JOBS_PER_WORKER = 3  # under way: being decoded, waiting, or waiting to be written


class Job(NamedTuple):
    """Pictures to decode together."""

    entries: list[Entry]
    image_shape: tuple[int, int, int]


class Decoded(NamedTuple):
    """The pictures of a job that could be decoded, and what was wrong with the others."""

    images: np.ndarray  # (n, H, W, C)
    good: np.ndarray  # (len(entries),) bool
    reasons: list[str]  # one for each that is not good


def decode_all(jobs: Iterator[Job], n_workers: int) -> Iterator[Decoded]:
    """Yield the outcome of each job, in their order.

    Raises
    ------
    InputError
        If a worker process dies, as it may by lack of memory.
    """
    if n_workers == 1:
        yield from map(decode_job, jobs)
        return
    context = multiprocessing.get_context("spawn")  # forked threads and libraries may hang
    with ProcessPoolExecutor(n_workers, context, initializer=_begin) as pool:
        try:
            yield from _in_order(pool, jobs, _JOBS_PER_WORKER * n_workers)
        except BrokenProcessPool:
            raise InputError(
                "a process that decodes pictures died, perhaps by lack of memory: use fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the main process, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_order(pool: ProcessPoolExecutor, jobs: Iterator[Job], most: int) -> Iterator[Decoded]:
    under_way: deque[Future[Decoded]] = deque()
    for job in jobs:
        under_way.append(pool.submit(decode_job, job))
        if len(under_way) == most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def decode_job(job: Job) -> Decoded:
    """Decode the pictures of one job in this process."""
    images = np.empty((len(job.entries), *job.image_shape), np.uint8)
    good = np.zeros(len(job.entries), bool)
    reasons = []
    for i, entry in enumerate(job.entries):
        try:
            images[i] = decode(read_entry(entry), job.image_shape)
        except InputError as error:
            reason = str(error)
            reasons.append(reason if entry.name in reason else f"{entry.name} {reason}")
        else:
            good[i] = True
    return Decoded(images[good], good, reasons)
