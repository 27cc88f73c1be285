"""The affine map y = W x + b and its passes: all matrix products of the layers.

x is (K, M), one column per sample (or per sample and position), W is (O, K), b is (O,).
Fully connected layers are affine over their input, LSTM gates over [x; hidden]. Convolutions
are affine over `Patches`, a matrix of K I J rows that is never written out; what the passes
then return for x is the image that the patches are taken from.
"""

from __future__ import annotations

from collections.abc import Mapping

from l2lnp.backend import Array, array_module
from l2lnp.kernels import reductions, twin
from l2lnp.kernels.convolution import Patches
from l2lnp.kernels.products import along_modes, matmul, outer
from l2lnp.layers.base import FRESH, Shape
from l2lnp.tree import Params
from l2lnp.workspace import Fresh


def forward(params: Params, x: Array | Patches, space: Fresh = FRESH) -> Array:
    """y = W x + b."""
    return _product(params["w"], x, space, "y", params["b"])


def backward(
    params: Params, x: Array | Patches, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
) -> tuple[Array, Params]:
    """g_x = W^T g_y,  g_W = g_y x^T,  g_b = sum_m g_y."""
    g_x = _transposed_product(params["w"], g_y, x, space, "g_x") if wants_x else None
    return g_x, {"w": _outer(g_y, x, space), "b": twin(reductions, g_y).row_sums(g_y)}


def curvature(
    params: Params, x: Array | Patches, h_y: Array, space: Fresh = FRESH, wants_x: bool = True
) -> tuple[Array, Params]:
    """h_x = (W^2)^T h_y,  h_W = h_y (x^2)^T,  h_b = sum_m h_y.

    Exact if the loss's Hessian in y is diagonal.
    """
    w = params["w"]
    h_x = _transposed_product(w * w, h_y, x, space, "h_x") if wants_x else None
    h_w = _outer(h_y, _squared(x, space), space)
    return h_x, {"w": h_w, "b": twin(reductions, h_y).row_sums(h_y)}


def backward_adjoint(
    params: Params, x: Array | Patches, g_y: Array, a_g_x: Array | Patches | None, a_g: Params
) -> tuple[Array, Array, Params]:
    """a_gy = W a_gx + a_gW x + a_gb,  a_x = a_gW^T g_y,  a_W = g_y a_gx^T."""
    a_g_y = _product(a_g["w"], x, b=a_g["b"])
    a_x = _transposed_product(a_g["w"], g_y, x)
    if a_g_x is None:
        return a_g_y, a_x, {}
    a_g_y += _product(params["w"], a_g_x)
    return a_g_y, a_x, {"w": _outer(g_y, a_g_x)}


def curvature_adjoint(
    params: Params, x: Array | Patches, h_y: Array, a_h_x: Array | Patches | None, a_h: Params
) -> tuple[Array, Array, Params]:
    """a_hy = W^2 a_hx + a_hW x^2 + a_hb,  a_x = 2 x (a_hW^T h_y),  a_W = 2 W (h_y a_hx^T)."""
    w = params["w"]
    a_h_y = _product(a_h["w"], _squared(x), b=a_h["b"])
    a_x = 2 * _values(x) * _transposed_product(a_h["w"], h_y, x)
    if a_h_x is None:
        return a_h_y, a_x, {}
    a_h_y += _product(w * w, a_h_x)
    return a_h_y, a_x, {"w": 2 * w * _outer(h_y, a_h_x)}


def _product(
    w: Array, x: Array | Patches, space: Fresh = FRESH, key: str = "", b: Array | None = None
) -> Array:
    """W x + b."""
    out = space.empty(key, (len(w), x.shape[1]), w)
    if isinstance(x, Patches):
        return x.product(w, out, b)
    matmul(w, x, out=out)
    if b is not None:
        out += b[:, None]
    return out


def _transposed_product(w: Array, v: Array, x: Array | Patches, space: Fresh = FRESH, key: str = "") -> Array:
    """W^T v, in the form of x."""
    if isinstance(x, Patches):
        return x.unpatch_product(w, v, space, key)
    return matmul(w.T, v, out=space.empty(key, x.shape, v))


def _outer(v: Array, x: Array | Patches, space: Fresh = FRESH) -> Array:
    """v x^T."""
    return x.outer(v, space) if isinstance(x, Patches) else outer(v, x)


def _squared(x: Array | Patches, space: Fresh = FRESH) -> Array | Patches:
    """x^2."""
    if isinstance(x, Patches):
        return x.squared(space)
    return array_module(x).multiply(x, x, out=space.empty("x_squared", x.shape, x))


def _values(x: Array | Patches) -> Array:
    return x.image if isinstance(x, Patches) else x


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
        return outer(x, x)
    return array_module(x).vdot(x, x).reshape(1, 1) / x.shape[0]
