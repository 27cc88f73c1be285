"""The table of checks: one line a pass, for one layer or for the whole library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module, to_backend, to_host
from l2lnp.checking.differences import (
    FIRST_ATOL,
    FIRST_RTOL,
    SECOND_ATOL,
    SECOND_RTOL,
    largest_error,
    relative_error,
    second_slope,
    slope,
)
from l2lnp.checking.layer_problem import (
    LayerProblem,
    check_adjoint,
    check_backward,
    check_curvature,
    check_squared_gradients,
    largest,
)
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.errors import unknown_name
from l2lnp.layers import (
    FUNCTIONS,
    LSTM,
    Activation,
    AvgPool2D,
    Conv2D,
    Flatten,
    FullyConnected,
    Layer,
    Loss,
    MaxPool2D,
    MeanSquaredError,
    Rows,
    SoftmaxCrossEntropy,
)
from l2lnp.layers.base import Shape
from l2lnp.network import Sequential

FLOAT32_RTOL = 1e-4


@dataclass(frozen=True)
class Check:
    """One line of the table: a pass of a layer, its largest error and whether it is within the tolerance.

    The error is |a - b| / (|b| + atol / rtol), so that ``error <= rtol`` says |a - b| <= rtol |b| + atol.
    """

    name: str
    layer: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; not so for NaN."""
        return self.error <= self.tolerance


def gradcheck(
    layer: Layer,
    input_shape: Shape,
    name: str | None = None,
    curvature_in_x: bool = True,
    seed: int = 0,
    xp: ModuleType = np,
    dtype: Any = np.float64,
) -> list[Check]:
    """Check every pass of ``layer`` on random arrays and return one `Check` a pass.

    Parameters
    ----------
    layer
        Anything with the passes of `l2lnp.layers.Layer`.
    input_shape
        Shape of one input, without the batch axis.
    curvature_in_x
        False for a layer whose curvature drops products inside itself (LSTM), so that the
        definition holds for its parameters only.
    xp, dtype
        Library and precision. In float32 differences say nothing: there each pass is
        compared with the same pass in float64.
    """
    label = name or type(layer).__name__
    if np.dtype(dtype) == np.float32:
        checks = _float32_errors(layer, input_shape, seed, xp)
    else:
        checks = _float64_errors(layer, input_shape, curvature_in_x, seed, xp)
    return [Check(what, label, error, tolerance) for what, error, tolerance in checks]


def _float64_errors(
    layer: Layer, input_shape: Shape, curvature_in_x: bool, seed: int, xp: ModuleType
) -> Iterator[tuple[str, float, float]]:
    p = LayerProblem.draw(layer, input_shape, seed=seed, xp=xp)
    names = None if curvature_in_x else set(layer.param_shapes())
    yield "backward", check_backward(p), FIRST_RTOL
    yield "curvature", check_curvature(p, names), SECOND_RTOL
    yield "backward_adjoint", check_adjoint(p, p.backward, p.backward_adjoint), FIRST_RTOL
    yield "curvature_adjoint", check_adjoint(p, p.curvature, p.curvature_adjoint), FIRST_RTOL
    gauss_newton = p.without_g_y()
    yield (
        "curvature_adjoint, Gauss-Newton",
        check_adjoint(gauss_newton, gauss_newton.curvature, gauss_newton.curvature_adjoint),
        FIRST_RTOL,
    )
    if layer.param_shapes():
        yield "squared_gradients", check_squared_gradients(p), 1e-10


def _float32_errors(
    layer: Layer, input_shape: Shape, seed: int, xp: ModuleType
) -> Iterator[tuple[str, float, float]]:
    single = LayerProblem.draw(layer, input_shape, seed=seed, xp=xp, dtype=np.float32)
    double = LayerProblem(
        layer, {k: to_host(v).astype(np.float64) for k, v in single.variables.items()}, single.rng
    )
    a32: dict[str, dict[str, Array]] = {}
    for name in ("backward", "curvature"):
        ours, reference = getattr(single, name)(single.variables), getattr(double, name)(double.variables)
        yield name, _worst(ours, reference), FLOAT32_RTOL
        a32[name] = {k: single.normal(v) for k, v in ours.items()}
    for name in ("backward", "curvature"):
        a64 = {k: to_host(v).astype(np.float64) for k, v in a32[name].items()}
        ours = getattr(single, f"{name}_adjoint")(a32[name])
        reference = getattr(double, f"{name}_adjoint")(a64)
        yield f"{name}_adjoint", _worst(ours, reference), FLOAT32_RTOL


def _worst(ours: dict[str, Array], reference: dict[str, Array]) -> float:
    return largest([largest_error(to_host(v), reference[k]) for k, v in ours.items() if v is not None])


