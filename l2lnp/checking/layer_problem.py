"""A layer with random arrays, and the check of each of its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module, to_backend
from l2lnp.checking.differences import (
    FIRST_ATOL,
    FIRST_RTOL,
    SECOND_ATOL,
    SECOND_RTOL,
    distinct_values,
    largest_error,
    relative_error,
    second_slope,
    separable,
    slope,
)
from l2lnp.layers.base import Layer, Shape
from l2lnp.tree import Params


@dataclass(frozen=True)
class LayerProblem:
    """A layer with random parameters, input and derivatives from above: what a check needs.

    ``variables`` names every array a pass may depend on: x, g_y, h_y, and the parameters as "w", "b".
    """

    layer: Layer
    variables: dict[str, Array]
    rng: np.random.Generator

    @classmethod
    def draw(
        cls,
        layer: Layer,
        input_shape: Shape,
        batch_size: int = 3,
        seed: int = 0,
        xp: ModuleType = np,
        dtype: Any = np.float64,
    ) -> LayerProblem:
        """Draw the arrays of a problem for inputs of ``input_shape`` (without the batch axis)."""
        rng = np.random.default_rng(seed)
        y_shape = (*layer.output_shape(input_shape), batch_size)
        arrays = {
            "x": distinct_values(rng, (*input_shape, batch_size)),
            "g_y": rng.normal(size=y_shape),
            "h_y": rng.normal(size=y_shape),
        }
        for name, shape in layer.param_shapes().items():
            arrays[name] = rng.normal(size=shape)
        moved = {name: to_backend(xp, a.astype(dtype)) for name, a in arrays.items()}
        for a in moved.values():
            if xp is np:
                a.flags.writeable = False  # a pass that changes its arguments fails
        return cls(layer, moved, rng)

    def normal(self, like: Array) -> Array:
        """Draw an array of normal numbers in the form of ``like``."""
        return to_backend(array_module(like), self.rng.normal(size=like.shape).astype(like.dtype))

    def params(self, v: dict[str, Array]) -> Params:
        """Return the layer's parameters among the variables ``v``."""
        return {name: v[name] for name in self.layer.param_shapes()}

    def forward(self, v: dict[str, Array]) -> Array:
        """y at the variables ``v``."""
        return self.layer.forward(self.params(v), v["x"])[0]

    def backward(self, v: dict[str, Array]) -> dict[str, Array]:
        """g_x as "x", and g by parameter."""
        params = self.params(v)
        g_x, g = self.layer.backward(params, self.layer.forward(params, v["x"])[1], v["g_y"])
        return {"x": g_x, **self._zeros(params), **g}

    def curvature(self, v: dict[str, Array]) -> dict[str, Array]:
        """h_x as "x", and h by parameter."""
        params = self.params(v)
        cache = self.layer.forward(params, v["x"])[1]
        h_x, h = self.layer.curvature(params, cache, v.get("g_y"), v["h_y"])
        return {"x": h_x, **self._zeros(params), **h}

    def backward_adjoint(self, a: dict[str, Array]) -> dict[str, Array]:
        """Cotangents of g_y, x and the parameters for the cotangents ``a`` of what `backward` gives."""
        v, params = self.variables, self.params(self.variables)
        cache = self.layer.forward(params, v["x"])[1]
        a_g_y, a_x, a_params = self.layer.backward_adjoint(
            params, cache, v["g_y"], a.get("x"), {name: a[name] for name in params}
        )
        return {"g_y": a_g_y, "x": a_x, **a_params}

    def curvature_adjoint(self, a: dict[str, Array]) -> dict[str, Array]:
        """Cotangents of h_y, g_y, x and the parameters for the cotangents ``a`` of what `curvature` gives."""
        v, params = self.variables, self.params(self.variables)
        cache = self.layer.forward(params, v["x"])[1]
        a_h_y, a_g_y, a_x, a_params = self.layer.curvature_adjoint(
            params, cache, v.get("g_y"), v["h_y"], a.get("x"), {name: a[name] for name in params}
        )
        return {"h_y": a_h_y, "g_y": a_g_y, "x": a_x, **a_params}

    def _zeros(self, params: Params) -> Params:
        """What stands for a derivative that the layer does not give: if it is not zero, the check fails."""
        return {name: array_module(p).zeros_like(p) for name, p in params.items()}

    def without_g_y(self) -> LayerProblem:
        """Return the same problem in the Gauss-Newton form, where curvature gets ``g_y=None``."""
        return LayerProblem(self.layer, {k: v for k, v in self.variables.items() if k != "g_y"}, self.rng)


