"""How the coordinates are cut: chunks go through an LSTM together, spans of chunks through the features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from l2lnp.backend import Array
from l2lnp.optimizers.base import Inputs
from l2lnp.optimizers.signals import Segments
from l2lnp.tree import Layout


class Chunk(NamedTuple):
    """Neighbouring coordinates that share one LSTM and go through it together.

    Their part of a state is in one piece, as that of a whole ``block`` of coordinates: an
    array (n_rows P,) holds one block (n_rows, n) after the other.
    """

    group: str
    coordinates: slice
    block: slice  # the chunk itself, unless it was cut from a larger one

    @property
    def n(self) -> int:
        """The number of coordinates."""
        return int(self.coordinates.stop - self.coordinates.start)

    def of(self, state: Array, n_rows: int) -> Array:
        """Return the chunk's part (n_rows, n) of ``state`` (n_rows P,), as a view."""
        block, first = self.block, self.block.start
        rows = state[n_rows * first : n_rows * block.stop].reshape(n_rows, block.stop - first)
        return rows[:, self.coordinates.start - first : self.coordinates.stop - first]

    def cut(self, size: int) -> list[Chunk]:
        """Return the chunk in pieces of at most ``size`` coordinates."""
        start, stop = self.coordinates.start, self.coordinates.stop
        cuts = [*range(start, stop, size), stop]
        return [self._replace(coordinates=slice(*ends)) for ends in pairwise(cuts)]


class Span(NamedTuple):
    """Neighbouring chunks whose features are computed together."""

    chunks: Sequence[Chunk]
    coordinates: slice
    tensors: Segments

    @property
    def n(self) -> int:
        """The number of coordinates."""
        return int(self.coordinates.stop - self.coordinates.start)

    def of(self, inputs: Inputs) -> Inputs:
        """Return this span's part of the inputs."""
        h = None if inputs.h is None else inputs.h[self.coordinates]
        return Inputs(inputs.loss, inputs.g[self.coordinates], h, context=inputs.context)

    def place(self, chunk: Chunk) -> slice:
        """Return where ``chunk`` lies in the span."""
        first = self.coordinates.start
        return slice(chunk.coordinates.start - first, chunk.coordinates.stop - first)


def groups(layout: Layout, per: str) -> dict[int, str]:
    """Return the name of each layer's LSTM: its index (``per="layer"``) or its kind (``per="kind"``)."""
    return {index: str(index) if per == "layer" else kind for index, (kind, _) in layout.layers.items()}


def cut(layout: Layout, per: str, size: int, multiple: int) -> Sequence[Chunk]:
    """Cut the coordinates into chunks of at most ``size``, of even multiples of ``multiple`` but the last."""
    multiple = min(multiple, size)
    name = groups(layout, per)
    runs: list[tuple[str, int, int]] = []
    for index, (_, span) in layout.layers.items():
        if runs and runs[-1][0] == name[index]:
            runs[-1] = (name[index], runs[-1][1], span.stop)
        else:
            runs.append((name[index], span.start, span.stop))
    chunks = []
    for group, start, stop in runs:
        n_chunks = -(-(stop - start) // size)
        even = min(size, -(-(stop - start) // (n_chunks * multiple)) * multiple)
        for first in range(start, stop, even):
            span = slice(first, min(first + even, stop))
            chunks.append(Chunk(group, span, span))
    return chunks


def join(layout: Layout, chunks: Sequence[Chunk], most: int, multiple: int) -> list[Span]:
    """Join at most ``most`` chunks at a time, about as many each time.

    There are a multiple of ``multiple`` spans, or one for each chunk: so many threads share them evenly.
    """
    n_spans = min(len(chunks), -(-len(chunks) // (most * multiple)) * multiple)
    bounds = [len(chunks) * i // n_spans for i in range(n_spans + 1)]
    joined = [chunks[start:stop] for start, stop in pairwise(bounds)]
    ends = [slice(run[0].coordinates.start, run[-1].coordinates.stop) for run in joined]
    return [Span(run, span, Segments.of(layout, span)) for run, span in zip(joined, ends, strict=True)]
