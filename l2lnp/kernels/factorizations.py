"""Factorizations of matrices, in the precision of the matrix."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from l2lnp.backend import Array, array_module


def qr(a: Array) -> tuple[Array, Array]:
    """Return Q and the diagonal of R, a = Q R; a is square.

    NumPy's own works in float64 whatever it is given, and so takes twice as long in float32.
    """
    xp = array_module(a)
    if xp is not np:
        q, r = xp.linalg.qr(a)
        return q, xp.diagonal(r)
    geqrf, orgqr = lapack.get_lapack_funcs(("geqrf", "orgqr"), (a,))
    work = 32 * a.shape[0]  # 32 columns at a time
    reflectors, tau, *_ = geqrf(a, lwork=work)
    diagonal = np.diagonal(reflectors).copy()
    q, *_ = orgqr(reflectors, tau, lwork=work, overwrite_a=True)
    return q, diagonal
