"""Softmax cross-entropy with its first and second derivatives in the network's outputs."""

from __future__ import annotations

from typing import NamedTuple

from l2lnp.backend import Array, array_module


class Softmax(NamedTuple):
    """p = softmax(z) and the targets t, one-hot, of N samples; g and h of the mean loss over all samples."""

    loss: Array  # (), the sum of the samples' losses over n_total
    p: Array  # (C, N)
    t: Array
    g: Array
    h: Array


def softmax_cross_entropy(z: Array, labels: Array, n_total: int) -> Softmax:
    """Return everything of z (C, N) and labels (N,)."""
    xp = array_module(z, labels)
    shifted = z - z.max(0)
    exponentials = xp.exp(shifted)
    total = exponentials.sum(0)
    t = (xp.arange(z.shape[0])[:, None] == labels).astype(z.dtype)
    loss = (xp.log(total) - (shifted * t).sum(0)).sum() / n_total
    p = exponentials / total
    return Softmax(loss, p, t, (p - t) / n_total, p * (1 - p) / n_total)
