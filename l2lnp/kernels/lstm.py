"""The coordinatewise two-layer LSTM: one step over a chunk of coordinates, and its reverse.

Every coordinate runs the same small LSTM, so a chunk of n coordinates is one batch of
columns. What a product reads stands in consecutive rows, biases ride on a row of ones::

    gates1 = w1 [features; hidden1; 1]      w1 (4 S1, F + S1 + 1)
    gates2 = w2 [hidden1'; 1; hidden2]      w2 (4 S2, S1 + 1 + S2)
    output = w3 [1; hidden2']               w3 (1, 1 + S2)

sigmoid(a) = (1 + tanh(a / 2)) / 2: the inner halves are folded into the weights, so one
tanh serves all four gates, and the outer half of the output gate is left away, so the
hidden states in these blocks are doubled; weights that read them are halved. `fold` makes such
derived weights from the canonical ones, and `unfold` takes their cotangents back.

The functions run on NumPy and CuPy arrays, float32 and float64. Where Numba is installed,
`l2lnp.kernels.compiled` does the same for NumPy's in float32.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.workspace import Fresh

BLOCK = 256  # columns that BLAS multiplies by a gate matrix without packing them first


class Weights(NamedTuple):
    """Derived weights, or their cotangents."""

    w1: Array  # (4 S1, F + S1 + 1)
    w2: Array  # (4 S2, S1 + 1 + S2)
    w3: Array  # (1, 1 + S2)


@dataclass(frozen=True)
class Sizes:
    """Rows of features, units of the first and of the second layer."""

    n_features: int
    n_units: tuple[int, int]

    @property
    def n_hidden(self) -> int:
        """Units of both layers: the rows of hidden states, and of cells."""
        return sum(self.n_units)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the canonical weights by path."""
        s1, s2 = self.n_units
        return {
            "lstm1/w": (4 * s1, self.n_features + s1),
            "lstm1/b": (4 * s1,),
            "lstm2/w": (4 * s2, s1 + s2),
            "lstm2/b": (4 * s2,),
            "head/w": (1, s2),
            "head/b": (1,),
        }


def fold(canonical: Mapping[str, Array]) -> Weights:
    """Return derived weights from canonical ones (`Sizes.shapes`); gates in the order i, f, o, n."""
    w1, b1, w2, b2, w3, b3 = (canonical[name] for name in Sizes(0, (0, 0)).shapes())
    xp = array_module(w1)
    s1, s2 = w1.shape[0] // 4, w3.shape[1]
    f = w1.shape[1] - s1
    folded = Weights(
        xp.concatenate([w1, b1[:, None]], axis=1),
        xp.concatenate([w2[:, :s1], b2[:, None], w2[:, s1:]], axis=1),
        xp.concatenate([b3[:, None], w3], axis=1),
    )
    for of_hidden in (folded.w1[:, f:-1], folded.w2[:, :s1], folded.w2[:, s1 + 1 :], folded.w3[:, 1:]):
        of_hidden *= 0.5
    for of_sigmoids in (folded.w1[: 3 * s1], folded.w2[: 3 * s2]):
        of_sigmoids *= 0.5
    return folded


def unfold(a: Weights) -> dict[str, Array]:
    """Return the cotangents of the canonical weights from those of the derived: the adjoint of `fold`."""
    s2 = a.w3.shape[1] - 1
    s1 = a.w2.shape[1] - 1 - s2
    f = a.w1.shape[1] - 1 - s1
    xp = array_module(a.w1)
    w1, w2 = _gate_halves(a.w1, s1) * a.w1, _gate_halves(a.w2, s2) * a.w2
    return {
        "lstm1/w": xp.concatenate([w1[:, :f], 0.5 * w1[:, f:-1]], axis=1),
        "lstm1/b": w1[:, -1],
        "lstm2/w": 0.5 * xp.concatenate([w2[:, :s1], w2[:, s1 + 1 :]], axis=1),
        "lstm2/b": w2[:, s1],
        "head/w": 0.5 * a.w3[:, 1:],
        "head/b": a.w3[:, 0],
    }


def _gate_halves(like: Array, n_units: int) -> Array:
    """Return 1/2 for the rows of the gates i, f, o and 1 for those of n, as a column."""
    halves = array_module(like).full((4 * n_units, 1), 0.5, like.dtype)
    halves[3 * n_units :] = 1.0
    return halves


@dataclass
class Tape:
    """The arrays of T steps over a chunk of n coordinates, by step; T + 1 of x2 and of the cells."""

    x1: list[Array]  # (F + S1 + 1, n): features, hidden1 before the step, 1
    x2: list[Array]  # (S1 + 1 + S2, n): hidden1 after the step, 1, hidden2 before it
    gates1: list[Array]  # (4 S1, n): 2 i, 2 f, 2 o, n
    gates2: list[Array]  # (4 S2, n)
    tanh1: list[Array]  # (S1, n): tanh of the cells after the step
    tanh2: list[Array]  # (S2, n)
    cells1: list[Array]  # (S1, n): cells before the step
    cells2: list[Array]

    def features(self, t: int) -> Array:
        """Return the rows (F, n) that the caller fills before step ``t``."""
        return self.x1[t][: len(self.x1[t]) - 1 - len(self.tanh1[t])]


