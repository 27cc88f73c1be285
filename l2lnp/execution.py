"""How work is cut and shared out: micro-batches, lanes, chunks of coordinates, threads.

Results never depend on the number of threads: work is cut into pieces by the
sizes below, every piece is computed by one thread with BLAS held to one thread,
and partial sums are added in the order of the pieces.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, reduce
from importlib import import_module
from threading import get_ident
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from l2lnp.errors import check_positive
from l2lnp.workspace import Fresh, Workspace

T = TypeVar("T")


@dataclass
class Execution:
    """Block sizes, threads and the arenas that belong to them.

    Parameters
    ----------
    threads
        Worker threads; changes the time, never a result.
    micro_batch
        Samples that go through the network together: so few that they stay in cache.
    lanes
        Partial sums of g and h that are kept, each over a run of neighbouring micro-batches; more than
        ``threads`` of them so that threads may change.
    chunk
        Coordinates that go through the learned optimizer together.
    waits
        False: nothing asks a device for a number; a loss stays an array () there, no number where a target is
        no class. The caller looks at it later (`l2lnp.runs.blocks`).

    Notes
    -----
    ``micro_batch``, ``lanes`` and ``chunk`` fix the order of additions and so the last
    bits of every result; they are stored with a run. Every thread that ever worked keeps its arena.
    """

    threads: int = 1
    micro_batch: int = 64
    lanes: int = 4
    chunk: int = 2048
    waits: bool = field(default=True, repr=False, compare=False)
    workspace: Workspace = field(default_factory=Workspace, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = {"threads": self.threads, "micro_batch": self.micro_batch}
        check_positive("execution", **sizes, lanes=self.lanes, chunk=self.chunk)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="l2lnp")

    @cached_property
    def _blas(self) -> ThreadpoolController:
        import_module("scipy.linalg.cython_blas")  # which compiled loops call: held only if loaded by now
        return ThreadpoolController()

    def map(self, job: Callable[[int], T], n_jobs: int) -> list[T]:
        """Return ``[job(0), ..., job(n_jobs - 1)]``, computed by ``threads`` threads."""
        with self._blas.limit(limits=1, user_api="blas"):
            if self.threads == 1 or n_jobs == 1:
                return [job(i) for i in range(n_jobs)]
            return list(self._pool.map(job, range(n_jobs)))

    def over_batch(self, job: Callable[[slice, Fresh], T], n_samples: int, join: Callable[[T, T], T]) -> T:
        """Run ``job`` on every micro-batch and join its results within lanes, then over the lanes.

        A lane is a run of neighbouring micro-batches. ``job`` gets the micro-batch's slice of the samples
        and the thread's arena, still in cache from its last micro-batch; what it returns must not lie there.
        """
        spans = [slice(i, i + self.micro_batch) for i in range(0, n_samples, self.micro_batch)]
        n_lanes = min(self.lanes, len(spans))
        bounds = [len(spans) * lane // n_lanes for lane in range(n_lanes + 1)]

        def run_lane(lane: int) -> T:
            space = self.workspace.scope(get_ident())
            return reduce(join, (job(span, space) for span in spans[bounds[lane] : bounds[lane + 1]]))

        return reduce(join, self.map(run_lane, n_lanes))


ON_A_GPU: dict[str, Any] = {
    "threads": 1,
    "micro_batch": 4096,
    "lanes": 1,
    "chunk": 1 << 24,
}  # few launches, all of it at once


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
