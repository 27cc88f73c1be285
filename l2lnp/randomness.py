"""Random numbers as a pure function of (seed, purpose, index): nothing to store.

A resumed run therefore draws what one never interrupted does. All draws are made on the
host, so that NumPy and CuPy see the same batches and the same initial weights.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return the generator of ``seed`` for one ``purpose``, such as ``("batches", epoch)``.

    Different purposes or indices give independent streams.
    """
    key = (zlib.crc32(purpose.encode()), *index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
