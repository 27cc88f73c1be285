"""`l2lnp.kernels.losses` in a CUDA kernel."""

from __future__ import annotations

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, reductions
from l2lnp.kernels.losses import Softmax

_THREADS = 128


def softmax_cross_entropy(z: Array, labels: Array, n_total: int) -> Softmax:
    """Return everything of z (C, N) and labels (N,); the loss is no number where a label is no class."""
    xp = array_module(z, labels)
    c, n = z.shape
    z, labels = xp.ascontiguousarray(z), labels.astype(np.int64, copy=False)
    check(np.int64, labels=(labels, (n,)))
    p, t, g, h = (xp.empty(z.shape, z.dtype) for _ in range(4))
    losses = xp.empty(n, z.dtype)
    function = kernel(xp, "losses.cu", "softmax_cross_entropy", z.dtype)
    sizes = z.dtype.type(n_total), np.int32(c), np.int32(n)
    launch(function, blocks(n, _THREADS), _THREADS, z, labels, losses, p, t, g, h, *sizes)
    return Softmax(reductions.row_sums(losses[None])[0], p, t, g, h)
