"""A function of the device as one CUDA graph: recorded once, replayed with one launch.

What may be recorded is narrow: our kernels, and CuPy's elementwise ones. CuPy cannot record cuBLAS
(`l2lnp.kernels.cuda.products` stands in for it); a copy from the host would be replayed from memory that
is long in other use; and nothing can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_WARM_UPS = 2  # kernels are compiled and loaded, the pool is filled


class Graph(Generic[T]):
    """What ``run`` launches; it reads and writes arrays at fixed addresses.

    All memory that it takes on the way comes from a pool of the graph's own, which lives as long, so that
    nobody else gets what replays write to. What ``run`` keeps for good (`l2lnp.backend.moved_once` and the
    like) it makes before, at its very first call, in the pool of the process.

    Attributes
    ----------
    result
        What ``run`` returned while it was recorded: its arrays are filled by every replay.

    Raises
    ------
    NotImplementedError, RuntimeError
        If ``run`` does what cannot be recorded.
    """

    def __init__(self, xp: ModuleType, run: Callable[[], T]) -> None:
        stream, self._pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
        xp.cuda.Device().synchronize()
        with stream:
            run()
            stream.synchronize()
        with xp.cuda.using_allocator(self._pool.malloc), stream:
            for _ in range(_WARM_UPS):
                run()
            stream.synchronize()
            stream.begin_capture()
            try:
                self.result = run()
            except BaseException:
                with suppress(RuntimeError):
                    stream.end_capture()  # of a capture that may be broken already
                raise
            self._graph: Any = stream.end_capture()

    def __del__(self) -> None:
        """Give the memory back, which CuPy's pools do not do by themselves."""
        for name in ("result", "_graph"):
            self.__dict__.pop(name, None)
        with suppress(Exception):  # where the interpreter ends
            self._pool.free_all_blocks()

    def launch(self) -> T:
        """Replay what was recorded, on the current stream, and return the result."""
        self._graph.launch()
        return self.result
