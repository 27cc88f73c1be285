"""The coordinatewise LSTM in loops compiled by Numba: its cell, a step, and several steps there and back.

What `l2lnp.kernels.lstm` and `l2lnp.kernels.lstm_adjoint` do in passes of NumPy over arrays in float32 are
loops over units here, so that memory is read and written once. A step over a chunk, or several there and
back, are one call, free of Python's lock, so that threads do not wait for each other. Products are BLAS's,
through Numba's ``np.dot``. No bounds are checked: shapes are the caller's care.

NumPy's tanh is slow on processors without AVX-512; here it is a quotient of polynomials,

    tanh(x) = x P(x^2) / Q(x^2)      |x| <= 9, where tanh is 1 but for 3e-8,

with P and Q of degree 4, P(0) = Q(0) = 1, fitted for the least largest relative error (2.1e-8) on that range.
In float32 it is within 6 units in the last place. Beyond the range x counts as 9 or -9; NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

from l2lnp.backend import Array
from l2lnp.kernels.lstm import Sizes, Weights

F = TypeVar("F", bound=Callable[..., Any])

# Coordinates of a product, so few that BLAS does not pack them first. A number of this file's own, since what
# Numba keeps on disk goes by the file.
PIECE = 256

_P1, _P2, _P3, _P4 = map(np.float32, (0.13381025, 0.0034955875, 2.0609072e-05, 1.335465e-08))
_Q1, _Q2, _Q3, _Q4 = map(np.float32, (0.4671434, 0.02587698, 0.00032856338, 7.776553e-07))
_LIMIT, _HALF, _ONE, _TWO = map(np.float32, (9.0, 0.5, 1.0, 2.0))


def _compiled(function: F) -> F:
    """Compile at the first call, free of Python's lock; keep the result on disk where there is a place."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "no_cfunc_wrapper": True}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        compiled = numba.njit(**options)(function)
    return compiled


@_compiled
def tanh(x: Any) -> Any:
    """Return tanh(x) of a float32."""
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    z = x * x
    p = (((_P4 * z + _P3) * z + _P2) * z + _P1) * z + _ONE
    q = (((_Q4 * z + _Q3) * z + _Q2) * z + _Q1) * z + _ONE
    return x * p / q


@_compiled
def _unit(
    i: Array, f: Array, o: Array, new: Array, c: Array, c_after: Array, tanh_after: Array, hidden: Array
) -> None:
    """Do what `cell` does for one unit, on rows (n,)."""
    for k in range(len(hidden)):
        i_k, f_k, o_k, n_k = _ONE + tanh(i[k]), _ONE + tanh(f[k]), _ONE + tanh(o[k]), tanh(new[k])
        c_k = _HALF * (f_k * c[k] + i_k * n_k)
        t_k = tanh(c_k)
        i[k], f[k], o[k], new[k] = i_k, f_k, o_k, n_k
        c_after[k], tanh_after[k], hidden[k] = c_k, t_k, o_k * t_k


@_compiled
def cell(gates: Array, before: Array, after: Array, tanh_after: Array, hidden: Array) -> None:
    """Do what `l2lnp.kernels.lstm.cell` does."""
    s = len(hidden)
    for u in range(s):
        i, f, o, new = gates[u], gates[s + u], gates[2 * s + u], gates[3 * s + u]
        _unit(i, f, o, new, before[u], after[u], tanh_after[u], hidden[u])


@_compiled
def cell_adjoint(
    gates: Array,
    before: Array,
    tanh_after: Array,
    hidden: Array,
    a_hidden: Array,
    a_cell: Array,
    a_gates: Array,
) -> None:
    """Do what `l2lnp.kernels.lstm_adjoint.cell_adjoint` does."""
    s, n = tanh_after.shape
    for unit in range(s):
        i, f, o, new = gates[unit], gates[s + unit], gates[2 * s + unit], gates[3 * s + unit]
        a_i, a_f, a_o, a_n = a_gates[unit], a_gates[s + unit], a_gates[2 * s + unit], a_gates[3 * s + unit]
        c, t, h, a_h, a_c = before[unit], tanh_after[unit], hidden[unit], a_hidden[unit], a_cell[unit]
        for k in range(n):
            b = _HALF * (a_c[k] + (o[k] - t[k] * h[k]) * a_h[k])
            i_n = i[k] * new[k]
            a_o[k] = (_TWO - o[k]) * h[k] * a_h[k]
            a_i[k] = (_TWO - i[k]) * i_n * b
            a_n[k] = (i[k] - new[k] * i_n) * b
            a_c[k] = f[k] * b
            a_f[k] = (_TWO - f[k]) * c[k] * a_c[k]