def blank_tape(sizes: Sizes, n_steps: int, n: int, like: Array, space: Fresh, is_kept: bool = True) -> Tape:
    """Return a tape for ``n_steps`` steps over ``n`` coordinates; it may be used again and again.

    Where it is not kept for `reverse`, later steps and the second layer write over what came before:
    so few arrays stay in cache.
    """
    (s1, s2), f = sizes.n_units, sizes.n_features
    n_kept, second = (n_steps, 2) if is_kept else (1, 1)

    def empty(key: Hashable, rows: int, n_more: int = 0) -> list[Array]:
        arrays = list(space.empty(key, (n_kept + n_more * is_kept, rows, n), like))
        return arrays if is_kept else arrays * (n_steps + n_more)

    tape = Tape(
        empty("x1", f + s1 + 1),
        empty("x2", s1 + 1 + s2, 1),
        empty(("gates", 1), 4 * s1),
        empty(("gates", second), 4 * s2),
        empty(("tanh", 1), s1),
        empty(("tanh", second), s2),
        empty("cells1", s1, 1),
        empty("cells2", s2, 1),
    )
    for x1, x2 in zip(tape.x1, tape.x2, strict=False):
        x1[f + s1] = 1.0
        x2[s1] = 1.0
    tape.x2[-1][s1] = 1.0
    return tape


def begin(sizes: Sizes, tape: Tape, state: Array, after: Array | None = None) -> None:
    """Start at ``state`` = [hidden1; hidden2; cell1; cell2] (2 S1 + 2 S2, n).

    ``after``, if given, is where the state after the last step will stand: its cells are written as
    the tape's, and `end` fills in the rest.
    """
    s1, f = sizes.n_units[0], sizes.n_features
    hidden1, hidden2, tape.cells1[0], tape.cells2[0] = parts(sizes, state)
    if after is not None:
        _, _, tape.cells1[-1], tape.cells2[-1] = parts(sizes, after)
    xp = array_module(state)
    xp.multiply(hidden1, 2.0, out=tape.x1[0][f : f + s1])
    xp.multiply(hidden2, 2.0, out=tape.x2[0][s1 + 1 :])


def parts(sizes: Sizes, state: Array) -> tuple[Array, Array, Array, Array]:
    """Return hidden1, hidden2, cell1, cell2 as views into a state (2 S1 + 2 S2, n)."""
    s1, n_hidden = sizes.n_units[0], sizes.n_hidden
    return state[:s1], state[s1:n_hidden], state[n_hidden : n_hidden + s1], state[n_hidden + s1 :]


def advance(weights: Weights, tape: Tape, t: int) -> Array:
    """Run step ``t``, whose features stand in the tape, and return the output (n,)."""
    s1 = len(tape.tanh1[t])
    hidden1, hidden2 = tape.x2[t][:s1], tape.x2[t + 1][s1 + 1 :]
    product(weights.w1, tape.x1[t], tape.gates1[t])
    cell(tape.gates1[t], tape.cells1[t], tape.cells1[t + 1], tape.tanh1[t], hidden1)
    if t + 1 < len(tape.x1):
        tape.x1[t + 1][-1 - s1 : -1] = hidden1
    product(weights.w2, tape.x2[t], tape.gates2[t])
    cell(tape.gates2[t], tape.cells2[t], tape.cells2[t + 1], tape.tanh2[t], hidden2)
    return (weights.w3 @ tape.x2[t + 1][s1:])[0]


def end(sizes: Sizes, tape: Tape, after: Array) -> None:
    """Fill in the hidden states of ``after``, which `begin` got."""
    xp, s1 = array_module(after), sizes.n_units[0]
    hidden1, hidden2, _, _ = parts(sizes, after)
    xp.multiply(tape.x2[-2][:s1], 0.5, out=hidden1)
    xp.multiply(tape.x2[-1][s1 + 1 :], 0.5, out=hidden2)


def product(w: Array, x: Array, out: Array) -> None:
    """out = w x, on the host in blocks of columns."""
    xp = array_module(w)
    n = x.shape[1] // BLOCK * BLOCK if xp is np else 0
    if n:
        xp.matmul(w, _blocks(x[:, :n]), out=_blocks(out[:, :n]))
    if n < x.shape[1]:
        xp.matmul(w, x[:, n:], out=out[:, n:])


def _blocks(x: Array) -> Array:
    return x.reshape(len(x), -1, BLOCK).swapaxes(0, 1)


def cell(gates: Array, before: Array, after: Array, tanh: Array, hidden: Array) -> None:
    """c' = f c + i n and hidden' = 2 o tanh(c'), from pre-activations that become [2 i; 2 f; 2 o; n]."""
    xp, s = array_module(gates), len(tanh)
    xp.tanh(gates, out=gates)
    gates[: 3 * s] += 1.0
    i, f, o, n = gates.reshape(4, s, -1)
    xp.multiply(f, before, out=after)
    xp.multiply(i, n, out=tanh)
    after += tanh
    after *= 0.5
    xp.tanh(after, out=tanh)
    xp.multiply(o, tanh, out=hidden)
