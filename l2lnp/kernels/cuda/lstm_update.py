"""`l2lnp.optimizers.lstm_update` in one kernel, compiled for the features that are read.

Features are C++ classes in ``features.cuh``, under the names that they have in Python. Where one has no
namesake there, all go through array passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import array_module
from l2lnp.kernels.cuda import blocks, check, launch, number, pointer, reductions, row_stride, signals, source
from l2lnp.kernels.cuda.lstm import THREADS, columns_of_thread, expected, lstm_kernel
from l2lnp.optimizers import lstm_update
from l2lnp.optimizers.chunks import Chunk, Span
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.workspace import Fresh


def update(step: Step, span: Span, space: Fresh) -> None:
    """Make ``step`` on the coordinates of ``span``: fill in its ``after`` and ``result``."""
    if not {type(feature).__name__ for feature in step.preprocessing.features} <= in_cuda():
        lstm_update.update(step, span, space)
        return
    xp = array_module(step.result)
    defines = compiled_for(step.preprocessing, step.head)
    tensors, numbers = _of_tensors(xp, step), _numbers(step)
    for chunk in span.chunks:
        _launch(xp, step, chunk, defines, tensors, numbers)


def _launch(
    xp: ModuleType,
    step: Step,
    chunk: Chunk,
    defines: Mapping[str, Any],
    tensors: tuple[Any, ...],
    numbers: tuple[Any, ...],
) -> None:
    here, n, dtype, weights = chunk.coordinates, chunk.n, step.result.dtype, step.weights[chunk.group]
    g, h, theta = (
        a if a is None else xp.ascontiguousarray(a[here]) for a in (step.inputs.g, step.inputs.h, step.theta)
    )
    moments, result = step.moments[:, here], step.result[here]
    before, after = (chunk.of(state, step.n_rows) for state in (step.before, step.after))
    check(dtype, moments=(moments, (len(moments), n)), g=(g, (n,)), result=(result, (n,)))
    check(dtype, **{name: (a, (n,)) for name, a in {"h": h, "theta": theta}.items() if a is not None})
    check(dtype, before=(before, (step.n_rows, n)), after=(after, (step.n_rows, n)))
    check(dtype, **expected(step.sizes, weights))
    n_columns = columns_of_thread(n, dtype)
    launch(
        lstm_kernel(xp, "lstm_update", step.sizes, dtype, n_columns, **defines),
        blocks(n, THREADS * n_columns),
        THREADS,
        *(*weights, g, pointer(h), moments, row_stride(moments)),
        *(*tensors, here.start, *numbers),
        *(before, row_stride(before), after, row_stride(after), pointer(theta), result, n),
    )


def compiled_for(preprocessing: Preprocessing, head: str) -> dict[str, int | str]:
    """Return what the kernel is told of the features and the head when it is compiled."""
    rows = {average: str(row) for row, average in enumerate(preprocessing.averages)}
    names = []
    for feature in preprocessing.features:
        read = ",".join(rows[average] for average in feature.averages)
        names.append(type(feature).__name__ + (f"<{read}>" if read else ""))
    return signals.told(preprocessing.averages) | {"FEATURES": ",".join(names), "TANH": int(head == "tanh")}


def _of_tensors(xp: ModuleType, step: Step) -> tuple[Any, ...]:
    """Return as arguments what is known of each tensor: statistics, scale, start; and how many there are."""
    dtype, sizes = step.result.dtype, step.tensors.sizes
    found = [s.astype(dtype, copy=False) for s in step.statistics if s is not None]
    statistics = xp.concatenate(found) if found else None
    n_statistics = sum(map(len, found))
    check(dtype, scales=(step.scales, (len(sizes),)))
    if found:
        check(dtype, statistics=(statistics, (n_statistics, len(sizes))))
    return pointer(statistics), step.scales, reductions.starts(xp, sizes), np.int32(len(sizes))


def _numbers(step: Step) -> tuple[Any, ...]:
    """Return as arguments the numbers that all coordinates have in common."""
    context, names = step.inputs.context, {type(feature).__name__ for feature in step.preprocessing.features}
    share = context.share if "Clock" in names else 0.0
    samples = context.samples if "Significance" in names else 1
    length = math.log((context.n_steps or 1) / 300.0) / 2.0
    there_or_here = (number(x) for x in (step.t, step.inputs.loss, share, step.kept))
    return *(part for pair in there_or_here for part in pair), np.float64(samples), np.float64(length)


@cache
def in_cuda() -> frozenset[str]:
    """Return the names of the features that there are in CUDA."""
    return frozenset(re.findall(r"^struct (\w+)", source("features.cuh"), re.MULTILINE))