@_compiled
def step(
    w: Weights, features: Array, first: int, before: Array, after: Array, output: Array, scratch: Array
) -> None:
    """Make a step over a chunk of n coordinates: `begin`, `advance` and `end` of `l2lnp.kernels.lstm`.

    Parameters
    ----------
    features
        (F, at least n); the chunk's begin in column ``first``.
    before, after
        The state (2 S1 + 2 S2, n), and where it will stand after the step.
    output
        (n,), filled.
    scratch
        `scratch_of_step` numbers.
    """
    n = len(output)
    n_whole = n // PIECE * PIECE
    for part in range(2):  # whole pieces, and what is left
        start, m = part * n_whole, n - n_whole if part else PIECE
        if 0 < m <= n - start:
            _step(w, features, first, before, after, output, start, m, scratch)


def scratch_of_step(sizes: Sizes, n: int) -> int:
    """Return how many numbers `step` keeps in between, for ``n`` coordinates."""
    (s1, s2), f = sizes.n_units, sizes.n_features
    return n * (f + 2 * s1 + s2 + 2 + 4 * max(s1, s2) + 1)


@_compiled
def _step(
    w: Weights,
    features: Array,
    first: int,
    before: Array,
    after: Array,
    output: Array,
    start: int,
    m: int,
    scratch: Array,
) -> None:
    """Do what `step` does for the coordinates from ``start`` on, in as many pieces of ``m`` as there are.

    What a product reads and writes stands in one piece (rows, m).
    """
    f, s1, s2 = _sizes(w)
    s, n_pieces = s1 + s2, (len(output) - start) // m
    x1, rest = _cut(scratch, n_pieces, f + s1 + 1, m)
    x2, rest = _cut(rest, n_pieces, s1 + 1 + s2, m)
    x1[:, f + s1], x2[:, s1] = _ONE, _ONE
    _fill(x1, 0, _ONE, features, first + start)
    _fill(x1, f, _TWO, before[:s1], start)
    _fill(x2, s1 + 1, _TWO, before[s1:s], start)
    for layer in range(2):
        units, weights, x = (s1, w.w1, x1) if layer == 0 else (s2, w.w2, x2)
        hidden, cells = layer * s1, s + layer * s1  # first rows of the state
        _layer(
            weights,
            x,
            before[cells:],
            after[cells:],
            after[hidden:],
            start,
            x2,
            layer * (s1 + 1),
            units,
            rest,
        )
    for p in range(n_pieces):
        np.dot(w.w3, x2[p, s1:], output[start + p * m : start + (p + 1) * m].reshape((1, m)))


@_compiled
def _sizes(w: Weights) -> tuple[int, int, int]:
    """Return the rows of features, and the units of both layers."""
    s2 = w.w3.shape[1] - 1
    s1 = w.w2.shape[1] - 1 - s2
    return w.w1.shape[1] - 1 - s1, s1, s2


@_compiled
def _cut(scratch: Array, n: int, n_rows: int, n_columns: int) -> tuple[Array, Array]:
    """Return an array (n, n_rows, n_columns) at the beginning of ``scratch``, and what is left of it."""
    size = n * n_rows * n_columns
    return scratch[:size].reshape((n, n_rows, n_columns)), scratch[size:]


@_compiled
def _fill(pieces: Array, row: int, factor: Any, values: Array, column: int) -> None:
    """Fill the rows of ``pieces`` (pieces, rows, m) from ``row`` on with ``factor`` times ``values``."""
    n_pieces, _, m = pieces.shape
    for u in range(len(values)):
        for p in range(n_pieces):
            piece, value = pieces[p, row + u], values[u, column + p * m : column + (p + 1) * m]
            for k in range(m):
                piece[k] = factor * value[k]


@_compiled
def _layer(
    w: Array,
    x: Array,
    before: Array,
    after: Array,
    hidden: Array,
    column: int,
    doubled: Array,
    row: int,
    s: int,
    scratch: Array,
) -> None:
    """Do a layer of `step`: its product, its cells' way to ``after``, and its hidden state.

    The doubled hidden state goes to the rows of ``doubled`` from ``row`` on.
    """
    n_pieces, _, m = x.shape
    gates, rest = _cut(scratch, n_pieces, 4 * s, m)
    tanh_after = rest[:m]
    for p in range(n_pieces):
        np.dot(w, x[p], gates[p])
    for u in range(s):
        for p in range(n_pieces):
            here = slice(column + p * m, column + (p + 1) * m)
            i, f, o, new = gates[p, u], gates[p, s + u], gates[p, 2 * s + u], gates[p, 3 * s + u]
            h, h_after = doubled[p, row + u], hidden[u, here]
            _unit(i, f, o, new, before[u, here], after[u, here], tanh_after, h)
            for k in range(m):
                h_after[k] = _HALF * h[k]


