"""`l2lnp.kernels.lstm` in CUDA: a step of both layers is one kernel, and a tape keeps states alone.

Weights stay as they are in phi: kernels read them from there. Nothing is doubled or halved here; the
gates' equations stand in ``lstm_layers.cuh``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import lstm
from l2lnp.kernels.cuda import blocks, check, kernel, launch, row_stride, structure
from l2lnp.kernels.lstm import Sizes
from l2lnp.workspace import Fresh

_MOST_SHARED_BYTES = 45 << 10  # of a block, for weights; on every device there are 48 for all it needs
_MOST_TENSOR_BYTES = 30 << 10  # of weights, where features of the block's coordinates lie beside them
_AMPERE = 80  # the first of the architectures whose tensor cores multiply numbers of 11 bits
_MANY = 1 << 16  # coordinates that fill a device: then a thread takes several, and reads weights less often


class Weights(NamedTuple):
    """The weights of an LSTM, `Sizes.shapes`."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array
    w3: Array
    b3: Array


class Tiling(NamedTuple):
    """How a step is dealt out to threads."""

    columns: int  # coordinates of a thread
    parts: int  # threads that work on a coordinate, each on its part of the units
    threads: int  # of a block
    blocks: int = 0  # that a multiprocessor shall have room for; 0: as it comes

    @property
    def tile(self) -> int:
        """Coordinates of a block."""
        return self.columns * self.threads // self.parts

    def defines(self) -> dict[str, int | str]:
        """Return what the kernel is told of it when it is compiled."""
        bounds = f"{self.threads}, {self.blocks}" if self.blocks else self.threads
        sizes = {"COLUMNS": self.columns, "PARTS": self.parts, "THREADS": self.threads}
        return {"TENSOR": 0, **sizes, "BOUNDS": bounds}


class TensorTiling(NamedTuple):
    """How a step is dealt out to warps, which make it by tensor cores."""

    tiles: int  # of 16 coordinates, that a warp has at once
    rounds: int  # in which a block goes through its coordinates
    threads: int  # of a block
    blocks: int  # that a multiprocessor shall have room for

    @property
    def tile(self) -> int:
        """Coordinates of a block."""
        return 16 * self.tiles * self.rounds * self.threads // 32

    def defines(self) -> dict[str, int | str]:
        """Return what the kernel is told of it when it is compiled."""
        sizes = {"M_TILES": self.tiles, "ROUNDS": self.rounds, "THREADS": self.threads}
        return {"TENSOR": 1, **sizes, "BOUNDS": f"{self.threads}, {self.blocks}"}


_TENSOR_TILINGS = (  # from so many coordinates on: the fastest of those that were timed on an H200
    (1 << 18, TensorTiling(tiles=1, rounds=8, threads=128, blocks=5)),
    (1 << 15, TensorTiling(tiles=2, rounds=1, threads=128, blocks=3)),
    (0, TensorTiling(tiles=1, rounds=1, threads=128, blocks=4)),
)


@dataclass
class Tape:
    """The features (T, F, n) of T steps over n coordinates, and T + 1 states (2 S1 + 2 S2, n)."""

    sizes: Sizes
    x: Array
    space: Fresh
    states: list[Array] = field(default_factory=list)

    def features(self, t: int) -> Array:
        """Return the rows (F, n) that the caller fills before step ``t``."""
        return self.x[t]


def fold(canonical: Mapping[str, Array]) -> Weights:
    """Return the canonical weights as they are."""
    xp = array_module(*canonical.values())
    return Weights(*(xp.ascontiguousarray(canonical[name]) for name in Sizes(0, (0, 0)).shapes()))


def unfold(a: lstm.Weights) -> dict[str, Array]:
    """Return the cotangents of the canonical weights from what `reverse` returns."""
    return {
        "lstm1/w": a.w1[:, :-1],
        "lstm1/b": a.w1[:, -1],
        "lstm2/w": a.w2[:, :-1],
        "lstm2/b": a.w2[:, -1],
        "head/w": a.w3[None, :-1],
        "head/b": a.w3[-1:],
    }


