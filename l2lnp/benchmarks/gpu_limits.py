"""What the card can do: the rates that a floor is made of."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

_BYTES = 256 << 20  # of the copy
_SIZE = 4096  # of the square matrices


def measure_gpu_limits(xp: ModuleType, n_bytes: int = _BYTES, size: int = _SIZE) -> dict[str, float]:
    """Return bytes a second of a copy (read and written), and flops a second of a float32 product."""
    a, b = xp.ones(n_bytes // 4, np.float32), xp.empty(n_bytes // 4, np.float32)
    copy_s = _best_s(xp, lambda: b.__setitem__(Ellipsis, a))
    square = xp.ones((size, size), np.float32)
    out = xp.empty_like(square)
    product_s = _best_s(xp, lambda: xp.matmul(square, square, out=out))
    return {"copy_bytes_per_s": 2 * n_bytes / copy_s, "flops_per_s": 2 * size**3 / product_s}


def _best_s(xp: ModuleType, run: Callable[[], Any], repetitions: int = 10) -> float:
    run()
    times = []
    for _ in range(repetitions):
        start, end = xp.cuda.Event(), xp.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(xp.cuda.get_elapsed_time(start, end)) / 1e3)
    return max(min(times), 1e-9)
