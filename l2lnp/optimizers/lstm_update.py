"""A step of the learned optimizer over a span of coordinates: features, both layers, head, and the new theta.

    x         = features(g, h, loss, moving averages)
    o, state' = LSTM(state, x)
    u         = factor unit o    or    factor unit tanh(o)
    theta'    = kept theta + u                      where theta is given

Here one array pass follows the other; the twin for CuPy's arrays, in `l2lnp.kernels.cuda`, is one kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from l2lnp.backend import Array, array_module
from l2lnp.kernels import compiled_for, lstm, twin
from l2lnp.kernels.lstm import Sizes, Tape
from l2lnp.optimizers.base import Inputs, moved
from l2lnp.optimizers.chunks import Chunk, Span
from l2lnp.optimizers.preprocessing import Preprocessing, Statistics
from l2lnp.optimizers.signals import Segments
from l2lnp.scalars import Scalar, like
from l2lnp.workspace import Fresh


class Step(NamedTuple):
    """What a step over all coordinates reads, and where it writes."""

    sizes: Sizes
    preprocessing: Preprocessing
    head: str
    weights: Mapping[str, Any]  # by group of layers, as `fold` gives them
    t: Scalar  # from 1
    inputs: Inputs
    moments: Array  # (n_moments, P) after the step
    statistics: Statistics
    tensors: Segments  # all of them
    factor: Scalar  # of all updates
    units: Array | None  # (n_tensors,) in which steps are measured, or None: 1
    kept: Scalar
    theta: Array | None  # (P,) before the step
    before: Array  # states ((2 S1 + 2 S2) P,), chunk by chunk
    after: Array
    result: Array  # (P,): theta after the step, or u where no theta is given

    @property
    def n_rows(self) -> int:
        """Rows of hidden states and cells."""
        return 2 * self.sizes.n_hidden


def update(step: Step, span: Span, space: Fresh) -> None:
    """Make ``step`` on the coordinates of ``span``: fill in its ``after`` and ``result``."""
    here, inputs, kernels = span.coordinates, span.of(step.inputs), twin(lstm, step.result)
    rows = space.empty("features", (step.sizes.n_features, span.n), step.result)
    moments = step.moments[:, here]
    step.preprocessing.fill(rows, moments, step.t, inputs, step.statistics, span.tensors)
    output = step.result[here]
    if loops := compiled_for(output):
        for chunk in span.chunks:
            inside, states = span.place(chunk), (chunk.of(a, step.n_rows) for a in (step.before, step.after))
            scratch = space.empty("step", (loops.scratch_of_step(step.sizes, chunk.n),), output)
            loops.step(step.weights[chunk.group], rows, inside.start, *states, output[inside], scratch)
    else:
        for chunk, tape in tapes(step.sizes, span, 1, step.result, space, is_kept=False):
            after = chunk.of(step.after, step.n_rows)
            kernels.begin(step.sizes, tape, chunk.of(step.before, step.n_rows), after)
            tape.features(0)[...] = rows[:, span.place(chunk)]
            output[span.place(chunk)] = kernels.advance(step.weights[chunk.group], tape, 0)
            kernels.end(step.sizes, tape, after)
    scales = scales_of(step.factor, step.units, output, len(step.tensors.sizes))
    u = span.tensors.spread(scales) * headed(step.head, output)
    output[...] = u if step.theta is None else moved(step.theta[here], step.kept, u)


def scales_of(factor: Scalar, units: Array | None, a: Array, n_tensors: int) -> Array:
    """Return what outputs are multiplied by for each tensor, (n_tensors,) of the dtype of ``a``."""
    return like(factor, a) * (array_module(a).ones(n_tensors, a.dtype) if units is None else units)


def headed(head: str, output: Array) -> Array:
    """Return what the LSTM's ``output`` means, before it is scaled."""
    return output if head == "linear" else array_module(output).tanh(output)


def tapes(
    sizes: Sizes, span: Span, n_steps: int, a: Array, space: Fresh, is_kept: bool = True
) -> Iterator[tuple[Chunk, Tape]]:
    """Yield each chunk of ``span`` with a tape; chunks of the same size use the same."""
    n = 0
    for chunk in span.chunks:
        if chunk.n != n:
            n = chunk.n
            tape = twin(lstm, a).blank_tape(sizes, n_steps, n, a, space, is_kept)
        yield chunk, tape
