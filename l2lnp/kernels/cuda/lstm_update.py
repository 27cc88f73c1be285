"""`l2lnp.optimizers.lstm_update` in one kernel, compiled for the features that are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from l2lnp.backend import array_module
from l2lnp.kernels.cuda import (
    blocks,
    check,
    launch,
    number,
    pointer,
    preprocessing,
    reductions,
    row_stride,
    structure,
)
from l2lnp.kernels.cuda.lstm import addresses, expected, lstm_kernel, tiling_for
from l2lnp.optimizers import lstm_update
from l2lnp.optimizers.chunks import Chunk, Span
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.scalars import Scalar
from l2lnp.workspace import Fresh

MOST_CHUNKS = 8  # of a launch, each with the addresses of its weights


def update(step: Step, span: Span, space: Fresh) -> None:
    """Make ``step`` on the coordinates of ``span``: fill in its ``after`` and ``result``."""
    if not preprocessing.is_in_cuda(step.preprocessing):
        lstm_update.update(step, span, space)
        return
    check_step(step)
    for first in range(0, len(span.chunks), MOST_CHUNKS):
        _launch(step, span.chunks[first : first + MOST_CHUNKS])


def _launch(step: Step, chunks: Sequence[Chunk]) -> None:
    xp, dtype = array_module(step.result), step.result.dtype
    tiling = tiling_for(xp, step.sizes, sum(chunk.n for chunk in chunks), dtype)
    theta = step.theta if step.theta is None else xp.ascontiguousarray(step.theta)
    first_block, rows = 0, []
    for chunk in chunks:
        rows.append([first_block, *place(step, chunk)])
        first_block += blocks(chunk.n, tiling.tile)
    defines = compiled_for(step.preprocessing, step.head) | tiling.defines()
    launch(
        lstm_kernel(xp, "lstm_update.cu", "lstm_update", step.sizes, dtype, **defines),
        first_block,
        tiling.threads,
        *(*observed(step, rows), *numbers(step.kept), *lengths(step)),
        *(step.before, step.after, pointer(theta), step.result),
    )


def place(step: Step, chunk: Chunk) -> list[int]:
    """Return where ``chunk`` lies: ``Place`` in observed.cuh."""
    block, first = chunk.block, chunk.coordinates.start
    of_state = step.n_rows * block.start + first - block.start
    return [first, chunk.n, of_state, block.stop - block.start, *addresses(step.weights[chunk.group])]


def observed(step: Step, chunks: Sequence[list[int]]) -> tuple[Any, ...]:
    """Return the arguments of a kernel from the ``chunks`` on, as their numbers, to the factor of u."""
    xp, sizes, inputs = array_module(step.result), step.tensors.sizes, step.inputs
    g, h = (a if a is None else xp.ascontiguousarray(a) for a in (inputs.g, inputs.h))
    padding = [0] * ((MOST_CHUNKS - len(chunks)) * len(chunks[0]))
    share = inputs.context.share if _reads(step, "Clock") else 0.0
    return (
        *(structure([*chain.from_iterable(chunks), *padding]), np.int32(len(chunks))),
        *(g, pointer(h), step.moments, row_stride(step.moments)),
        *(pointer(step.statistics), pointer(step.units), reductions.starts(xp, sizes), np.int32(len(sizes))),
        *numbers(step.t, inputs.loss, share, step.factor),
    )


def numbers(*given: Scalar) -> tuple[Any, ...]:
    """Return two arguments for each number: where it lies on the device, or null; what it is on the host."""
    return tuple(chain.from_iterable(number(x) for x in given))


def lengths(step: Step) -> tuple[np.float64, np.float64]:
    """Return the samples of a mini-batch, and log(T / 300) / 2, as features read them."""
    context = step.inputs.context
    samples = context.samples if _reads(step, "Significance") else 1
    return np.float64(samples), np.float64(math.log((context.n_steps or 1) / 300.0) / 2.0)


def _reads(step: Step, feature: str) -> bool:
    return feature in (type(f).__name__ for f in step.preprocessing.features)


def check_step(step: Step) -> None:
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
    return preprocessing.told(features) | {"TANH": int(head == "tanh"), "CHUNKS": MOST_CHUNKS}