LAYERS: dict[str, tuple[Layer, Shape]] = {
    "conv": (Conv2D(2, 3, (3, 2), stride=(2, 1), padding="same"), (2, 5, 4)),
    "fully_connected": (FullyConnected(4, 3), (4,)),
    "lstm": (LSTM(3, 2, "all"), (3, 4)),
    "max_pool": (MaxPool2D(3, stride=2, padding=1), (2, 5, 5)),
    "avg_pool": (AvgPool2D(3, stride=2, padding=1), (2, 5, 5)),
    "flatten": (Flatten(), (2, 3, 2)),
    "rows": (Rows(), (2, 3, 2)),
    **{name: (Activation(name), (3, 4)) for name in FUNCTIONS},
}
LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": SoftmaxCrossEntropy(),
    "mean_squared_error": MeanSquaredError(),
}


def gradcheck_all(
    only: str | None = None, seed: int = 0, xp: ModuleType = np, dtype: Any = np.float64
) -> Iterator[Check]:
    """Check the library: every layer, every loss, and the adjoint of a network; or the one named ``only``.

    Raises
    ------
    InputError
        If nothing is called ``only``.
    """
    names = [*LAYERS, *LOSSES, "network"]
    if only is not None and only not in names:
        raise unknown_name("layer", only, names)
    for name, (layer, shape) in LAYERS.items():
        if only in (None, name) and name != "lstm":
            yield from gradcheck(layer, shape, name, seed=seed, xp=xp, dtype=dtype)
        elif only in (None, name):
            yield from _gradcheck_lstm(seed, xp, dtype)
    for name, loss in LOSSES.items():
        if only in (None, name) and np.dtype(dtype) == np.float64:
            yield from _gradcheck_loss(name, loss, seed, xp)
    if only in (None, "network") and np.dtype(dtype) == np.float64:
        yield from _gradcheck_network(seed, xp)


def _gradcheck_lstm(seed: int, xp: ModuleType, dtype: Any) -> Iterator[Check]:
    """Over several steps without the definition of curvature, which holds for one step and the parameters."""
    layer, shape = LAYERS["lstm"]
    for check in gradcheck(layer, shape, "lstm", seed=seed, xp=xp, dtype=dtype):
        if check.name != "curvature" or np.dtype(dtype) == np.float32:
            yield check
    one_step = LayerProblem.draw(layer, (shape[0], 1), seed=seed, xp=xp)
    error = check_curvature(one_step, names={"w", "b"})
    yield Check("curvature, one step", "lstm", error, SECOND_RTOL)


def _gradcheck_loss(name: str, loss: Any, seed: int, xp: ModuleType) -> Iterator[Check]:
    rng = np.random.default_rng(seed)
    z = to_backend(xp, rng.normal(size=(4, 3)))
    is_softmax = isinstance(loss, SoftmaxCrossEntropy)
    targets = to_backend(xp, rng.integers(0, 4, 3) if is_softmax else rng.normal(size=(4, 3)))
    d, a_g, a_h = (to_backend(xp, v) for v in rng.normal(size=(3, *z.shape)))

    def value(v: Array) -> Array:
        return loss.forward(v, targets, 3)[0]

    def projection(v: Array) -> Array:
        f, cache = loss.forward(v, targets, 3)
        return 0.7 * f + (a_g * loss.backward(cache)).sum() + (a_h * loss.curvature(cache)).sum()

    cache = loss.forward(z, targets, 3)[1]

    def error(analytic: Array, function: Callable[[Array], Array]) -> float:
        return relative_error(float((analytic * d).sum()), slope(function, z, d), FIRST_RTOL, FIRST_ATOL)

    yield Check("backward", name, error(loss.backward(cache), value), FIRST_RTOL)
    h_z, errors = loss.curvature(cache), []
    for i in range(z.size):
        unit = array_module(z).zeros_like(z)
        unit.reshape(-1)[i] = 1
        numeric = second_slope(value, z, unit)
        errors.append(relative_error(float(h_z.reshape(-1)[i]), numeric, SECOND_RTOL, SECOND_ATOL))
    yield Check("curvature", name, largest(errors), SECOND_RTOL)
    yield Check("adjoint", name, error(loss.adjoint(cache, 0.7, a_g, a_h), projection), FIRST_RTOL)


def _gradcheck_network(seed: int, xp: ModuleType) -> Iterator[Check]:
    layers = (Conv2D(1, 2, 3), Activation("tanh"), AvgPool2D(2), Flatten(), FullyConnected(8, 3))
    network = Sequential(layers, SoftmaxCrossEntropy(), (1, 6, 6))
    rng = np.random.default_rng(seed)
    theta = to_backend(xp, network.init(rng, np.float64))
    x, targets = to_backend(xp, rng.normal(size=(1, 6, 6, 4))), to_backend(xp, rng.integers(0, 3, 4))
    a_g, a_h, d = (to_backend(xp, v) for v in rng.normal(size=(3, theta.size)))
    for mode in ADJOINT_MODES:

        def projection(v: Array, mode: str = mode) -> Array:
            loss, g, h = network.evaluate(v, x, targets, mode)
            return 0.7 * loss + (a_g * g).sum() + (a_h * h).sum()

        a_theta = network.adjoint(theta, x, targets, 0.7, a_g, a_h, mode)
        numeric = slope(projection, theta, d)
        error = relative_error(float((a_theta * d).sum()), numeric, FIRST_RTOL, FIRST_ATOL)
        yield Check(f"adjoint, {mode}", "network", error, FIRST_RTOL)
