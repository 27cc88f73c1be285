"""The reverse of steps of the learned optimizer, what they saw being constant, from states that were kept.

On a GPU it is one launch a step (the twin in `l2lnp.kernels.cuda`). On the CPU there is none: states are
computed again there, a chunk at a time, so that they stay in cache (`l2lnp.optimizers.lstm`).
"""

from __future__ import annotations

from l2lnp.optimizers.preprocessing import Preprocessing


def is_for(features: Preprocessing) -> bool:
    """Return whether there is a reverse of steps that read ``features``."""
    return False
