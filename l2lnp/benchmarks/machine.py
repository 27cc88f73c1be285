"""What the machine can do, measured: the limits that times are held against."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from l2lnp.benchmarks.timing import best_s
from l2lnp.execution import Execution
from l2lnp.kernels.lstm import BLOCK, Sizes, product
from l2lnp.version import VERSION

_IN_CACHE = 50_000  # float32 elements of an array that stays in the second cache
_LIBRARIES = ("numpy", "scipy", "numba", "torch", "backpack-for-pytorch", "jax", "jaxlib")


class Limits(NamedTuple):
    """Rates of this process, with all its threads where ``of_one_thread`` is not in the name."""

    sgemm_flops_per_s: float
    copy_bytes_per_s: float
    gates_flops_per_s_of_one_thread: float  # the matrix products of the LSTM's gates, a chunk at a time
    tanh_s_of_one_thread: float  # per element in cache
    pass_s_of_one_thread: float  # per element of one multiplication or addition in cache


def measure_limits(n_features: int = 4, chunk: int = Execution.chunk, size: int = 2048) -> Limits:
    """Measure the limits; ``size`` is that of the square matrices multiplied."""
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    big = np.ones(16 * size * size, np.float32)
    target = np.empty_like(big)
    sgemm_s = best_s(lambda: np.matmul(a, a, out=out), 8)
    copy_s = best_s(lambda: np.copyto(target, big), 5)
    x, y = np.full(_IN_CACHE, 0.5, np.float32), np.empty(_IN_CACHE, np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        gates = _gates_rate(n_features, chunk)
    return Limits(
        2 * size**3 / sgemm_s,
        2 * big.nbytes / copy_s,
        gates,
        best_s(lambda: np.tanh(x, out=y), 50) / _IN_CACHE,
        best_s(lambda: np.multiply(x, y, out=y), 50) / _IN_CACHE,
    )


def _gates_rate(n_features: int, chunk: int) -> float:
    """Return the best rate of w1 x1 and w2 x2, whole or in blocks of columns."""
    seconds, flops = 0.0, 0
    for rows, inner in _gate_shapes(n_features):
        w = np.ones((rows, inner), np.float32)
        x, out = np.ones((inner, chunk), np.float32), np.empty((rows, chunk), np.float32)
        narrow, narrow_out = np.ascontiguousarray(x[:, :BLOCK]), np.empty((rows, BLOCK), np.float32)
        seconds += min(
            best_s(lambda w=w, x=x, out=out: product(w, x, out), 50),  # type: ignore[misc]
            best_s(lambda w=w, x=x, out=out: np.matmul(w, x, out=out), 50),  # type: ignore[misc]
            best_s(lambda w=w, x=narrow, out=narrow_out: np.matmul(w, x, out=out), 50)  # type: ignore[misc]
            * (chunk / BLOCK),
        )
        flops += 2 * rows * inner * chunk
    return flops / seconds


def _gate_shapes(n_features: int, n_units: int = 20) -> list[tuple[int, int]]:
    shapes = Sizes(n_features, (n_units, n_units)).shapes()
    return [(shapes[w][0], shapes[w][1] + 1) for w in ("lstm1/w", "lstm2/w")]


def lstm_floor_s(limits: Limits, n_coordinates: int, threads: int, n_features: int = 4) -> float:
    """Return the least time of one LSTM step: products, tanh and elementwise passes at the measured rates.

    Not counted: the features, the output's product, and the traffic of the state.
    """
    flops = sum(2 * rows * inner for rows, inner in _gate_shapes(n_features))
    n_tanh = 2 * (4 * 20 + 20)  # gates and cells of both layers
    n_passes = 2 * (3 + 5) * 20  # gates + 1; f c, i n, their sum, its half, o tanh(c)
    one = (
        flops / limits.gates_flops_per_s_of_one_thread
        + n_tanh * limits.tanh_s_of_one_thread
        + n_passes * limits.pass_s_of_one_thread
    )
    return n_coordinates * one / threads


def describe_machine() -> dict[str, Any]:
    """Return processor and versions."""
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "l2lnp": VERSION,
        **{name: version for name in _LIBRARIES if (version := _version(name))},
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        fields = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
        )
        names = {key.strip(): value.strip() for key, value in fields.items()}
        if "model name" in names:
            family = " ".join(names.get(key, "") for key in ("cpu family", "model"))
            return f"{names['model name']} (family and model {family})"
    return platform.processor() or platform.machine()
