"""Losses: where the downward sweep begins.

A loss takes the network's outputs z (C, N) and targets, and is a mean over the
``n_total`` samples of the whole batch, of which the N given may be a part
(a micro-batch); the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module, to_backend
from l2lnp.errors import InputError
from l2lnp.kernels import losses, twin
from l2lnp.layers.base import Shape
from l2lnp.scalars import Scalar, like


class LossCache(NamedTuple):
    """What the passes need: p (softmax outputs) or z, targets in z's form, the batch size, g_z and h_z."""

    p: Array
    t: Array
    n_total: int
    g: Array
    h: Array


@dataclass(frozen=True)
class Loss:
    """Base of the losses."""

    def forward(self, z: Array, targets: Array, n_total: int) -> tuple[Array, LossCache]:
        """Return the sum of the samples' losses over ``n_total``, and the cache."""
        raise NotImplementedError

    def backward(self, cache: LossCache) -> Array:
        """Return g_z = (p - t) / N."""
        return cache.g

    def curvature(self, cache: LossCache) -> Array:
        """Return h_z, the exact diagonal of the Hessian in z."""
        return cache.h

    def adjoint(self, cache: LossCache, a_loss: Scalar, a_g_z: Array | None, a_h_z: Array | None) -> Array:
        """Return a_z: the adjoint of loss, g_z and h_z in z. None stands for zero."""
        raise NotImplementedError

    def hessian_root(self, cache: LossCache) -> Iterator[Array]:
        """Yield the columns s (C, N) of a root of each sample's Hessian: sum over them of s s^T = H_z."""
        raise NotImplementedError

    def random_root(self, cache: LossCache, uniforms: np.ndarray) -> Array:
        """Return one random column s (C, N) with E[s s^T] = H_z, from ``uniforms`` (C, N) in [0, 1)."""
        raise NotImplementedError


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """loss = -mean log p[label], p = softmax(z); targets are whole numbers (N,) below C.

    H_z = (diag(p) - p p^T) / N, so h_z = p (1 - p) / N.
    """

    def check_targets(self, targets: Array, output_shape: Shape) -> None:
        """Raise `InputError` unless ``targets`` are class numbers of an output of ``output_shape``."""
        if targets.ndim != 1 or targets.dtype.kind not in "iu":
            raise InputError(f"targets of softmax cross-entropy are whole numbers (N,), not {targets.shape}")
        if targets.size and not (int(targets.min()) >= 0 and int(targets.max()) < output_shape[0]):
            raise InputError(
                f"targets must be class numbers from 0 to {output_shape[0] - 1}; "
                f"found {int(targets.min())} to {int(targets.max())}"
            )

    def forward(self, z: Array, targets: Array, n_total: int) -> tuple[Array, LossCache]:
        softmax = twin(losses, z).softmax_cross_entropy(z, targets, n_total)
        return softmax.loss, LossCache(softmax.p, softmax.t, n_total, softmax.g, softmax.h)

    def adjoint(self, cache: LossCache, a_loss: Scalar, a_g_z: Array | None, a_h_z: Array | None) -> Array:
        # with v = p (a_g + (1 - 2 p) a_h) / N:  a_z = a_loss g_z + v - p sum_classes(v)
        p = cache.p
        a_p = array_module(p).zeros_like(p)
        if a_g_z is not None:
            a_p += a_g_z / cache.n_total
        if a_h_z is not None:
            a_p += (1 - 2 * p) * a_h_z / cache.n_total
        return like(a_loss, p) * self.backward(cache) + self.probabilities_adjoint(cache, a_p)

    def probabilities_adjoint(self, cache: LossCache, a_p: Array) -> Array:
        """a_z = p (a_p - sum_classes(p a_p)): the adjoint of p = softmax(z)."""
        v = cache.p * a_p
        return v - cache.p * v.sum(0)

    def hessian_root(self, cache: LossCache) -> Iterator[Array]:
        # column c: sqrt(p_c / N) (e_c - p)
        for c in range(cache.p.shape[0]):
            column = -cache.p
            column[c] += 1
            yield column * (cache.p[c] / cache.n_total) ** 0.5

    def random_root(self, cache: LossCache, uniforms: np.ndarray) -> Array:
        # (e_y - p) / sqrt(N) with y drawn from p by inverting its distribution function
        xp = array_module(cache.p)
        u = to_backend(xp, uniforms[0]).astype(cache.p.dtype)
        y = (cache.p.cumsum(0)[:-1] <= u).sum(0)
        one_hot = (xp.arange(cache.p.shape[0])[:, None] == y).astype(cache.p.dtype)
        return (one_hot - cache.p) / cache.n_total**0.5


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """loss = mean over samples of 1/2 |z - t|^2, summed over outputs; targets (C, N). H_z = I / N."""

    def check_targets(self, targets: Array, output_shape: Shape) -> None:
        """Raise `InputError` unless ``targets`` (C, N) have the form of the outputs."""
        if targets.shape[:-1] != output_shape:
            raise InputError(
                f"targets of the squared error must be {(*output_shape, 'N')}, not {targets.shape}"
            )

    def forward(self, z: Array, targets: Array, n_total: int) -> tuple[Array, LossCache]:
        residual = z - targets
        h = array_module(z).full_like(z, 1 / n_total)
        return 0.5 * (residual**2).sum() / n_total, LossCache(z, targets, n_total, residual / n_total, h)

    def adjoint(self, cache: LossCache, a_loss: Scalar, a_g_z: Array | None, a_h_z: Array | None) -> Array:
        a_z = like(a_loss, cache.p) * self.backward(cache)
        return a_z if a_g_z is None else a_z + a_g_z / cache.n_total

    def hessian_root(self, cache: LossCache) -> Iterator[Array]:
        for c in range(cache.p.shape[0]):
            column = array_module(cache.p).zeros_like(cache.p)
            column[c] = cache.n_total**-0.5
            yield column

    def random_root(self, cache: LossCache, uniforms: np.ndarray) -> Array:
        # independent signs: E[s s^T] = I / N
        u = to_backend(array_module(cache.p), uniforms)
        return ((2 * (u < 0.5) - 1) / cache.n_total**0.5).astype(cache.p.dtype)
