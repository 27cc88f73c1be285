"""`l2lnp.optimizers.lstm_update_adjoint` in one kernel a step, for all layers at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import lstm
from l2lnp.kernels.cuda import launch, pointer, preprocessing
from l2lnp.kernels.cuda.lstm_adjoint import Slots, tiling_for
from l2lnp.kernels.cuda.lstm_update import MOST_CHUNKS, check_step, compiled_for, lengths, observed, place
from l2lnp.optimizers.chunks import Chunk
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.workspace import Fresh


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
        check_step(step)
        for first in range(0, len(placed), MOST_CHUNKS):
            _launch(step, a_state, placed[first : first + MOST_CHUNKS], slots, number == 0)
    return dict(zip(groups, slots.sums(), strict=True))


def _launch(
    step: Step, a_state: Array, placed: Sequence[tuple[Chunk, int, int]], slots: Slots, is_new: bool
) -> None:
    """Go back through ``step`` on chunks that have so many blocks, from some slot on."""
    a_u = array_module(a_state).ascontiguousarray(step.result)
    first_block, rows = 0, []
    for chunk, n_blocks, slot in placed:
        rows.append([first_block, n_blocks, slot, *place(step, chunk)])
        first_block += n_blocks
    defines = compiled_for(step.preprocessing, step.head)
    launch(
        slots.kernel("lstm_update_adjoint.cu", "lstm_update_reverse", **defines),
        first_block,
        slots.tiling.threads,
        *(*observed(step, rows), *lengths(step), step.before, step.after, a_u, a_state),
        *(slots.slots, pointer(slots.scratch), np.int32(is_new)),
    )
