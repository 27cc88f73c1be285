"""Several steps of the learned optimizer over a span of coordinates, made again, and their reverse.

    o, state' = LSTM(state, features)            step by step, and back:
    a_o       = a_head (1 - tanh(o)^2)           or a_head, where the head is linear

Chunk by chunk, so that what a chunk's steps leave behind stays in cache: with tapes of arrays, or in one call
of `l2lnp.kernels.compiled`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import compiled_for, lstm, lstm_adjoint, twin
from l2lnp.kernels.lstm import Sizes, Weights
from l2lnp.optimizers.chunks import Span
from l2lnp.optimizers.lstm_update import headed, tapes
from l2lnp.workspace import Fresh


class Way(NamedTuple):
    """What all spans of a way there and back read, and where they write."""

    sizes: Sizes
    head: str
    weights: Mapping[str, Any]  # by group of layers, as `fold` gives them
    before: Array  # states ((2 S1 + 2 S2) P,), chunk by chunk
    a_state: Array  # the same of the cotangents after the steps, which become those before
    a_features: Array | None  # (F, P), filled, if given; for a single step
    outputs: Array | None  # (P,), filled with what the head makes of the outputs, if given; the same

    @property
    def n_rows(self) -> int:
        """Rows of hidden states and cells."""
        return 2 * self.sizes.n_hidden


def there_and_back(way: Way, span: Span, features: Array, a_heads: Array, space: Fresh) -> Iterator[Weights]:
    """Make T steps on each chunk of ``span``, go back, and yield the cotangents of its weights.

    Parameters
    ----------
    features
        (T, F, n) of the span.
    a_heads
        (T, n), the cotangents of what the head makes of the outputs.
    """
    go = _in_loops if compiled_for(way.before) else _with_tapes
    return go(way, span, features, a_heads, space)


def _with_tapes(way: Way, span: Span, features: Array, a_heads: Array, space: Fresh) -> Iterator[Weights]:
    kernels, adjoint = twin(lstm, way.before), twin(lstm_adjoint, way.before)
    for chunk, tape in tapes(way.sizes, span, len(features), way.before, space):
        inside, weights, a_outputs = span.place(chunk), way.weights[chunk.group], []
        kernels.begin(way.sizes, tape, chunk.of(way.before, way.n_rows))
        for t, a_head in enumerate(a_heads):
            tape.features(t)[...] = features[t, :, inside]
            output = kernels.advance(weights, tape, t)
            a_outputs.append(_head_adjoint(way.head, output, a_head[inside]))
        if way.outputs is not None:
            way.outputs[chunk.coordinates] = headed(way.head, output)
        a_features = None if way.a_features is None else way.a_features[None, :, chunk.coordinates]
        a_state = chunk.of(way.a_state, way.n_rows)
        yield adjoint.reverse(way.sizes, weights, tape, a_outputs, a_state, space, a_features)


def _in_loops(way: Way, span: Span, features: Array, a_heads: Array, space: Fresh) -> Iterator[Weights]:
    loops, none = compiled_for(way.before), np.empty((0, 1, 0), way.before.dtype)
    scratch = space.empty("steps", (loops.scratch_of_steps(way.sizes, len(features)),), way.before)
    wanted = (none[:, 0], none)
    if way.outputs is not None and way.a_features is not None:
        wanted = (way.outputs[None], way.a_features[None])
    for chunk in span.chunks:
        weights, is_tanh = way.weights[chunk.group], way.head == "tanh"
        columns = (span.place(chunk).start, chunk.coordinates.start)
        states = (chunk.of(of_all, way.n_rows) for of_all in (way.before, way.a_state))
        yield Weights(
            *loops.there_and_back(weights, features, a_heads, is_tanh, *columns, *states, *wanted, scratch)
        )


def _head_adjoint(head: str, output: Array, a_head: Array) -> Array:
    if head == "linear":
        return a_head
    return a_head * (1.0 - array_module(output).tanh(output) ** 2)
