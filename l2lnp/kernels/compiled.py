"""The LSTM's cell and its adjoint as one loop each, compiled by Numba: `cell` and `cell_adjoint`.

What `l2lnp.kernels.lstm` and `l2lnp.kernels.lstm_adjoint` do in some twenty passes of NumPy over arrays in
float32 is one here, so that memory is read and written once. And NumPy's tanh is slow on processors without
AVX-512; here it is a quotient of polynomials,

    tanh(x) = x P(x^2) / Q(x^2)      |x| <= 9, where tanh is 1 but for 3e-8,

with P and Q of degree 4, P(0) = Q(0) = 1, fitted for the least largest relative error (2.1e-8) on that range.
In float32 it is within 6 units in the last place. Beyond the range x counts as 9 or -9; NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from l2lnp.backend import Array

F = TypeVar("F", bound=Callable[..., Any])

_P1, _P2, _P3, _P4 = map(np.float32, (0.13381025, 0.0034955875, 2.0609072e-05, 1.335465e-08))
_Q1, _Q2, _Q3, _Q4 = map(np.float32, (0.4671434, 0.02587698, 0.00032856338, 7.776553e-07))
_LIMIT, _HALF, _ONE, _TWO = map(np.float32, (9.0, 0.5, 1.0, 2.0))


def _compiled(function: F) -> F:
    """Compile at the first call, free of Python's lock; keep the result on disk where there is a place."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
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
def cell(gates: Array, before: Array, after: Array, tanh_after: Array, hidden: Array) -> None:
    """Do what `l2lnp.kernels.lstm.cell` does."""
    s, n = tanh_after.shape
    for unit in range(s):
        i, f, o, new = gates[unit], gates[s + unit], gates[2 * s + unit], gates[3 * s + unit]
        c, c_after, t, h = before[unit], after[unit], tanh_after[unit], hidden[unit]
        for k in range(n):
            i_k, f_k, o_k, n_k = _ONE + tanh(i[k]), _ONE + tanh(f[k]), _ONE + tanh(o[k]), tanh(new[k])
            c_k = _HALF * (f_k * c[k] + i_k * n_k)
            t_k = tanh(c_k)
            i[k], f[k], o[k], new[k] = i_k, f_k, o_k, n_k
            c_after[k], t[k], h[k] = c_k, t_k, o_k * t_k


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
