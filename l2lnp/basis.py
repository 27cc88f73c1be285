"""The curvature basis: coordinates along the eigenvectors of the Kronecker factors of the curvature.

A weight is a small tensor with one symmetric matrix M_k, a second moment, for each of its
modes (`l2lnp.layers.base.Layer.moments`). With the eigenvectors Q_k of M_k as columns,

    g' = (Q_0^T x Q_1^T x ...) g          u = (Q_0 x Q_1 x ...) u'

an optimizer that treats every coordinate by itself works along axes between which the loss
is almost uncoupled. Biases are rotated by Q_0, that of their layer's outputs. A mode of
width 1, or wider than a limit, is left alone.

M_k is a moving average over refreshes n = 0, 1, ...; the first Q_k is computed in full and
then follows by one step of orthogonal iteration at each refresh, so that its columns keep
their identity and sign, and what an optimizer remembers of a coordinate stays with it (r = 1: the mean
of all M_new, until b is 0.9; r > 1: the later ones, from weights that have come further, count for more):

    M <- b M + (1 - b) M_new,   b = min(0.9, n/(n + r))
    Q <- qr(M Q)  with diag(R) > 0

Matrices are in dictionaries by (layer, mode); those of eigenvectors are called *axes*.

References
----------
Martens & Grosse 2015 (arXiv 1503.05671), the factors; George et al. 2018 (arXiv 1806.03884) and
Vyas et al. 2025 (arXiv 2409.11321), coordinatewise methods in their eigenvectors. Departs: the inputs of
a fully connected layer are cut into two modes.
"""

from __future__ import annotations

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.execution import Execution
from l2lnp.kernels import reductions, twin
from l2lnp.kernels.factorizations import qr
from l2lnp.kernels.products import along_modes, matmul
from l2lnp.tree import Layout, Moments

FIRST_REFRESHES = (0, 1, 2, 4)  # steps; then regularly
LONGEST_MEMORY = 0.9  # the largest b
_SHIFT = 1e-6  # of the trace: columns of eigenvalues below it stay where they are
_NOTHING = 1e-20  # of the trace: rounded to 0, for products of such numbers are denormal, and slow
_TINY = 1e-30


def is_refresh(step: int, every: int) -> bool:
    """Whether the basis is refreshed at ``step`` (from 0)."""
    return step in FIRST_REFRESHES or (step > 0 and step % every == 0)


def mode_widths(layout: Layout) -> dict[tuple[int, int], int]:
    """Return the width of every mode by (layer, mode)."""
    return {(t.layer, k): width for t in layout.tensors for k, width in enumerate(t.modes)}


def averaged(n: int, old: Array, new: Array, recency: float = 1.0) -> Array:
    """M <- b M + (1 - b) M_new, at refresh ``n`` (from 0); M stays where M_new is not finite."""
    b = min(LONGEST_MEMORY, 1.0 - recency / (n + recency))
    xp = array_module(new)
    return xp.where(xp.isfinite(new.trace()), b * old + (1.0 - b) * new, old)


def eigenvectors(m: Array, reference: Array) -> tuple[Array, Array]:
    """Return Q and d, M = Q diag(d) Q^T, d descending; no column at an obtuse angle to ``reference``.

    A column at a right angle to it, but for rounding, has a sum that is not negative: such is (1, .., 1)
    for the outputs of a softmax.
    """
    xp = array_module(m)
    d, q = xp.linalg.eigh(m)
    q, along = q[:, ::-1], reference @ q[:, ::-1]
    is_clear = abs(along) > np.finfo(q.dtype).eps ** 0.5 * (reference @ reference) ** 0.5
    is_turned_over = xp.where(is_clear, along, q.sum(0)) < 0
    q = xp.ascontiguousarray(q * xp.where(is_turned_over, -1, 1).astype(q.dtype))
    return q, xp.maximum(d[::-1], _SHIFT * m.trace())


