"""Flips and crops: what they do to a picture, and that they are functions of seed and step alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.data.augmentation import Augmentation
from l2lnp.errors import InputError
from l2lnp.randomness import generator

ALL = slice(None)


def pictures(n=50, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (n, 6, 5, 3), np.uint8)


def is_crop(out, image, padding):
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = image.shape
    places = [(r, c) for r in range(2 * padding + 1) for c in range(2 * padding + 1)]
    return any(np.array_equal(out, padded[r : r + height, c : c + width]) for r, c in places)


def test_flip_mirrors_about_half():
    images = pictures(400)
    out = Augmentation(flip=True)(images, 1, 2, 400, ALL)
    mirrored = [np.array_equal(o, i[:, ::-1]) for o, i in zip(out, images, strict=True)]
    kept = [np.array_equal(o, i) for o, i in zip(out, images, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 140 < sum(mirrored) < 260  # 6 standard deviations


def test_crop_cuts_the_padded_picture_anywhere():
    images = pictures()
    out = Augmentation(crop_padding=2)(images, 1, 2, 50, ALL)
    assert all(is_crop(o, i, 2) for o, i in zip(out, images, strict=True))
    assert len({(o == 0).all((1, 2)).tobytes() + (o == 0).all((0, 2)).tobytes() for o in out}) > 10


def test_crops_are_the_same_with_and_without_flips():
    images = np.concatenate([pictures(30), pictures(30)[:, :, ::-1]])
    crops = Augmentation(crop_padding=2)(images, 1, 2, 60, ALL)
    both = Augmentation(flip=True, crop_padding=2)(images, 1, 2, 60, ALL)
    same = [np.array_equal(b, c) for b, c in zip(both, crops, strict=True)]
    mirrored = [np.array_equal(b, c[:, ::-1]) for b, c in zip(both, crops, strict=True)]
    assert all(s or m for s, m in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_nothing_asked_changes_nothing():
    images = pictures()
    np.testing.assert_array_equal(Augmentation()(images, 1, 2, 50, ALL), images)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_function_of_seed_and_step_and_place_in_the_batch(seed, step):
    images = pictures(12)
    images.setflags(write=False)
    augmentation = Augmentation(flip=True, crop_padding=1)
    whole = augmentation(images, seed, step, 12, ALL)
    np.testing.assert_array_equal(augmentation(images[4:8], seed, step, 12, slice(4, 8)), whole[4:8])
    assert not np.array_equal(augmentation(images, seed, step + 1, 12, ALL), whole)


def test_it_draws_from_a_stream_of_its_own():
    """Neither the order of the mini-batches nor anything else changes what is drawn."""
    images, rng = pictures(30), generator(8, "augmentation", 5)
    flipped, corners = rng.random(30) < 0.5, rng.integers(0, 3, (30, 2))
    out = Augmentation(flip=True, crop_padding=1)(images, 8, 5, 30, ALL)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i, (row, column) in enumerate(corners):
        cut = padded[i, row : row + 6, column : column + 5]
        np.testing.assert_array_equal(out[i], cut[:, ::-1] if flipped[i] else cut)


def test_refuses_negative_padding():
    with pytest.raises(InputError, match="crop padding is -1"):
        Augmentation(crop_padding=-1)