class _Tape(NamedTuple):
    """`l2lnp.kernels.lstm.Tape` over m coordinates, and the outputs (T, 1, m)."""

    x1: Array
    x2: Array
    gates1: Array
    gates2: Array
    tanh1: Array
    tanh2: Array
    cells1: Array
    cells2: Array
    outputs: Array


@_compiled
def _tape(scratch: Array, n_steps: int, f: int, s1: int, s2: int, m: int) -> _Tape:
    x1, rest = _cut(scratch, n_steps, f + s1 + 1, m)
    x2, rest = _cut(rest, n_steps + 1, s1 + 1 + s2, m)
    gates1, rest = _cut(rest, n_steps, 4 * s1, m)
    gates2, rest = _cut(rest, n_steps, 4 * s2, m)
    tanh1, rest = _cut(rest, n_steps, s1, m)
    tanh2, rest = _cut(rest, n_steps, s2, m)
    cells1, rest = _cut(rest, n_steps + 1, s1, m)
    cells2, rest = _cut(rest, n_steps + 1, s2, m)
    x1[:, f + s1], x2[:, s1] = _ONE, _ONE
    return _Tape(x1, x2, gates1, gates2, tanh1, tanh2, cells1, cells2, _cut(rest, n_steps, 1, m)[0])


def scratch_of_steps(sizes: Sizes, n_steps: int) -> int:
    """Return how many numbers `there_and_back` keeps in between, at most."""
    (s1, s2), f = sizes.n_units, sizes.n_features
    return PIECE * (n_steps + 1) * (f + 8 * s1 + 7 * s2 + 3)


