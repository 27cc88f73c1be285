"""Random flips and crops of the training pictures, drawn apart from everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l2lnp.errors import InputError
from l2lnp.randomness import generator


@dataclass(frozen=True)
class Augmentation:
    """What is done to each picture of a mini-batch: a pure function of seed and step.

    Parameters
    ----------
    flip
        Mirror left and right with probability 1/2.
    crop_padding
        Pad by this many black pixels on each side, then cut the original size out at a
        random place.
    """

    flip: bool = False
    crop_padding: int = 0

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise InputError(f"crop padding is {self.crop_padding} pixels: it cannot be negative")

    def __call__(self, images: np.ndarray, seed: int, step: int, batch_size: int, share: slice) -> np.ndarray:
        """Return ``images`` (n, H, W, C), the part ``share`` of the mini-batch of ``step``, changed."""
        rng = generator(seed, "augmentation", step)
        flipped = rng.random(batch_size)[share] < 0.5
        corners = rng.integers(0, 2 * self.crop_padding + 1, (batch_size, 2))[share]
        if self.crop_padding:
            images = _crop(images, self.crop_padding, corners)
        if self.flip:
            images = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
        return images


def _crop(images: np.ndarray, padding: int, corners: np.ndarray) -> np.ndarray:
    _, height, width, _ = images.shape
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(images, sides)
    cut = np.empty_like(images)
    for i, (row, column) in enumerate(corners):
        cut[i] = padded[i, row : row + height, column : column + width]
    return cut
