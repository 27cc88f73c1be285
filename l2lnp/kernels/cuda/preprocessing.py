"""`l2lnp.optimizers.preprocessing.observe` in at most three kernels, compiled for the features that are read.

Features are C++ classes in ``features.cuh``, under the names that they have in Python. Where one has no
namesake there, all go through array passes.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module, moved_once
from l2lnp.kernels.cuda import kernel, launch, number, pointer, row_stride, signals, source
from l2lnp.optimizers import preprocessing as array_passes
from l2lnp.optimizers.base import Inputs
from l2lnp.optimizers.features.tensor import Shape
from l2lnp.optimizers.preprocessing import Observed, Preprocessing
from l2lnp.optimizers.signals import Segments
from l2lnp.optimizers.weight_unit import LEAST_UNIT, WeightUnit
from l2lnp.scalars import Scalar


class Counts(NamedTuple):
    """How many numbers a feature has, or several have: ``Feature`` in ``features.cuh``."""

    rows: int
    statistics: int = 0
    means: int = 0
    later_means: int = 0


def observe(
    preprocessing: Preprocessing,
    moments: Array,
    t: Scalar,
    inputs: Inputs,
    weight_unit: WeightUnit | None,
    tensors: Segments,
) -> Observed:
    """Return the moments after step ``t``, and what whole tensors have in common."""
    if not is_in_cuda(preprocessing):
        return array_passes.observe(preprocessing, moments, t, inputs, weight_unit, tensors)
    xp, g, n = array_module(moments, inputs.g), inputs.g, len(tensors.sizes)
    counts, theta = totals(preprocessing), None if weight_unit is None else inputs.theta
    pieces = signals.Pieces.of(xp, tensors.sizes)
    defines = told(preprocessing) | {"UNITS": int(theta is not None)}
    n_means = counts.means + (theta is not None)
    after, sums = signals.averages_and_sums(
        preprocessing.averages, moments, g, inputs.h, pieces, defines, n_means, t, theta
    )
    if not n_means and not counts.statistics:
        return Observed(after, None, None)
    later = xp.empty((counts.later_means, pieces.n), np.float64)
    statistics = xp.empty((counts.statistics, n), g.dtype)
    later_sums, tensor_statistics = (
        kernel(xp, "signals.cu", name, g.dtype, **defines) for name in ("later_sums", "tensor_statistics")
    )
    of_pieces = pieces.starts, np.int32(pieces.n), pieces.first
    if counts.later_means:
        seen = g, after, row_stride(after), *number(t)
        launch(later_sums, pieces.n, signals.THREADS, *seen, *of_pieces, np.int32(n), sums, later)
    units = weights = largest = None
    if weight_unit is not None:
        units, weights = xp.empty(n, g.dtype), moved_once(xp, tensors.layout.weights_of_tensors)
        largest = moved_once(xp, weight_unit.largest, g.dtype)
    launch(
        tensor_statistics,
        n,
        signals.THREADS,
        *(*number(inputs.loss), *of_pieces, sums, later),
        *(pointer(weights), np.float64(LEAST_UNIT), pointer(largest)),
        *(Shape.of_layout(tensors.layout, statistics), statistics, pointer(units)),
    )
    return Observed(after, statistics if counts.statistics else None, units)


def told(preprocessing: Preprocessing) -> dict[str, int | str]:
    """Return what kernels are told of the features when they are compiled."""
    rows = {average: str(row) for row, average in enumerate(preprocessing.averages)}
    names = []
    for feature in preprocessing.features:
        read = ",".join(rows[average] for average in feature.averages)
        names.append(type(feature).__name__ + (f"<{read}>" if read else ""))
    return signals.told(preprocessing.averages) | {"FEATURES": ",".join(names)}


def totals(preprocessing: Preprocessing) -> Counts:
    """Return how many numbers the features have, all together."""
    return Counts(*map(sum, zip(*(in_cuda()[type(f).__name__] for f in preprocessing.features), strict=True)))


def is_in_cuda(preprocessing: Preprocessing) -> bool:
    """Return whether every feature is there in CUDA."""
    return {type(feature).__name__ for feature in preprocessing.features} <= in_cuda().keys()


@cache
def in_cuda() -> dict[str, Counts]:
    """Return the features that there are in CUDA by name, and how many numbers they have."""
    found = re.findall(r"^struct (\w+) : Feature<([\d, ]+)>", source("features.cuh"), re.MULTILINE)
    return {name: Counts(*map(int, numbers.split(","))) for name, numbers in found}