@_compiled
def there_and_back(
    w: Weights,
    features: Array,
    a_outputs: Array,
    is_tanh: bool,
    first: int,
    at: int,
    before: Array,
    a_state: Array,
    outputs: Array,
    a_features: Array,
    scratch: Array,
) -> tuple[Array, Array, Array]:
    """Make T steps over a chunk of n coordinates, go back, and return the cotangents of the weights.

    This is what `l2lnp.kernels.lstm.advance` and `l2lnp.kernels.lstm_adjoint.reverse` do with a tape, in
    pieces of `PIECE` coordinates.

    Parameters
    ----------
    features, a_outputs
        (T, F, at least n) and (T, at least n); the chunk's begin in column ``first``. The cotangents are
        those of tanh of the outputs if ``is_tanh``, else of the outputs.
    before, a_state
        The state (2 S1 + 2 S2, n) before the steps, and the cotangent of that after them, which becomes
        that of the state before.
    outputs, a_features
        (T, at least n) and (T, F, at least n), filled from the column ``at`` on: the outputs, or tanh of
        them, and the cotangents of the features. Of length 0 where nobody wants them.
    scratch
        `scratch_of_steps` numbers.
    """
    f, s1, s2 = _sizes(w)
    n_steps, n, s, is_wanted = len(features), a_state.shape[1], s1 + s2, len(a_features) > 0
    a1, a2, a3 = np.zeros_like(w.w1), np.zeros_like(w.w2), np.zeros_like(w.w3)
    part1, part2, part3 = np.empty_like(w.w1), np.empty_like(w.w2), np.empty_like(w.w3)
    n_unread = 0 if is_wanted else f  # rows of x1 whose cotangents nobody reads
    to_x1 = np.ascontiguousarray(w.w1[:, n_unread : f + s1].T)
    to_hidden1, to_hidden2 = np.ascontiguousarray(w.w2[:, :s1].T), np.ascontiguousarray(w.w2[:, s1 + 1 :].T)
    for start in range(0, n, PIECE):
        m = min(PIECE, n - start)
        tape = _tape(scratch, n_steps, f, s1, s2, m)  # there
        x1, x2, gates1, gates2, tanh1, tanh2, cells1, cells2, outs = tape
        _take(before[:s1], start, _TWO, x1[0, f : f + s1])
        _take(before[s1:s], start, _TWO, x2[0, s1 + 1 :])
        _take(before[s : s + s1], start, _ONE, cells1[0])
        _take(before[s + s1 :], start, _ONE, cells2[0])
        for t in range(n_steps):
            _take(features[t], first + start, _ONE, x1[t, :f])
            if t > 0:
                _take(x2[t - 1, :s1], 0, _ONE, x1[t, f : f + s1])
            np.dot(w.w1, x1[t], gates1[t])
            cell(gates1[t], cells1[t], cells1[t + 1], tanh1[t], x2[t, :s1])
            np.dot(w.w2, x2[t], gates2[t])
            cell(gates2[t], cells2[t], cells2[t + 1], tanh2[t], x2[t + 1, s1 + 1 :])
            np.dot(w.w3, x2[t + 1, s1:], outs[t])

        a_hidden1, a_hidden2 = np.empty((s1, m), np.float32), np.empty((s2, m), np.float32)  # and back
        a_cell1, a_cell2 = np.empty((s1, m), np.float32), np.empty((s2, m), np.float32)
        a_gates1, a_gates2 = np.empty((4 * s1, m), np.float32), np.empty((4 * s2, m), np.float32)
        a_x1, from_gates2 = np.empty((len(to_x1), m), np.float32), np.empty((s1, m), np.float32)
        a_out = np.empty((1, m), np.float32)
        _take(a_state[:s1], start, _HALF, a_hidden1)
        _take(a_state[s1:s], start, _HALF, a_hidden2)
        _take(a_state[s : s + s1], start, _ONE, a_cell1)
        _take(a_state[s + s1 :], start, _ONE, a_cell2)
        for t in range(n_steps - 1, -1, -1):
            _head_adjoint(is_tanh, outs[t, 0], a_outputs[t, first + start : first + start + m], a_out[0])
            np.dot(a_out, x2[t + 1, s1:].T, part3)
            _add(a3, part3)
            for u in range(s2):
                a_h, weight = a_hidden2[u], w.w3[0, 1 + u]
                for k in range(m):
                    a_h[k] += weight * a_out[0, k]
            cell_adjoint(gates2[t], cells2[t], tanh2[t], x2[t + 1, s1 + 1 :], a_hidden2, a_cell2, a_gates2)
            np.dot(a_gates2, x2[t].T, part2)
            _add(a2, part2)
            np.dot(to_hidden1, a_gates2, from_gates2)
            _add(a_hidden1, from_gates2)
            np.dot(to_hidden2, a_gates2, a_hidden2)
            cell_adjoint(gates1[t], cells1[t], tanh1[t], x2[t, :s1], a_hidden1, a_cell1, a_gates1)
            np.dot(a_gates1, x1[t].T, part1)
            _add(a1, part1)
            np.dot(to_x1, a_gates1, a_x1)
            _take(a_x1[f - n_unread :], 0, _ONE, a_hidden1)
            if is_wanted:
                _give(outs[t], _ONE, outputs[t : t + 1], at + start)
                _give(a_x1[:f], _ONE, a_features[t], at + start)
        _give(a_hidden1, _TWO, a_state[:s1], start)
        _give(a_hidden2, _TWO, a_state[s1:s], start)
        _give(a_cell1, _ONE, a_state[s : s + s1], start)
        _give(a_cell2, _ONE, a_state[s + s1 :], start)
    return a1, a2, a3


@_compiled
def _take(values: Array, column: int, factor: Any, into: Array) -> None:
    """Fill ``into`` (rows, m) with ``factor`` times ``values`` (rows, at least m) from ``column`` on."""
    for u in range(len(into)):
        for k in range(into.shape[1]):
            into[u, k] = factor * values[u, column + k]


@_compiled
def _give(values: Array, factor: Any, into: Array, column: int) -> None:
    """Write ``factor`` times ``values`` (rows, m) to ``into`` (rows, at least m) from ``column`` on."""
    for u in range(len(values)):
        for k in range(values.shape[1]):
            into[u, column + k] = factor * values[u, k]


@_compiled
def _add(total: Array, part: Array) -> None:
    for u in range(len(total)):
        for k in range(total.shape[1]):
            total[u, k] += part[u, k]


@_compiled
def _head_adjoint(is_tanh: bool, output: Array, a_output: Array, a: Array) -> None:
    """Fill ``a`` with the cotangents of ``output``, which becomes what the head makes of it; all (m,)."""
    for k in range(len(output)):
        output[k] = tanh(output[k]) if is_tanh else output[k]
        a[k] = a_output[k] * (_ONE - output[k] * output[k]) if is_tanh else a_output[k]