def iterated(m: Array, q: Array) -> tuple[Array, Array]:
    """Q <- qr(M Q) with diag(R) > 0; also return d = diag(R), which comes to the eigenvalues.

    M is taken over its trace and shifted a little, so that it may be singular; d is at least
    what rounding leaves uncertain beside the trace.
    """
    xp = array_module(m)
    trace = m.trace()
    y = matmul(m, q)
    y /= trace + _TINY
    y += _SHIFT * q
    y[abs(y) < _NOTHING] = 0
    q, d = qr(y)
    q = xp.ascontiguousarray(q * xp.where(d < 0, -1, 1).astype(q.dtype))
    return q, trace * xp.maximum(abs(d) - _SHIFT, _SHIFT)


def of_layer(axes: Moments, layer: int) -> dict[int, Array]:
    """Return the matrices of one layer by mode."""
    return {mode: q for (of, mode), q in axes.items() if of == layer}


def turn(old: Array, new: Array) -> Array:
    """Return Q_old^T Q_new, with 0 for what is only rounding.

    So a coordinate that never had a gradient is given no momentum, which would be all of its update.
    """
    p = matmul(old.T, new)
    p[abs(p) < 8 * np.finfo(p.dtype).eps] = 0
    return p


def references(layout: Layout, g: Array) -> Moments:
    """Return what the signs of the first eigenvectors of each mode go by, vectors by (layer, mode).

    Outputs: the gradient of the biases, g_b. Inputs: that of the weights times g_b, summed over the other
    modes. They turn with the inputs, and so signs do not depend on how these are rotated, but for columns
    at a right angle to them (`eigenvectors`).
    """
    found: Moments = {}
    of_layers = layout.split(g)
    for index in layout.weights.values():
        weights = layout.tensors[index]
        if not weights.modes:
            continue
        params = of_layers[weights.layer]
        g_w = params["w"].reshape(weights.modes[0], -1)
        g_b = params.get("b", g_w.sum(1))
        of_inputs = (g_b @ g_w).reshape(weights.modes[1:])
        found[weights.layer, 0] = g_b
        for k in range(of_inputs.ndim):
            others = tuple(axis for axis in range(of_inputs.ndim) if axis != k)
            found[weights.layer, k + 1] = of_inputs.sum(others)
    return found


def rotate(layout: Layout, axes: Moments, v: Array, execution: Execution) -> Array:
    """Return v' (P,) = (Q_0^T x Q_1^T x ...) v for each tensor."""
    return _turned(layout, axes, v, execution)


def rotate_back(layout: Layout, axes: Moments, v: Array, execution: Execution) -> Array:
    """Return v (P,) = (Q_0 x Q_1 x ...) v': the inverse of `rotate`, and its adjoint."""
    return _turned(layout, {key: q.T for key, q in axes.items()}, v, execution)


def diagonal(layout: Layout, spectra: Moments, like: Array) -> Array:
    """Return h' (P,), the Fisher matrix's diagonal in the basis, as the factors give it.

        h'_ij.. = d_0i d_1j ... / (trace M_1)^(input modes - 1);     biases: d_0i

    ``spectra`` are the eigenvalues by (layer, mode): all of a mode, or (1,) their mean. 0 for a
    tensor without modes.
    """
    xp, row_sums = array_module(like), twin(reductions, like).row_sums
    h = xp.zeros_like(like)
    for t in layout.tensors:
        if not t.modes:
            continue
        product = xp.ones(1, like.dtype)
        for k, width in enumerate(t.modes):
            d = xp.broadcast_to(spectra[t.layer, k], (width,))
            if k > 1:
                trace = row_sums(d[None])
                d = d / xp.where(trace > 0, trace, 1)
            product = (product[:, None] * d).reshape(-1)
        h[t.coordinates] = product
    return h


def _turned(layout: Layout, axes: Moments, v: Array, execution: Execution) -> Array:
    """Multiply each mode of each tensor in ``v`` (P,) by the transpose of its matrix in ``axes``."""
    turned = array_module(v).empty_like(v)

    def turn(index: int) -> None:
        t = layout.tensors[index]
        turned[t.coordinates] = along_modes(v[t.coordinates], t.modes, of_layer(axes, t.layer))

    execution.map(turn, len(layout.tensors))
    return turned
