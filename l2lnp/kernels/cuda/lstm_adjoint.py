"""`l2lnp.kernels.lstm_adjoint` in CUDA: gates are computed again, one kernel a layer.

The kernels give the cotangents of the pre-activations; those of the weights are sums over all
coordinates, matrix products with what the gates read::

    a_w = a_gates [inputs; hidden; 1]^T
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import lstm
from l2lnp.kernels.cuda import blocks, check, launch, row_stride
from l2lnp.kernels.cuda.lstm import Tape, Tiling, Weights, addresses, lstm_kernel, structure
from l2lnp.kernels.lstm import Sizes
from l2lnp.workspace import Fresh

_NULL = np.uintp(0)
_THREADS = 128


def reverse(
    sizes: Sizes,
    weights: Weights,
    tape: Tape,
    a_outputs: Sequence[Array],
    a_state: Array,
    space: Fresh,
    a_features: Array | None = None,
) -> lstm.Weights:
    """Return the cotangents a.w1 (4 S1, F + S1 + 1), a.w2 (4 S2, S1 + S2 + 1), a.w3 (S2 + 1,).

    The arguments are those of the twin; ``a_state`` is changed in place.
    """
    xp, f, (s1, s2) = array_module(a_state), sizes.n_features, sizes.n_units
    n, n_hidden, dtype = a_state.shape[1], sizes.n_hidden, a_state.dtype
    a_gates1, a_gates2 = (space.empty(("a_gates", i), (4 * s, n), a_state) for i, s in enumerate((s1, s2)))
    tiling = Tiling(columns=1, parts=1, threads=_THREADS)
    first, second = (
        lstm_kernel(xp, f"lstm_reverse_{layer}", sizes, dtype, **tiling.defines())
        for layer in ("first", "second")
    )
    there = structure(addresses(weights))
    a = lstm.Weights(
        xp.zeros((4 * s1, f + s1 + 1), dtype),
        xp.zeros((4 * s2, n_hidden + 1), dtype),
        xp.zeros(s2 + 1, dtype),
    )
    grid = blocks(n, _THREADS), _THREADS
    for t in reversed(range(len(tape.x))):
        x, before, after, a_output = tape.x[t], tape.states[t], tape.states[t + 1], a_outputs[t]
        check(dtype, a_output=(a_output, (n,)), before=(before, a_state.shape), after=(after, a_state.shape))
        a_output = xp.ascontiguousarray(a_output)
        states = before, row_stride(before), after, row_stride(after)
        of_state = a_state, row_stride(a_state)
        a_x = (_NULL, 0) if a_features is None else (a_features[t], row_stride(a_features[t]))
        launch(second, *grid, there, *states, a_output, *of_state, a_gates2, n)
        launch(first, *grid, there, x, row_stride(x), *states, *of_state, a_gates1, *a_x, n)
        _add_products(a.w1, a_gates1, x, before[:s1])
        _add_products(a.w2, a_gates2, after[:s1], before[s1:n_hidden])
        _add_products(a.w3[None], a_output[None], after[s1:n_hidden])
    return a


def _add_products(total: Array, a: Array, *inputs: Array) -> None:
    """total += a [inputs; 1]^T, the inputs one above the other."""
    start = 0
    for x in inputs:
        total[:, start : start + len(x)] += a @ x.T
        start += len(x)
    total[:, start] += a.sum(1)
