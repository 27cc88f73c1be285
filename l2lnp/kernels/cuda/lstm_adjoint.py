"""`l2lnp.kernels.lstm_adjoint` in CUDA: a step back is one launch, in which gates are computed again.

The cotangents of the weights are sums over all coordinates. A block adds those of its coordinates up in a
slot of its own, step after step, and the slots are added at the end::

    a_w = sum_blocks sum_steps d [inputs; hidden; 1]^T
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.kernels import lstm
from l2lnp.kernels.cuda import blocks, check, kernel, launch, pointer, row_stride, structure
from l2lnp.kernels.cuda.lstm import Tape, Weights, addresses, expected, n_weights
from l2lnp.kernels.lstm import Sizes
from l2lnp.workspace import Fresh

_MOST_SHARED_BYTES = 47 << 10  # of a block
_REGISTERS = 1 << 16  # of a multiprocessor
_REGISTERS_OF_THREAD = 96  # in single precision, with next to no spills
_MOST_BLOCKS = 512  # that have a slot: beyond, each takes several tiles
_SUMS_COLUMNS, _SUMS_THREADS = 32, 256  # as in lstm_adjoint.cu


class ReverseTiling(NamedTuple):
    """How a step back is dealt out."""

    tile: int  # coordinates that a block has at once
    threads: int  # of a block
    shares_weights: bool  # whether a layer's weights lie in shared memory
    shares_tile: bool  # whether inputs and cotangents of a tile do
    blocks: int = 1  # that a multiprocessor shall have room for

    def n_blocks(self, n: int) -> int:
        """Return how many blocks share ``n`` coordinates."""
        return min(_MOST_BLOCKS, blocks(n, self.tile))

    def defines(self) -> dict[str, int | str]:
        """Return what the kernel is told of it when it is compiled."""
        shared = {"SHARED": int(self.shares_weights), "STAGED": int(self.shares_tile)}
        bounds = f"{self.threads}, {self.blocks}"
        return {"TILE": self.tile, "THREADS": self.threads, "BOUNDS": bounds, **shared}


def tiling_for(sizes: Sizes, dtype: np.dtype) -> ReverseTiling:
    """Return how a step back is dealt out: the widest tile for shared memory, beside the weights or not."""
    itemsize, pairs = np.dtype(dtype).itemsize, blocks(max(sizes.n_units), 2)
    f, (s1, s2) = sizes.n_features, sizes.n_units
    of_weights = 4 * max(s1 * (f + s1 + 1), s2 * (s1 + s2 + 1)) * itemsize

    def dealt(tile: int, of_weights: int) -> ReverseTiling:
        threads = max(64, min(32 * blocks(pairs * tile // 4, 32), 256))
        n_blocks = _REGISTERS // (_REGISTERS_OF_THREAD * threads) if itemsize == 4 else 1
        fits = of_tile(sizes, tile) * itemsize + of_weights <= _MOST_SHARED_BYTES
        return ReverseTiling(tile, threads, of_weights > 0, fits, n_blocks)

    choices = [dealt(tile, of_weights) for tile in (64, 32, 16)] + [dealt(tile, 0) for tile in (32, 16, 8, 4)]
    return next((tiling for tiling in choices if tiling.shares_tile), dealt(16, 0))


def of_tile(sizes: Sizes, tile: int) -> int:
    """Return how many numbers a tile has: ``Staged`` in lstm_reverse.cuh."""
    f, (s1, s2) = sizes.n_features, sizes.n_units
    return (s1 + max(f, s2) + 1 + 4 * max(s1, s2) + 1) * (tile + 4)


class Slots:
    """Where blocks add up what they find of the weights' cotangents, and the kernels that do.

    Parameters
    ----------
    n_blocks
        Of each group that has weights of its own; in this order they have the slots.
    """

    def __init__(self, sizes: Sizes, n_blocks: Sequence[int], like: Array, space: Fresh) -> None:
        self._sizes, self._like, self._n_groups = sizes, like, len(n_blocks)
        self._xp = array_module(like)
        self.tiling, n = tiling_for(sizes, like.dtype), sum(n_blocks)
        self.starts = tuple(int(start) for start in np.cumsum([0, *n_blocks]))
        self.n_weights = n_weights(sizes) + sizes.n_units[1] + 1
        self.slots = space.empty("slots", (n, self.n_weights), like)
        self.scratch = None
        if not self.tiling.shares_tile:
            self.scratch = space.empty("tiles", (n, of_tile(sizes, self.tiling.tile)), like)

    def kernel(self, file: str, name: str, **defines: int | str) -> Callable[..., None]:
        """Return a kernel, compiled for the sizes and the tiling."""
        f, (s1, s2) = self._sizes.n_features, self._sizes.n_units
        return kernel(
            self._xp, file, name, self._like.dtype, F=f, S1=s1, S2=s2, **self.tiling.defines(), **defines
        )

    def sums(self) -> list[lstm.Weights]:
        """Return a.w1 (4 S1, F + S1 + 1), a.w2 (4 S2, S1 + S2 + 1), a.w3 (S2 + 1,) of each group."""
        f, (s1, s2) = self._sizes.n_features, self._sizes.n_units
        found = self._xp.empty((self._n_groups, self.n_weights), self._like.dtype)
        launch(
            self.kernel("lstm_adjoint.cu", "lstm_sums"),
            self._n_groups * blocks(self.n_weights, _SUMS_COLUMNS),
            _SUMS_THREADS,
            *(self.slots, moved_once(self._xp, self.starts), found),
        )
        shapes = (4 * s1, f + s1 + 1), (4 * s2, s1 + s2 + 1), (s2 + 1,)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
        spans = zip((0, *ends[:-1]), ends, shapes, strict=True)
        cuts = [(slice(start, stop), shape) for start, stop, shape in spans]
        return [lstm.Weights(*(row[cut].reshape(shape) for cut, shape in cuts)) for row in found]


def reverse(
    sizes: Sizes,
    weights: Weights,
    tape: Tape,
    a_outputs: Sequence[Array],
    a_state: Array,
    space: Fresh,
    a_features: Array | None = None,
) -> lstm.Weights:
    """Return the cotangents a.w1 (4 S1, F + S1 + 1), a.w2 (4 S2, S1 + S2 + 1), a.w3 (S2 + 1,).

    The arguments are those of the twin; ``a_state`` is changed in place.
    """
    xp, n, dtype = array_module(a_state), a_state.shape[1], a_state.dtype
    tiling = tiling_for(sizes, dtype)
    slots = Slots(sizes, [tiling.n_blocks(n)], a_state, space)
    function = slots.kernel("lstm_adjoint.cu", "lstm_reverse")
    check(dtype, **expected(sizes, weights))
    n_steps = len(tape.x)
    for t in reversed(range(n_steps)):
        x, before, after, a_output = tape.x[t], tape.states[t], tape.states[t + 1], a_outputs[t]
        check(dtype, a_output=(a_output, (n,)), before=(before, a_state.shape), after=(after, a_state.shape))
        a_x = None if a_features is None else a_features[t]
        launch(
            function,
            tiling.n_blocks(n),
            tiling.threads,
            structure(addresses(weights)),
            *(part for a in (x, before, after) for part in (a, row_stride(a))),
            *(xp.ascontiguousarray(a_output), a_state, row_stride(a_state)),
            *(pointer(a_x), 0 if a_x is None else row_stride(a_x)),
            *(slots.slots, pointer(slots.scratch), np.int32(t == n_steps - 1), n),
        )
    return slots.sums()[0]
