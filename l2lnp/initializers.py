"""Initial weights, drawn on the host in float64 so that every backend and dtype starts alike."""

from __future__ import annotations

import numpy as np


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw W (O, K) from N(0, 2 / K) (He et al. 2015, eq. 10)."""
    return rng.normal(0.0, np.sqrt(2.0 / shape[1]), shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw W (O, K) uniformly within +-sqrt(6 / (O + K)) (Glorot & Bengio 2010, eq. 16)."""
    bound = np.sqrt(6.0 / (shape[0] + shape[1]))
    return rng.uniform(-bound, bound, shape)