def largest(errors: Sequence[float]) -> float:
    """Return the largest error, NaN if one is; 0 where there is none."""
    return float(np.max(errors, initial=0.0))


def check_backward(problem: LayerProblem) -> float:
    """Largest error of `backward` as the slope of `forward`, over x and each parameter."""
    v = problem.variables
    errors = []
    for name, g in problem.backward(v).items():
        d = problem.normal(v[name])
        numeric = slope(lambda a: (v["g_y"] * problem.forward(v | {name: a})).sum(), v[name], d)  # noqa: B023
        errors.append(relative_error(float((g * d).sum()), numeric, FIRST_RTOL, FIRST_ATOL))
    return largest(errors)


def check_curvature(problem: LayerProblem, names: set[str] | None = None, n_coordinates: int = 4) -> float:
    """Largest error of `curvature` as the second slope under a separable loss, over drawn coordinates.

    ``names`` restricts the check to some of x and the parameters: an LSTM's curvature in x
    drops products between gates, so that its definition holds for its parameters only.
    """
    v = problem.variables
    y0 = problem.forward(v)
    loss = separable(v["g_y"], v["h_y"], y0)
    errors = []
    for name, h in problem.curvature(v).items():
        if names is not None and name not in names:
            continue
        for i in problem.rng.choice(h.size, min(n_coordinates, h.size), replace=False):
            unit = array_module(h).zeros_like(v[name])
            unit.reshape(-1)[i] = 1
            numeric = second_slope(lambda a: loss(problem.forward(v | {name: a})), v[name], unit)  # noqa: B023
            errors.append(relative_error(float(h.reshape(-1)[i]), numeric, SECOND_RTOL, SECOND_ATOL))
    return largest(errors)


def check_adjoint(
    problem: LayerProblem,
    run: Callable[[dict[str, Array]], dict[str, Array]],
    adjoint: Callable[[dict[str, Array]], dict[str, Array]],
) -> float:
    """Largest error of ``adjoint`` as the slope of the pass ``run`` under a random projection."""
    v = problem.variables
    a = {name: problem.normal(result) for name, result in run(v).items()}

    def projection(changed: dict[str, Array]) -> Array:
        return sum((a[name] * result).sum() for name, result in run(v | changed).items())

    errors = []
    cotangents = adjoint(a)
    for name, value in v.items():
        d = problem.normal(value)
        numeric = slope(lambda moved: projection({name: moved}), value, d)  # noqa: B023
        a_name = cotangents.get(name)
        analytic = 0.0 if a_name is None else float((a_name * d).sum())
        errors.append(relative_error(analytic, numeric, FIRST_RTOL, FIRST_ATOL))
    return largest(errors)


def check_squared_gradients(problem: LayerProblem) -> float:
    """Largest error of `squared_gradients` against squares of the gradient of one sample at a time."""
    v = problem.variables
    params, layer = problem.params(v), problem.layer
    zeros = {name: array_module(p).zeros_like(p) for name, p in params.items()}
    total = zeros
    signs = array_module(v["x"]).where(problem.normal(v["x"]).reshape(-1)[: v["x"].shape[-1]] > 0, 1.0, -1.0)
    for n in range(v["x"].shape[-1]):
        one = slice(n, n + 1)
        _, cache = layer.forward(params, v["x"][..., one])
        _, g = layer.backward(params, cache, v["g_y"][..., one])
        total = {name: total[name] + signs[n] * g.get(name, zeros[name]) ** 2 for name in total}
    squared = layer.squared_gradients(params, layer.forward(params, v["x"])[1], v["g_y"], signs)
    return largest([largest_error(squared.get(name, zeros[name]), total[name]) for name in total])
