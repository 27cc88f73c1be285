"""The curvature modes: what h is, at what price.

``hesscale``, ``exact_head`` and ``gauss_newton`` come out of the one downward sweep and
have an exact adjoint. The others are computed beside it, as references and for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from l2lnp import basis
from l2lnp.backend import Array, array_module, to_backend
from l2lnp.errors import InputError, unknown_name
from l2lnp.layers import affine
from l2lnp.layers.activation import Activation
from l2lnp.layers.conv import Conv2D
from l2lnp.layers.fully_connected import FullyConnected
from l2lnp.layers.losses import LossCache, SoftmaxCrossEntropy
from l2lnp.layers.lstm import LSTM
from l2lnp.layers.routing import Routing
from l2lnp.tree import Moments, Params, add_params

if TYPE_CHECKING:
    from l2lnp.network import Sequential, Sweep


@dataclass(frozen=True)
class Mode:
    """One curvature mode, as it stands in the table of ``docs/curvature_modes.md``."""

    summary: str
    cost: str
    has_adjoint: bool = False  # whether exact meta-gradients through h exist
    takes_lstm: bool = True
    is_random: bool = False
    in_basis: bool = False  # whether it is of the curvature basis, and nothing else is there


MODES: dict[str, Mode] = {
    "hesscale": Mode(
        "recursion from the exact diagonal at the outputs (Elsayed & Mahmood 2022; Becker & LeCun 1989)",
        "about 1 backward",
        has_adjoint=True,
    ),
    "exact_head": Mode(
        "hesscale, with the full softmax Hessian pushed exactly through a last fully connected layer",
        "about 1 backward",
        has_adjoint=True,
    ),
    "gauss_newton": Mode(
        "hesscale without the terms f'' g_y: never negative",
        "about 1 backward",
        has_adjoint=True,
    ),
    "exact": Mode(
        "the true Hessian diagonal",
        "C + (curved units) backwards",
        takes_lstm=False,
    ),
    "monte_carlo": Mode(
        "squares of per-sample gradients at drawn labels: unbiased for the Gauss-Newton diagonal",
        "1 backward a draw",
        is_random=True,
    ),
    "hutchinson": Mode(
        "v * (H v) with random signs v: unbiased for the true diagonal",
        "about 2 backwards a draw",
        is_random=True,
    ),
    "ekfac": Mode(
        "mean squares of per-sample gradients along the axes of the curvature basis (George et al. 2018)",
        "about 1 backward; a gradient more at a refresh",
        in_basis=True,
    ),
}

ADJOINT_MODES = tuple(name for name, mode in MODES.items() if mode.has_adjoint)
BASIS_MODES = tuple(name for name, mode in MODES.items() if mode.in_basis)


def check_supported(name: str, network: Sequential, axes: Moments | None = None) -> None:
    """Raise `InputError` unless the mode called ``name`` exists and can be computed for ``network``.

    ``axes`` are those of the curvature basis, None for the parameters' own coordinates.
    """
    check_basis(name, axes is not None)
    if not MODES[name].takes_lstm and any(isinstance(layer, LSTM) for layer in network.layers):
        others = ", ".join(other for other, mode in MODES.items() if mode.takes_lstm)
        raise InputError(
            f"curvature mode '{name}' cannot be computed for a network with an lstm layer, "
            f"whose weights are shared over time; use one of: {others}"
        )
    for layer in network.layers if name == "exact" else ():
        if not isinstance(layer, Conv2D | FullyConnected | Activation | Routing):
            raise InputError(
                f"curvature mode 'exact' does not know where a {type(layer).__name__} is curved: use one of: "
                f"{', '.join(other for other, mode in MODES.items() if not (other == name or mode.in_basis))}"
            )


def check_basis(name: str, in_basis: bool) -> None:
    """Raise `InputError` unless the mode called ``name`` exists and fits what the optimizer works in."""
    if name not in MODES:
        raise unknown_name("curvature mode", name, MODES)
    if MODES[name].in_basis and not in_basis:
        raise InputError(
            f"curvature mode '{name}' is of the curvature basis: give --basis kronecker with it, "
            f"or use one of: {', '.join(other for other, mode in MODES.items() if not mode.in_basis)}"
        )
    if in_basis and not MODES[name].in_basis:
        raise InputError(
            f"curvature mode '{name}' does not apply to the curvature basis, which takes h from its own "
            f"factors, or by: {', '.join(other for other, mode in MODES.items() if mode.in_basis)}"
        )


def check_adjoint(name: str) -> None:
    """Raise `InputError` unless exact meta-gradients through the mode's h exist."""
    if name not in MODES:
        raise unknown_name("curvature mode", name, MODES)
    if not MODES[name].has_adjoint:
        raise InputError(
            f"curvature mode '{name}' gives h as a constant and has no exact meta-gradient; "
            f"use one of: {', '.join(ADJOINT_MODES)}, or leave second derivatives out of the meta-gradient"
        )


def support_table() -> str:
    """Return the table of modes in Markdown, as the docs show it."""

    def yes(value: bool) -> str:
        return "yes" if value else "no"

    rows = [
        f"| `{name}` | {m.summary} | {m.cost} "
        f"| {yes(m.takes_lstm)} | {yes(m.has_adjoint)} | {yes(m.is_random)} |"
        for name, m in MODES.items()
    ]
    head = "| mode | what h is | cost beside the gradient | lstm layers | exact meta-gradient | random |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def is_exact_head(name: str, network: Sequential, layer: int) -> bool:
    """Whether ``layer`` is the last one and mode ``exact_head`` treats it apart from ``hesscale``."""
    return (
        name == "exact_head"
        and layer == len(network.layers) - 1
        and isinstance(network.layers[layer], FullyConnected)
        and isinstance(network.loss, SoftmaxCrossEntropy)
    )


