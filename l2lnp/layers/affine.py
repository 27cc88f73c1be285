"""The affine map y = W x + b and its passes: the only matrix products of the library.

x is (K, M), one column per sample (or per sample and position), W is (O, K), b is (O,).
Fully connected layers are affine over their input, convolutions over patches, LSTM
gates over [x; hidden].
"""

from __future__ import annotations

from collections.abc import Mapping

from l2lnp.backend import Array, array_module
from l2lnp.kernels import reductions, twin
from l2lnp.kernels.products import along_modes, matmul
from l2lnp.layers.base import FRESH, Shape
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


def forward(params: Params, x: Array, space: Fresh = FRESH) -> Array:
    """y = W x + b."""
    w, b = params["w"], params["b"]
    y = matmul(w, x, out=space.empty("y", (w.shape[0], x.shape[1]), x))
    y += b[:, None]
    return y


def backward(
    params: Params, x: Array, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
) -> tuple[Array, Params]:
    """g_x = W^T g_y,  g_W = g_y x^T,  g_b = sum_m g_y."""
    w = params["w"]
    g_x = matmul(w.T, g_y, out=space.empty("g_x", x.shape, x)) if wants_x else None
    g_w = matmul(g_y, x.T, out=space.empty("g_w", w.shape, x))
    return g_x, {"w": g_w, "b": twin(reductions, g_y).row_sums(g_y)}


def curvature(
    params: Params, x: Array, h_y: Array, space: Fresh = FRESH, wants_x: bool = True
) -> tuple[Array, Params]:
    """h_x = (W^2)^T h_y,  h_W = h_y (x^2)^T,  h_b = sum_m h_y.

    Exact if the loss's Hessian in y is diagonal.
    """
    w = params["w"]
    h_x = matmul((w * w).T, h_y, out=space.empty("h_x", x.shape, x)) if wants_x else None
    x_squared = array_module(x).multiply(x, x, out=space.empty("x_squared", x.shape, x))
    h_w = matmul(h_y, x_squared.T, out=space.empty("h_w", w.shape, x))
    return h_x, {"w": h_w, "b": twin(reductions, h_y).row_sums(h_y)}


def backward_adjoint(
    params: Params, x: Array, g_y: Array, a_g_x: Array | None, a_g: Params
) -> tuple[Array, Array, Params]:
    """a_gy = W a_gx + a_gW x + a_gb,  a_x = a_gW^T g_y,  a_W = g_y a_gx^T."""
    a_g_y = matmul(a_g["w"], x) + a_g["b"][:, None]
    a_x = matmul(a_g["w"].T, g_y)
    if a_g_x is None:
        return a_g_y, a_x, {}
    a_g_y += matmul(params["w"], a_g_x)
    return a_g_y, a_x, {"w": matmul(g_y, a_g_x.T)}


def curvature_adjoint(
    params: Params, x: Array, h_y: Array, a_h_x: Array | None, a_h: Params
) -> tuple[Array, Array, Params]:
    """a_hy = W^2 a_hx + a_hW x^2 + a_hb,  a_x = 2 x (a_hW^T h_y),  a_W = 2 W (h_y a_hx^T)."""
    w = params["w"]
    a_h_y = matmul(a_h["w"], x * x) + a_h["b"][:, None]
    a_x = 2 * x * matmul(a_h["w"].T, h_y)
    if a_h_x is None:
        return a_h_y, a_x, {}
    a_h_y += matmul(w * w, a_h_x)
    return a_h_y, a_x, {"w": 2 * w * matmul(h_y, a_h_x.T)}


def squared_gradients(
    x: Array, g_y: Array, signs: Array, modes: Shape = (), axes: Mapping[int, Array] | None = None
) -> Params:
    """sum_n signs[n] (sum_r g_y[:, r, n] x[:, r, n]^T)^2 for W, and the same without x for b.

    x (K, R, N), g_y (O, R, N), signs (N,): R positions or time steps share the weights within a sample.
    With ``axes`` what is squared is turned before: (Q_0^T g_y) ((Q_1^T x ...) x)^T.
    """
    axes = axes or {}
    of_inputs = {mode - 1: q for mode, q in axes.items() if mode > 0}
    g_b_squared = signs * along_modes(g_y.sum(1), modes[:1], axes) ** 2
    if x.shape[1] == 1:
        x_squared = along_modes(x[:, 0], modes[1:], of_inputs) ** 2
        return {"w": matmul(g_b_squared, x_squared.T), "b": g_b_squared.sum(1)}
    per_sample = matmul(g_y.transpose(2, 0, 1), x.transpose(2, 1, 0))  # (N, O, K)
    per_sample = along_modes(per_sample, modes, axes, n_before=len(per_sample))
    return {"w": (signs[:, None, None] * per_sample**2).sum(0), "b": g_b_squared.sum(1)}


def moments(
    x: Array, g_y: Array, n_total: int, n_positions: int, modes: Shape, widest: int
) -> dict[int, Array]:
    """M_0 = N g_y g_y^T,  M_k = 1/(N R) x_k x_k^T, x_k being x (K, M) with the rows of input mode k.

    R positions or time steps share the weights within a sample. The columns of x_k are those
    of x, for each index of the other input modes.
    """
    _, *inputs = modes
    factors = {0: n_total * _second_moment(g_y, widest)}
    x = x.reshape(*inputs, -1)
    for axis, width in enumerate(inputs):
        x_k = array_module(x).moveaxis(x, axis, 0).reshape(width, -1)
        factors[axis + 1] = _second_moment(x_k, widest) / (n_total * n_positions)
    return factors


def _second_moment(x: Array, widest: int) -> Array:
    """Return x x^T, or (1, 1) with its mean eigenvalue |x|^2 / width where x has too many rows."""
    if x.shape[0] <= widest:
        return matmul(x, x.T)
    return array_module(x).vdot(x, x).reshape(1, 1) / x.shape[0]
