"""`l2lnp.kernels.lstm` in CUDA: a step of both layers is one kernel, and a tape keeps states alone.

Weights are packed for the kernels: for each unit and each of its inputs the four gates side
by side, the bias last. Nothing is doubled or halved here; the gates' equations stand in
``lstm.cu``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, row_stride
from l2lnp.kernels.lstm import Sizes, Weights
from l2lnp.workspace import Fresh

THREADS = 128  # as in lstm.cu
_MOST_SHARED_BYTES = 47 << 10  # of a block; on every device there are 48, and other things need a little
_MANY = 1 << 16  # coordinates from which on a thread takes two, so that it reads weights half as often


@dataclass
class Tape:
    """The features (T, F, n) of T steps over n coordinates, and T + 1 states (2 S1 + 2 S2, n)."""

    sizes: Sizes
    x: Array
    space: Fresh
    states: list[Array] = field(default_factory=list)

    def features(self, t: int) -> Array:
        """Return the rows (F, n) that the caller fills before step ``t``."""
        return self.x[t]


def fold(canonical: Mapping[str, Array]) -> Weights:
    """Return packed weights, w1 (S1, F + S1 + 1, 4), w2 (S2, S1 + S2 + 1, 4) and w3 (S2 + 1,)."""
    w1, b1, w2, b2, w3, b3 = (canonical[name] for name in Sizes(0, (0, 0)).shapes())
    return Weights(_packed(w1, b1), _packed(w2, b2), array_module(w3).concatenate([w3[0], b3]))


def _packed(w: Array, b: Array) -> Array:
    xp = array_module(w, b)
    with_bias = xp.concatenate([w, b[:, None]], axis=1)
    return xp.ascontiguousarray(with_bias.reshape(4, -1, with_bias.shape[1]).transpose(1, 2, 0))


def unfold(a: Weights) -> dict[str, Array]:
    """Return the cotangents of the canonical weights from what `reverse` returns."""
    return {
        "lstm1/w": a.w1[:, :-1],
        "lstm1/b": a.w1[:, -1],
        "lstm2/w": a.w2[:, :-1],
        "lstm2/b": a.w2[:, -1],
        "head/w": a.w3[None, :-1],
        "head/b": a.w3[-1:],
    }


def blank_tape(sizes: Sizes, n_steps: int, n: int, like: Array, space: Fresh, is_kept: bool = True) -> Tape:
    """Return a tape for ``n_steps`` steps over ``n`` coordinates; kept or not, it holds states alone."""
    return Tape(sizes, space.empty("x", (n_steps, sizes.n_features, n), like), space)


def begin(sizes: Sizes, tape: Tape, state: Array, after: Array | None = None) -> None:
    """Start at ``state`` (2 S1 + 2 S2, n); the state after the last step is written to ``after`` if given."""
    n_steps = len(tape.x)
    n_new = n_steps if after is None else n_steps - 1
    new = [tape.space.empty(("state", t), state.shape, state) for t in range(n_new)]
    tape.states = [state, *new] if after is None else [state, *new, after]


def advance(weights: Weights, tape: Tape, t: int) -> Array:
    """Run step ``t``, whose features stand in the tape, and return the output (n,)."""
    x, before, after = tape.x[t], tape.states[t], tape.states[t + 1]
    n, xp = x.shape[1], array_module(x, before, after, *weights)
    n_rows = 2 * tape.sizes.n_hidden
    check(x.dtype, before=(before, (n_rows, n)), after=(after, (n_rows, n)), **expected(tape.sizes, weights))
    output, n_columns = xp.empty(n, x.dtype), columns_of_thread(n, x.dtype)
    launch(
        lstm_kernel(xp, "lstm_step", tape.sizes, x.dtype, n_columns),
        blocks(n, THREADS * n_columns),
        THREADS,
        *weights,
        *(part for a in (x, before, after) for part in (a, row_stride(a))),
        output,
        n,
    )
    return output


def end(sizes: Sizes, tape: Tape, after: Array) -> None:
    """Do nothing: the kernel has written the whole state."""


def columns_of_thread(n: int, dtype: np.dtype) -> int:
    """Return how many of ``n`` coordinates a thread takes in a step."""
    return 2 if n >= _MANY and dtype == np.float32 else 1


def lstm_kernel(
    xp: ModuleType, name: str, sizes: Sizes, dtype: np.dtype, n_columns: int = 1, **defines: int | str
) -> Callable[..., None]:
    """Return a kernel of ``lstm.cu``, or of ``lstm_update.cu``, compiled for ``sizes`` and ``defines``."""
    f, (s1, s2) = sizes.n_features, sizes.n_units
    n_weights = 4 * (s1 * (f + s1 + 1) + s2 * (s1 + s2 + 1))
    shared = int(n_weights * np.dtype(dtype).itemsize <= _MOST_SHARED_BYTES)
    file = "lstm_update.cu" if name == "lstm_update" else "lstm.cu"
    own = {"F": f, "S1": s1, "S2": s2, "COLUMNS": n_columns, "SHARED": shared}
    return kernel(xp, file, name, dtype, **own, **defines)


def expected(sizes: Sizes, weights: Weights) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """Return packed weights beside their shapes, to be checked."""
    f, (s1, s2) = sizes.n_features, sizes.n_units
    shapes = (s1, f + s1 + 1, 4), (s2, s1 + s2 + 1, 4), (s2 + 1,)
    return dict(zip(("w1", "w2", "w3"), zip(weights, shapes, strict=True), strict=True))
