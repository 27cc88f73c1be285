"""The features of a learned optimizer, one above the other, and the averages and means they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from l2lnp.backend import Array, array_module
from l2lnp.kernels import twin
from l2lnp.optimizers import signals
from l2lnp.optimizers.base import Inputs
from l2lnp.optimizers.features import FEATURES, Feature
from l2lnp.optimizers.signals import (
    Average,
    Cotangents,
    Segments,
    advance_adjoint,
    look,
)
from l2lnp.optimizers.weight_unit import WeightUnit
from l2lnp.scalars import Scalar

Statistics: TypeAlias = Array | None  # (n_statistics, n_tensors) of all features, or None: they have none


class Observed(NamedTuple):
    """What a step sees beside its inputs."""

    moments: Array  # (n_moments, P) after the step
    statistics: Statistics
    units: Array | None  # (n_tensors,) sizes of the weights, where anything goes by them


def observe(
    preprocessing: Preprocessing,
    moments: Array,
    t: Scalar,
    inputs: Inputs,
    weight_unit: WeightUnit | None,
    tensors: Segments,
) -> Observed:
    """Return the moments after step ``t`` (from 1), and what whole tensors have in common."""
    after = preprocessing.advance(moments, inputs)
    units = None if weight_unit is None else weight_unit.of_tensors(inputs.theta)
    return Observed(after, preprocessing.statistics(after, t, inputs, units, tensors), units)


@dataclass(frozen=True)
class Preprocessing:
    """Turns loss, g and h into the rows that the LSTM reads; remembers moving averages."""

    features: tuple[Feature, ...]

    @classmethod
    def named(cls, names: Iterable[str], decay: float) -> Preprocessing:
        """Return the features called ``names`` (`FEATURES`)."""
        return cls(tuple(FEATURES[name](decay) for name in names))

    @cached_property
    def averages(self) -> tuple[Average, ...]:
        """The moving averages of all features, each once: the rows of the moments."""
        return tuple(dict.fromkeys(a for feature in self.features for a in feature.averages))

    @cached_property
    def n_rows(self) -> int:
        """Rows of all features."""
        return sum(feature.n_rows for feature in self.features)

    def advance(self, moments: Array, inputs: Inputs) -> Array:
        """Return the moments (n_moments, n) after a step that saw ``inputs``."""
        after: Array = twin(signals, inputs.g).advance(self.averages, moments, inputs.g, inputs.h)
        return after

    @cached_property
    def uses_curvature(self) -> bool:
        """Whether any feature reads h."""
        return any(feature.uses_curvature for feature in self.features)

    @cached_property
    def uses_theta(self) -> bool:
        """Whether any feature reads the size of the weights."""
        return any(feature.uses_theta for feature in self.features)

    @property
    def has_statistics(self) -> bool:
        """Whether any feature goes by what whole tensors have in common."""
        return any(feature.n_statistics for feature in self.features)

    @cached_property
    def _in_statistics(self) -> frozenset[Average]:
        """The averages that statistics are made of."""
        own = (f for f in self.features if type(f).statistics is not Feature.statistics)
        return frozenset(average for feature in own for average in feature.averages)

    def statistics(
        self, moments: Array, t: int, inputs: Inputs, units: Array | None, tensors: Segments
    ) -> Statistics:
        """Return what whole tensors have in common at step ``t``; moments (n_moments, P) after it."""
        seen = look(self.averages, moments, t, inputs, units, self._in_statistics)
        found = [s for feature in self.features if (s := feature.statistics(seen, tensors)) is not None]
        return array_module(*found).concatenate(found) if found else None

    def fill(
        self, rows: Array, moments: Array, t: int, inputs: Inputs, statistics: Statistics, tensors: Segments
    ) -> None:
        """Fill ``rows`` (F, n) with the features of coordinates that run through ``tensors``."""
        seen = look(self.averages, moments, t, inputs)
        filled = 0
        for feature, of_tensors in self._with(statistics, tensors):
            for row in feature.rows(seen, of_tensors):
                rows[filled] = row
                filled += 1

    def adjoint(
        self,
        a_rows: Array,
        a_moments: Array | None,
        moments: Array,
        t: int,
        inputs: Inputs,
        units: Array | None,
        statistics: Statistics,
        tensors: Segments,
    ) -> tuple[Array, Cotangents]:
        """Return the cotangents of the moments before the step, and of all signals, over all coordinates.

        ``a_moments`` belongs to the moments after the step; None stands for zero.
        """
        seen = look(self.averages, moments, t, inputs, units)
        a = Cotangents(inputs.g)
        used = 0
        for feature, of_tensors in self._with(statistics, tensors):
            feature.adjoint(seen, of_tensors, tensors, a_rows[used : used + feature.n_rows], a)
            used += feature.n_rows
        if a_moments is None:
            a_moments = array_module(moments).zeros_like(moments)
        return advance_adjoint(self.averages, t, inputs, a, a_moments), a

    def _with(self, statistics: Statistics, tensors: Segments) -> Iterator[tuple[Feature, Statistics]]:
        """Yield each feature with its statistics, spread over the coordinates of ``tensors``."""
        spread, start = None if statistics is None else tensors.spread(statistics), 0
        for feature in self.features:
            stop = start + feature.n_statistics
            yield feature, spread[start:stop] if spread is not None and feature.n_statistics else None
            start = stop
