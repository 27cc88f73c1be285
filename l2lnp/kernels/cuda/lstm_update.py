"""`l2lnp.optimizers.lstm_update` in one kernel, compiled for the features that are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from l2lnp.backend import array_module
from l2lnp.kernels.cuda import blocks, check, launch, number, pointer, preprocessing, reductions, row_stride
from l2lnp.kernels.cuda.lstm import addresses, expected, lstm_kernel, structure, tiling_for
from l2lnp.optimizers import lstm_update
from l2lnp.optimizers.chunks import Chunk, Span
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.workspace import Fresh

_MOST_CHUNKS = 8  # of a launch, each with the addresses of its weights


def update(step: Step, span: Span, space: Fresh) -> None:
    """Make ``step`` on the coordinates of ``span``: fill in its ``after`` and ``result``."""
    if not preprocessing.is_in_cuda(step.preprocessing):
        lstm_update.update(step, span, space)
        return
    _check(step)
    for first in range(0, len(span.chunks), _MOST_CHUNKS):
        _launch(step, span.chunks[first : first + _MOST_CHUNKS])


def _launch(step: Step, chunks: Sequence[Chunk]) -> None:
    xp, dtype, sizes = array_module(step.result), step.result.dtype, step.tensors.sizes
    tiling = tiling_for(xp, step.sizes, sum(chunk.n for chunk in chunks), dtype)
    g, h, theta = (
        a if a is None else xp.ascontiguousarray(a) for a in (step.inputs.g, step.inputs.h, step.theta)
    )
    first_block, rows = 0, []
    for chunk in chunks:
        block, size = chunk.block, chunk.block.stop - chunk.block.start
        of_state = step.n_rows * block.start + chunk.coordinates.start - block.start
        rows += [first_block, chunk.coordinates.start, chunk.n, of_state, size]
        rows += addresses(step.weights[chunk.group])
        first_block += blocks(chunk.n, tiling.tile)
    rows += [0] * ((_MOST_CHUNKS - len(chunks)) * len(rows) // len(chunks))
    defines = compiled_for(step.preprocessing, step.head) | tiling.defines()
    launch(
        lstm_kernel(xp, "lstm_update", step.sizes, dtype, **defines),
        first_block,
        tiling.threads,
        *(structure(rows), np.int32(len(chunks)), g, pointer(h), step.moments, row_stride(step.moments)),
        *(pointer(step.statistics), pointer(step.units), reductions.starts(xp, sizes), np.int32(len(sizes))),
        *(*_numbers(step), step.before, step.after, pointer(theta), step.result),
    )


def _check(step: Step) -> None:
    """Raise ValueError unless every array has the shape that the kernel takes it to have."""
    n, n_tensors = step.result.size, len(step.tensors.sizes)
    statistics = preprocessing.totals(step.preprocessing).statistics
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "g": (step.inputs.g, (n,)),
        "h": (step.inputs.h, (n,)),
        "theta": (step.theta, (n,)),
        "result": (step.result, (n,)),
        "moments": (step.moments, (len(step.preprocessing.averages), n)),
        "statistics": (step.statistics, (statistics, n_tensors)),
        "units": (step.units, (n_tensors,)),
        "before": (step.before, (step.n_rows * n,)),
        "after": (step.after, (step.n_rows * n,)),
    }
    check(step.result.dtype, **{name: given for name, given in shapes.items() if given[0] is not None})
    for weights in step.weights.values():
        check(step.result.dtype, **expected(step.sizes, weights))


def compiled_for(features: Preprocessing, head: str) -> dict[str, int | str]:
    """Return what the kernel is told of the features and the head when it is compiled."""
    return preprocessing.told(features) | {"TANH": int(head == "tanh"), "CHUNKS": _MOST_CHUNKS}


def _numbers(step: Step) -> tuple[Any, ...]:
    """Return as arguments the numbers that all coordinates have in common."""
    context, names = step.inputs.context, {type(feature).__name__ for feature in step.preprocessing.features}
    share = context.share if "Clock" in names else 0.0
    samples = context.samples if "Significance" in names else 1
    length = math.log((context.n_steps or 1) / 300.0) / 2.0
    there_or_here = (number(x) for x in (step.t, step.inputs.loss, share, step.factor, step.kept))
    return *(part for pair in there_or_here for part in pair), np.float64(samples), np.float64(length)
