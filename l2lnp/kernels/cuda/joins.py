"""`l2lnp.kernels.joins` in a CUDA kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, structure

_THREADS = 256
_MOST_PARTS = 8  # of a launch


def join(parts: Sequence[Array]) -> Array:
    """Return the numbers of ``parts``, one after the other, as a new vector (n,)."""
    xp = array_module(*parts)
    joined = xp.empty(sum(part.size for part in parts), parts[0].dtype)
    check(joined.dtype, **{f"part_{i}": (part, part.shape) for i, part in enumerate(parts)})
    function = kernel(xp, "joins.cu", "join", joined.dtype, PARTS=_MOST_PARTS)
    begin = 0
    for first in range(0, len(parts), _MOST_PARTS):
        # matrices are read in whatever order they lie; of others, rows that do not lie together are copied
        chosen = parts[first : first + _MOST_PARTS]
        matrices = [part.reshape(part.shape[0] if part.ndim > 1 else 1, -1) for part in chosen]
        rows, n = [], 0
        for m in matrices:
            rows += [m.data.ptr, n, max(1, m.shape[1]), *(stride // m.itemsize for stride in m.strides)]
            n += m.size
        rows += [0] * (5 * (_MOST_PARTS - len(matrices)))
        here = joined[begin : begin + n]
        launch(function, blocks(n, _THREADS), _THREADS, structure(rows), np.int32(len(matrices)), here, n)
        begin += n
    return joined
