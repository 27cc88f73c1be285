"""Moving averages (`l2lnp.optimizers.signals.advance`), and sums over tensors in the same kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.kernels.cuda import blocks, check, kernel, launch, number, pointer, row_stride
from l2lnp.scalars import Scalar

if TYPE_CHECKING:
    from l2lnp.optimizers.signals import Average

THREADS = 256  # as in signals.cu
_MOST_PIECES = 1024  # about, of all tensors together
_OBSERVED = {"g": "G", "g^2": "G_SQUARED", "|h|": "H_SIZE"}  # as in signals.cu


class Pieces(NamedTuple):
    """How tensors are cut: into pieces that a block goes through."""

    n: int
    starts: Array  # (n + 1,): where each piece starts, and the last one ends
    first: Array  # (n_tensors + 1,): the first piece of each tensor, and n

    @classmethod
    def of(cls, xp: ModuleType, sizes: tuple[int, ...]) -> Pieces:
        """Return how tensors of ``sizes`` are cut, on the device; moved there once."""
        starts, first = _cuts(sizes)
        return cls(len(starts) - 1, moved_once(xp, starts), moved_once(xp, first))


@cache
def _cuts(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    piece = THREADS * blocks(sum(sizes), THREADS * _MOST_PIECES)
    ends = list(accumulate(sizes, initial=0))
    pieces = [range(end - size, end, piece) for end, size in zip(ends[1:], sizes, strict=True)]
    starts = (*(start for of_tensor in pieces for start in of_tensor), ends[-1])
    return starts, tuple(accumulate(map(len, pieces), initial=0))


def advance(averages: Sequence[Average], moments: Array, g: Array, h: Array | None) -> Array:
    """Return the moments (n_moments, n) after a step that saw g and h (n,)."""
    pieces = Pieces.of(array_module(g), (g.size,))
    defines = told(averages) | {"FEATURES": "", "UNITS": 0}
    return averages_and_sums(averages, moments, g, h, pieces, defines)[0]


def averages_and_sums(
    averages: Sequence[Average],
    moments: Array,
    g: Array,
    h: Array | None,
    pieces: Pieces,
    defines: Mapping[str, int | str],
    n_sums: int = 0,
    t: Scalar = 0,
    theta: Array | None = None,
) -> tuple[Array, Array]:
    """Return the moments after step ``t``, and sums (n_sums, n_pieces) of what the features average.

    ``defines`` are what the kernel is told of averages and features; theta^2 is summed where it is given.
    """
    xp = array_module(moments, g)
    after, sums = xp.empty_like(moments), xp.empty((n_sums, pieces.n), np.float64)
    if not (averages or n_sums):
        return after, sums
    given = {"g": g} | {name: a for name, a in {"h": h, "theta": theta}.items() if a is not None}
    check(g.dtype, moments=(moments, (len(averages), g.size)))
    check(g.dtype, **{name: (a, (g.size,)) for name, a in given.items()})
    g, h, theta = (a if a is None else xp.ascontiguousarray(a) for a in (g, h, theta))
    launch(
        kernel(xp, "signals.cu", "moving_averages", g.dtype, **defines),
        pieces.n,
        THREADS,
        *(g, pointer(h), pointer(theta), moments, row_stride(moments), after, row_stride(after)),
        *(*number(t), pieces.starts, sums, np.int32(pieces.n)),
    )
    return after, sums


def told(averages: Sequence[Average]) -> dict[str, int | str]:
    """Return what kernels are told of ``averages`` when they are compiled."""
    return {
        "AVERAGES": len(averages),
        "DECAYS": ",".join(repr(float(average.decay)) for average in averages),
        "OBSERVED": ",".join(_OBSERVED[average.of] for average in averages),
    }
