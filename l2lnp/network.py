"""Networks: loss, g and h in one upward and one downward sweep, and the exact reverse of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from l2lnp import curvature as modes
from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError, check_positive
from l2lnp.execution import Execution
from l2lnp.layers.activation import Activation
from l2lnp.layers.base import FRESH, Layer, Shape
from l2lnp.layers.conv import Conv2D
from l2lnp.layers.losses import LossCache, MeanSquaredError, SoftmaxCrossEntropy
from l2lnp.layers.pooling import MaxPool2D
from l2lnp.layers.routing import Flatten
from l2lnp.scalars import Scalar
from l2lnp.tree import Layout, Moments, Params, add_params
from l2lnp.workspace import Fresh

_MOST_BY_TAP = 9  # pixels of a pooling's window: the short images of many cost more than they save


class Evaluation(NamedTuple):
    """The mini-batch mean loss at theta with its first and approximate second derivatives (P,)."""

    loss: Any  # a float; within the batch's parts, and where nothing waits, an array () on the device
    g: Array
    h: Array | None


class Sweep(NamedTuple):
    """A forward sweep and, where it was run, the downward sweep: what the adjoint needs of them.

    ``g_ys[l]`` and ``h_ys[l]`` are the derivatives by the output of layer l.
    """

    loss: Array
    caches: list[Any]
    loss_cache: LossCache
    g_ys: list[Array]
    h_ys: list[Array]
    layers: tuple[Layer, ...]  # as they ran, see `Sequential.schedule_for`


@dataclass(frozen=True)
class Sequential:
    """A network: layers one after the other, and a loss on top. Holds sizes, never arrays.

    Parameters
    ----------
    layers
        The layers from the input to the outputs z (C, N).
    loss
        What z is compared with the targets by.
    input_shape
        Shape of one sample: (channels, rows, columns), or (features,).

    Raises
    ------
    InputError
        If a layer cannot take what the one before it gives; the sentence names the layer.
    """

    layers: tuple[Layer, ...]
    loss: SoftmaxCrossEntropy | MeanSquaredError
    input_shape: Shape

    def __post_init__(self) -> None:
        assert self.shapes
        for number, layer in enumerate(self.layers, start=1):
            if layer.param_shapes() and not layer.kind:
                raise InputError(
                    f"layer {number} of {len(self.layers)}: a layer with parameters must say its kind, by "
                    f"which learned optimizers know it: kind = 'fully_connected', or a word of its own"
                )
        if not self.layout.tensors:
            raise InputError("a network needs at least one layer with parameters: there is nothing to learn")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one sample before the first layer and after each."""
        shapes = [tuple(self.input_shape)]
        for number, layer in enumerate(self.layers, start=1):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except InputError as error:
                raise InputError(f"layer {number} of {len(self.layers)}: {error}") from None
        if len(shapes[-1]) != 1:
            raise InputError(f"the last layer must give one number per class, not {shapes[-1]}")
        return tuple(shapes)

    @cached_property
    def schedule(self) -> tuple[Layer, ...]:
        """The layers in the order they run in: a monotone activation lets a max pooling after it go first.

        max(f(x)) = f(max(x)), and f meets fewer elements.
        """
        layers = list(self.layers)
        for i, (layer, following) in enumerate(pairwise(self.layers)):
            if (
                isinstance(layer, Activation)
                and layer.function.is_monotone
                and isinstance(following, MaxPool2D)
            ):
                layers[i : i + 2] = following, layer
        return tuple(layers)

    def schedule_for(self, x: Array) -> tuple[Layer, ...]:
        """The schedule for samples of the library of ``x``: on the host, pooled by tap."""
        return self._schedule_by_tap if array_module(x) is np else self.schedule

    @cached_property
    def _schedule_by_tap(self) -> tuple[Layer, ...]:
        """The schedule, where a convolution's outputs come in the order in which a max pooling reads them."""
        layers = list(self.schedule)
        for i, (layer, following) in enumerate(pairwise(self.schedule)):
            if (
                type(layer) is Conv2D
                and type(following) is MaxPool2D
                and prod(following.window.size) <= _MOST_BY_TAP
                and following.window.tiles((self.shapes[i + 1][1], self.shapes[i + 1][2]))
            ):
                layers[i] = replace(layer, pooled=following.window.size)
        return tuple(layers)

    @property
    def output_shape(self) -> Shape:
        """The shape of one sample's outputs, (C,)."""
        return self.shapes[-1]

    @cached_property
    def layout(self) -> Layout:
        """Where each tensor lies in theta."""
        shapes = list(self.shapes)  # of each layer's input, before a flatten layer below it
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Flatten):
                shapes[i + 1] = shapes[i]
        return Layout.of_layers(
            [(layer.kind, layer.param_shapes()) for layer in self.layers],
            [layer.modes(shape) for layer, shape in zip(self.layers, shapes, strict=False)],
        )

    @cached_property
    def first_with_params(self) -> int:
        """The lowest layer with parameters; no derivative is needed below its output."""
        return min(self.layout.layers, default=len(self.layers))

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> np.ndarray:
        """Draw initial parameters theta (P,) on the host."""
        params = {i: layer.init_params(rng) for i, layer in enumerate(self.layers)}
        return self.layout.join(params).astype(dtype)

    def predict(self, theta: Array, x: Array, execution: Execution | None = None) -> Array:
        """Return the outputs z (C, N) for the samples ``x`` (*input_shape, N)."""
        self._check_samples(theta, x)
        params = self.layout.split(theta)

        def micro_batch(span: slice, space: Fresh) -> Array:
            z, _ = _forward(self.schedule_for(x), params, x[..., span], space)
            return z.copy()

        def join(left: Array, right: Array) -> Array:
            return array_module(left).concatenate([left, right], axis=-1)

        return (execution or Execution()).over_batch(micro_batch, x.shape[-1], join)

    def evaluate(
        self,
        theta: Array,
        x: Array,
        targets: Array,
        curvature: str | None = "hesscale",
        execution: Execution | None = None,
        rng: np.random.Generator | None = None,
        n_draws: int = 1,
    ) -> Evaluation:
        """Return loss, g and h of the batch's mean loss at ``theta``.

        Parameters
        ----------
        theta : (P,)
        x : (*input_shape, N)
        targets : (N,) for softmax cross-entropy, (C, N) for the squared error
        curvature
            A mode of `l2lnp.curvature.MODES`; None for the gradient alone (h is None).
        execution
            How the work is cut and shared out.
        rng, n_draws
            Source and number of draws of the random modes, ``monte_carlo`` and ``hutchinson``.
        """
        return self.evaluate_with_moments(theta, x, targets, 0, curvature, execution, rng, n_draws)[0]

    def evaluate_with_moments(
        self,
        theta: Array,
        x: Array,
        targets: Array,
        widest_mode: int,
        curvature: str | None = "hesscale",
        execution: Execution | None = None,
        rng: np.random.Generator | None = None,
        n_draws: int = 1,
        axes: Moments | None = None,
    ) -> tuple[Evaluation, Moments]:
        """Return what `evaluate` does and, from the same sweep, the moments of all layers' modes.

        They are what the curvature basis is made of (`l2lnp.layers.base.Layer.moments`): whole
        for modes up to the width ``widest_mode``; none at all if that is 0. With ``axes``, those of a
        basis by (layer, mode), h is in that basis; g never is.
        """
        execution, rng = execution or Execution(), rng or np.random.default_rng(0)
        self._check_samples(theta, x)
        self._check_targets(targets, x, execution)
        if curvature is not None:
            modes.check_supported(curvature, self, axes)
            check_positive(f"curvature mode '{curvature}'", n_draws=n_draws)
        params = self.layout.split(theta)
        n_total = x.shape[-1]
        in_sweep = curvature if curvature in modes.ADJOINT_MODES else None
        uniforms = rng.random((n_draws, *self.output_shape, n_total)) if curvature == "monte_carlo" else None

        def micro_batch(span: slice, space: Fresh) -> tuple[Evaluation, Moments]:
            sweep, g, h = self.sweep(params, x[..., span], targets[..., span], n_total, in_sweep, space)
            if curvature == "exact":
                h = modes.exact(self, params, sweep)
            elif uniforms is not None:
                h = modes.monte_carlo(self, params, sweep, uniforms[..., span])
            elif axes is not None and curvature is not None:
                h = modes.ekfac(self, params, sweep, n_total, axes)
            moments = self._moments(params, sweep, n_total, widest_mode) if widest_mode else {}
            return Evaluation(sweep.loss, self.layout.join(g), self.layout.join(h) if h else None), moments

        (loss, g, h), moments = execution.over_batch(micro_batch, n_total, _add_evaluations)
        if curvature == "hutchinson":

            def hessian_times(v: Array) -> Array:
                return self.adjoint(theta, x, targets, a_g=v, execution=execution)

            h = modes.hutchinson(theta, hessian_times, rng, n_draws)
        return Evaluation(float(loss) if execution.waits else loss, g, h), moments

    def adjoint(
        self,
        theta: Array,
        x: Array,
        targets: Array,
        a_loss: Scalar = 0.0,
        a_g: Array | None = None,
        a_h: Array | None = None,
        curvature: str = "hesscale",
        execution: Execution | None = None,
    ) -> Array:
        """Return a_theta (P,): how a_loss loss + <a_g, g> + <a_h, h> moves with theta.

        The exact reverse of `evaluate`; ``adjoint(a_g=v)`` is the Hessian-vector product.

        Raises
        ------
        InputError
            If ``a_h`` is given and the curvature mode has no adjoint, or a cotangent is not like theta.
        """
        execution = execution or Execution()
        self._check_samples(theta, x)
        self._check_targets(targets, x, execution)
        self.layout.check(theta=theta, a_g=a_g, a_h=a_h)
        if a_h is not None:
            modes.check_adjoint(curvature)
        params, n_total = self.layout.split(theta), x.shape[-1]
        a_gs = {} if a_g is None else self.layout.split(a_g)
        a_hs = {} if a_h is None else self.layout.split(a_h)
        mode = None if a_h is None else curvature

        def micro_batch(span: slice, space: Fresh) -> Array:
            sweep, _, _ = self.sweep(params, x[..., span], targets[..., span], n_total, mode, space)
            return self._sweep_adjoint(params, sweep, mode, a_loss, a_gs, a_hs, space)

        return execution.over_batch(micro_batch, n_total, operator.add)

    def sweep(
        self,
        params: dict[int, Params],
        x: Array,
        targets: Array,
        n_total: int,
        mode: str | None,
        space: Fresh = FRESH,
    ) -> tuple[Sweep, dict[int, Params], dict[int, Params]]:
        """Run one upward and one downward sweep; return it with g and h of each layer.

        ``mode`` is one of `l2lnp.curvature.ADJOINT_MODES`, or None for the gradient alone.
        """
        layers = self.schedule_for(x)
        y, caches = _forward(layers, params, x, space)
        loss, loss_cache = self.loss.forward(y, targets, n_total)

        g_y = self.loss.backward(loss_cache)
        h_y = None if mode is None else self.loss.curvature(loss_cache)
        g_ys, h_ys = [], []
        g: dict[int, Params] = {}
        h: dict[int, Params] = {}
        for i in reversed(range(self.first_with_params, len(self.layers))):
            layer, of_layer, scope = layers[i], params.get(i, {}), space.scope(i)
            wants_x = i > self.first_with_params
            g_ys.append(g_y)
            h_ys.append(h_y)
            if mode is not None:
                seen_g_y = None if mode == "gauss_newton" else g_y
                h_x, h[i] = layer.curvature(of_layer, caches[i], seen_g_y, h_y, scope, wants_x)
                if wants_x and modes.is_exact_head(mode, self, i):
                    h_x = modes.head_curvature(of_layer, caches[i], loss_cache)
                h_y = h_x
            g_y, g[i] = layer.backward(of_layer, caches[i], g_y, scope, wants_x)
        return Sweep(loss, caches, loss_cache, g_ys[::-1], h_ys[::-1], layers), g, h

    def _moments(self, params: dict[int, Params], sweep: Sweep, n_total: int, widest: int) -> Moments:
        """Return the part of one micro-batch in the moments of every mode."""
        found: Moments = {}
        for t in self.layout.tensors:
            if t.name == "w" and t.modes:
                i, g_y = t.layer, sweep.g_ys[t.layer - self.first_with_params]
                factors = sweep.layers[i].moments(params[i], sweep.caches[i], g_y, n_total, t.modes, widest)
                found |= {(i, mode): factor for mode, factor in factors.items()}
        return found

    def _sweep_adjoint(
        self,
        params: dict[int, Params],
        sweep: Sweep,
        mode: str | None,
        a_loss: Scalar,
        a_gs: dict[int, Params],
        a_hs: dict[int, Params],
        space: Fresh,
    ) -> Array:
        """Return a_theta of one micro-batch: an upward sweep of adjoints, then an ordinary downward sweep."""
        first = self.first_with_params
        a_g_y: Array | None = None
        a_h_y: Array | None = None
        a_z: Array | None = None
        a_xs: list[Array | None] = []
        total: dict[int, Params] = {}
        for i in range(first, len(self.layers)):
            layer, of_layer, cache = sweep.layers[i], params.get(i, {}), sweep.caches[i]
            g_y, h_y = sweep.g_ys[i - first], sweep.h_ys[i - first]
            zeros = {name: array_module(p).zeros_like(p) for name, p in of_layer.items()}
            a_g_x, a_h_x = a_g_y, a_h_y
            a_g_y, a_x, total[i] = layer.backward_adjoint(of_layer, cache, g_y, a_g_x, a_gs.get(i, zeros))
            if mode is not None:
                if modes.is_exact_head(mode, self, i):
                    a_z, a_w = modes.head_curvature_adjoint(of_layer, cache, sweep.loss_cache, a_h_x)
                    total[i] = add_params(total[i], a_w)
                    a_h_x = None
                seen_g_y = None if mode == "gauss_newton" else g_y
                a_h_y, a_g_more, a_x_more, a_more = layer.curvature_adjoint(
                    of_layer, cache, seen_g_y, h_y, a_h_x, a_hs.get(i, zeros)
                )
                a_g_y, a_x = _add(a_g_y, a_g_more), _add(a_x, a_x_more)
                total[i] = add_params(total[i], a_more)
            a_xs.append(a_x)

        a_y = _add(self.loss.adjoint(sweep.loss_cache, a_loss, a_g_y, a_h_y), a_z)
        for i in reversed(range(first, len(self.layers))):
            a_x, g_i = sweep.layers[i].backward(
                params.get(i, {}), sweep.caches[i], a_y, space.scope(i), wants_x=i > first
            )
            total[i] = add_params(total[i], g_i)
            a_y = _add(a_x, a_xs[i - first])
        return self.layout.join(total)

    def _check_samples(self, theta: Array, x: Array) -> None:
        self.layout.check(theta=theta)
        if x.shape[:-1] != tuple(self.input_shape) or x.shape[-1] == 0:
            raise InputError(f"samples must be {(*self.input_shape, 'N')} with N > 0, not {x.shape}")
        if x.dtype != theta.dtype:
            raise InputError(f"samples and theta must be of one dtype, not {x.dtype} and {theta.dtype}")

    def _check_targets(self, targets: Array, x: Array, execution: Execution) -> None:
        if execution.waits:
            self.loss.check_targets(targets, self.output_shape)
        if targets.dtype.kind == "f" and targets.dtype != x.dtype:
            raise InputError(f"samples and targets must be of one dtype, not {x.dtype} and {targets.dtype}")
        if targets.shape[-1] != x.shape[-1]:
            raise InputError(f"there are {x.shape[-1]} samples, but targets for {targets.shape[-1]}")


def _forward(
    layers: Sequence[Layer], params: dict[int, Params], x: Array, space: Fresh
) -> tuple[Array, list[Any]]:
    y, caches = x, []
    for i, layer in enumerate(layers):
        y, cache = layer.forward(params.get(i, {}), y, space.scope(i))
        caches.append(cache)
    return y, caches


def _add_evaluations(
    left: tuple[Evaluation, Moments], right: tuple[Evaluation, Moments]
) -> tuple[Evaluation, Moments]:
    (a, a_moments), (b, b_moments) = left, right
    h = None if a.h is None else a.h + b.h
    moments = {key: a_moments[key] + b_moments[key] for key in a_moments}
    return Evaluation(a.loss + b.loss, a.g + b.g, h), moments


def _add(left: Array | None, right: Array | None) -> Array | None:
    """Return the sum of two cotangents; None stands for zero."""
    if left is None or right is None:
        return right if left is None else left
    return left + right