def head_curvature(params: Params, x: Array, loss: LossCache) -> Array:
    """h_x = ((W^2)^T p - q^2) / N with q = W^T p, clipped at 0: (diag(p) - p p^T) / N through z = W x + b.

    The first term is `affine`'s curvature with p for h_y, and q its backward with p for g_y.
    """
    q, _ = affine.backward(params, x, loss.p)
    w2_p, _ = affine.curvature(params, x, loss.p)
    return array_module(x).maximum(w2_p - q**2, 0) / loss.n_total


def head_curvature_adjoint(
    params: Params, x: Array, loss: LossCache, a_h_x: Array | None
) -> tuple[Array | None, Params]:
    """Return a_z (through p) and a_params of `head_curvature`."""
    if a_h_x is None:
        return None, {}
    q, _ = affine.backward(params, x, loss.p)
    w2_p, _ = affine.curvature(params, x, loss.p)
    a_h_x = a_h_x * (w2_p > q**2) / loss.n_total
    none = {name: array_module(x).zeros_like(p) for name, p in params.items()}
    a_p_1, _, a_params_1 = affine.backward_adjoint(params, x, loss.p, -2 * q * a_h_x, none)
    a_p_2, _, a_params_2 = affine.curvature_adjoint(params, x, loss.p, a_h_x, none)
    a_z = SoftmaxCrossEntropy().probabilities_adjoint(loss, a_p_1 + a_p_2)
    return a_z, add_params(a_params_1, a_params_2)


def exact(network: Sequential, params: dict[int, Params], sweep: Sweep) -> dict[int, Params]:
    """The true Hessian diagonal of the micro-batch: squares of derivatives along signed columns.

    H = sum over the columns s of a root of H_z of (J^T s)(J^T s)^T, plus for every curved
    unit x the column f''(x) g_y (dx/dtheta)(dx/dtheta)^T; both per sample.
    """
    top = len(network.layers) - 1
    ones = array_module(sweep.loss_cache.p).ones_like(sweep.loss_cache.p[0])
    h: dict[int, Params] = {}
    for column in network.loss.hessian_root(sweep.loss_cache):
        _add_squares(h, network, params, sweep, top, column, ones)
    for i in range(network.first_with_params, top + 1):
        layer = sweep.layers[i]
        if not isinstance(layer, Activation) or layer.function.second is None:
            continue
        weight = layer.function.second(*sweep.caches[i]) * sweep.g_ys[i - network.first_with_params]
        rows = weight.reshape(-1, weight.shape[-1])  # (units, N)
        for unit, row in enumerate(rows):
            column = array_module(row).zeros_like(rows)
            column[unit] = abs(row) ** 0.5
            signs = array_module(row).sign(row)
            _add_squares(h, network, params, sweep, i - 1, column.reshape(weight.shape), signs)
    return h


def monte_carlo(
    network: Sequential, params: dict[int, Params], sweep: Sweep, uniforms: np.ndarray
) -> dict[int, Params]:
    """Squares of the derivatives along columns s drawn by ``uniforms`` (draws, C, N), E[s s^T] = H_z."""
    ones = array_module(sweep.loss_cache.p).ones_like(sweep.loss_cache.p[0])
    h: dict[int, Params] = {}
    for u in uniforms:
        column = network.loss.random_root(sweep.loss_cache, u) / len(uniforms) ** 0.5
        _add_squares(h, network, params, sweep, len(network.layers) - 1, column, ones)
    return h


def ekfac(
    network: Sequential, params: dict[int, Params], sweep: Sweep, n_total: int, axes: Moments
) -> dict[int, Params]:
    """h' = 1/N sum_n (Q^T g_n)^2, g_n the gradient of the loss of sample n: EKFAC's diagonal.

    Observed labels, as in the factors. The sweep's g_y are derivatives of the batch's mean loss, g_n / N.

    References
    ----------
    George et al. 2018 (arXiv 1806.03884), section 3.1.
    """
    weights = n_total * array_module(sweep.loss_cache.p).ones_like(sweep.loss_cache.p[0])
    found: dict[int, Params] = {}
    for i, index in network.layout.weights.items():
        g_y, turned = sweep.g_ys[i - network.first_with_params], basis.of_layer(axes, i)
        modes = network.layout.tensors[index].modes
        found[i] = sweep.layers[i].squared_gradients(params[i], sweep.caches[i], g_y, weights, modes, turned)
    return found


def hutchinson(
    theta: Array,
    hessian_times: Callable[[Array], Array],
    rng: np.random.Generator,
    n_draws: int,
) -> Array:
    """h = mean of v * (H v) over random signs v (P,)."""
    h = array_module(theta).zeros_like(theta)
    for _ in range(n_draws):
        signs = 2.0 * rng.integers(0, 2, theta.shape) - 1
        v = to_backend(array_module(theta), signs.astype(theta.dtype))
        h += v * hessian_times(v) / n_draws
    return h


def _add_squares(
    h: dict[int, Params],
    network: Sequential,
    params: dict[int, Params],
    sweep: Sweep,
    top: int,
    column: Array,
    signs: Array,
) -> None:
    """Carry ``column``, a derivative by the output of layer ``top``, down and add its squares to ``h``."""
    for i in range(top, network.first_with_params - 1, -1):
        layer, of_layer = sweep.layers[i], params.get(i, {})
        squares = layer.squared_gradients(of_layer, sweep.caches[i], column, signs)
        h[i] = add_params(h.get(i, {}), squares)
        if i > network.first_with_params:
            column, _ = layer.backward(of_layer, sweep.caches[i], column)
