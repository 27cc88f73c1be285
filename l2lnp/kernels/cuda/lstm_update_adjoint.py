"""`l2lnp.optimizers.lstm_update_adjoint` in one kernel a step, for all layers at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import lstm
from l2lnp.kernels.cuda import launch, pointer, preprocessing, reductions, row_stride, structure
from l2lnp.kernels.cuda.lstm import addresses
from l2lnp.kernels.cuda.lstm_adjoint import Slots, tiling_for
from l2lnp.kernels.cuda.lstm_update import _check, _numbers, compiled_for
from l2lnp.optimizers.chunks import Chunk
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.workspace import Fresh

_MOST_CHUNKS = 8  # of a launch, each with the addresses of its weights


def is_for(features: Preprocessing) -> bool:
    """Return whether `reverse` can go back through steps that read ``features``."""
    return preprocessing.is_in_cuda(features)


def reverse(
    steps: Sequence[Step],
    a_state: Array,
    chunks: Sequence[Chunk],
    groups: Sequence[str],
    space: Fresh,
) -> dict[str, lstm.Weights]:
    """Return the cotangents of each group's weights; ``a_state`` goes from after the steps to before them.

    The ``result`` of a step is the cotangent (P,) of its update.
    """
    sizes = steps[0].sizes
    tiling = tiling_for(sizes, a_state.dtype)
    chunks = sorted(chunks, key=lambda chunk: groups.index(chunk.group))  # slots of a group lie together
    n_blocks = [tiling.n_blocks(chunk.n) for chunk in chunks]
    of_groups = [
        sum(n for n, chunk in zip(n_blocks, chunks, strict=True) if chunk.group == group) for group in groups
    ]
    slots = Slots(sizes, of_groups, a_state, space)
    placed = list(zip(chunks, n_blocks, accumulate(n_blocks, initial=0), strict=False))
    for number, step in enumerate(reversed(steps)):
        _check(step)
        for first in range(0, len(placed), _MOST_CHUNKS):
            _launch(step, a_state, placed[first : first + _MOST_CHUNKS], slots, number == 0)
    return dict(zip(groups, slots.sums(), strict=True))


def _launch(
    step: Step, a_state: Array, placed: Sequence[tuple[Chunk, int, int]], slots: Slots, is_new: bool
) -> None:
    """Go back through ``step`` on chunks that have so many blocks, from some slot on."""
    xp, sizes = array_module(a_state), step.tensors.sizes
    seen = step.inputs.g, step.inputs.h, step.result
    g, h, a_u = (a if a is None else xp.ascontiguousarray(a) for a in seen)
    first_block, rows = 0, []
    for chunk, n_blocks, slot in placed:
        block, size = chunk.block, chunk.block.stop - chunk.block.start
        of_state = step.n_rows * block.start + chunk.coordinates.start - block.start
        rows += [first_block, n_blocks, slot, chunk.coordinates.start, chunk.n, of_state, size]
        rows += addresses(step.weights[chunk.group])
        first_block += n_blocks
    rows += [0] * ((_MOST_CHUNKS - len(placed)) * len(rows) // len(placed))
    defines = compiled_for(step.preprocessing, step.head) | {"CHUNKS": _MOST_CHUNKS}
    *pairs, _, _, samples, length = _numbers(step)  # all but what is kept of theta
    launch(
        slots.kernel("lstm_update_adjoint.cu", "lstm_update_reverse", **defines),
        first_block,
        slots.tiling.threads,
        *(structure(rows), np.int32(len(placed)), g, pointer(h), step.moments, row_stride(step.moments)),
        *(pointer(step.statistics), pointer(step.units), reductions.starts(xp, sizes), np.int32(len(sizes))),
        *(*pairs, samples, length, step.before, step.after, a_u, a_state),
        *(slots.slots, pointer(slots.scratch), np.int32(is_new)),
    )