def blank_tape(sizes: Sizes, n_steps: int, n: int, like: Array, space: Fresh, is_kept: bool = True) -> Tape:
    """Return a tape for ``n_steps`` steps over ``n`` coordinates; kept or not, it holds states alone."""
    return Tape(sizes, space.empty("x", (n_steps, sizes.n_features, n), like), space)


def begin(sizes: Sizes, tape: Tape, state: Array, after: Array | None = None) -> None:
    """Start at ``state`` (2 S1 + 2 S2, n); the state after the last step is written to ``after`` if given."""
    n_steps = len(tape.x)
    n_new = n_steps if after is None else n_steps - 1
    new = [tape.space.empty(("state", t), state.shape, state) for t in range(n_new)]
    tape.states = [state, *new] if after is None else [state, *new, after]


def advance(weights: Weights, tape: Tape, t: int) -> Array:
    """Run step ``t``, whose features stand in the tape, and return the output (n,)."""
    x, before, after = tape.x[t], tape.states[t], tape.states[t + 1]
    n, xp = x.shape[1], array_module(x, before, after, *weights)
    n_rows = 2 * tape.sizes.n_hidden
    check(x.dtype, before=(before, (n_rows, n)), after=(after, (n_rows, n)), **expected(tape.sizes, weights))
    output, tiling = xp.empty(n, x.dtype), tiling_for(xp, tape.sizes, n, x.dtype)
    launch(
        lstm_kernel(xp, "lstm.cu", "lstm_step", tape.sizes, x.dtype, **tiling.defines()),
        blocks(n, tiling.tile),
        tiling.threads,
        structure(addresses(weights)),
        *(part for a in (x, before, after) for part in (a, row_stride(a))),
        output,
        n,
    )
    return output


def end(sizes: Sizes, tape: Tape, after: Array) -> None:
    """Do nothing: the kernel has written the whole state."""


def tiling_for(xp: ModuleType, sizes: Sizes, n: int, dtype: np.dtype) -> Tiling | TensorTiling:
    """Return how a step over ``n`` coordinates is dealt out.

    Tensor cores do it in single precision, from Ampere on, where units can be dealt out to four lanes
    and their weights fit in shared memory.
    """
    fits = n_weights(sizes) * 4 <= _MOST_TENSOR_BYTES and not any(s % 4 for s in sizes.n_units)
    if fits and dtype == np.float32 and _has_tensor_cores(xp):
        return next(tiling for least, tiling in _TENSOR_TILINGS if n >= least)
    if n < _MANY:
        return Tiling(columns=1, parts=4, threads=256)
    return Tiling(columns=2 if dtype == np.float32 else 1, parts=1, threads=128)


@cache
def _has_tensor_cores(xp: ModuleType) -> bool:
    return int(xp.cuda.Device().compute_capability) >= _AMPERE


def n_weights(sizes: Sizes) -> int:
    """Return how many weights both layers have, without the head's."""
    f, (s1, s2) = sizes.n_features, sizes.n_units
    return 4 * (s1 * (f + s1 + 1) + s2 * (s1 + s2 + 1))


def lstm_kernel(
    xp: ModuleType, file: str, name: str, sizes: Sizes, dtype: np.dtype, **defines: int | str
) -> Callable[..., None]:
    """Return a kernel, compiled for ``sizes`` and ``defines``."""
    f, (s1, s2) = sizes.n_features, sizes.n_units
    shared = int(n_weights(sizes) * np.dtype(dtype).itemsize <= _MOST_SHARED_BYTES)
    return kernel(xp, file, name, dtype, F=f, S1=s1, S2=s2, SHARED=shared, **defines)


def expected(sizes: Sizes, weights: Weights) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """Return the weights beside their shapes, to be checked."""
    return dict(zip(Weights._fields, zip(weights, sizes.shapes().values(), strict=True), strict=True))


def addresses(weights: Weights) -> list[int]:
    """Return where each of the weights lies."""
    return [a.data.ptr for a in weights]
