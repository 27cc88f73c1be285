"""Moving averages (`l2lnp.optimizers.signals.advance`) in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from l2lnp.backend import Array, array_module
from l2lnp.kernels.cuda import blocks, check, kernel, launch, pointer, row_stride

if TYPE_CHECKING:
    from l2lnp.optimizers.signals import Average

_THREADS = 256
_OBSERVED = {"g": "G", "g^2": "G_SQUARED", "|h|": "H_SIZE"}  # as in signals.cu


def advance(averages: Sequence[Average], moments: Array, g: Array, h: Array | None) -> Array:
    """Return the moments (n_moments, n) after a step that saw g and h (n,)."""
    xp, n = array_module(moments, g), g.size
    after = xp.empty_like(moments)
    if not averages:
        return after
    observed = ",".join(_OBSERVED[average.of] for average in averages)
    g, h = xp.ascontiguousarray(g), h if h is None else xp.ascontiguousarray(h)
    check(g.dtype, moments=(moments, (len(averages), n)), **({} if h is None else {"h": (h, (n,))}))
    launch(
        kernel(xp, "signals.cu", "moving_averages", g.dtype, **told(averages), OBSERVED=observed),
        blocks(n, _THREADS),
        _THREADS,
        *(g, pointer(h), moments, row_stride(moments), after, row_stride(after), n),
    )
    return after


def told(averages: Sequence[Average]) -> dict[str, int | str]:
    """Return what kernels are told of ``averages`` when they are compiled."""
    return {"AVERAGES": len(averages), "DECAYS": ",".join(repr(average.decay) for average in averages)}
