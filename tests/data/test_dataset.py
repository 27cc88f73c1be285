"""Splits and mini-batches, in memory."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.data import load_dataset
from l2lnp.data.dataset import in_memory
from l2lnp.data.hdf5 import Description
from l2lnp.errors import InputError
from l2lnp.randomness import generator


def random_arrays(n_train=40, n_test=11):
    """Pictures whose every value is the label, so that a mix-up shows."""
    rng = np.random.default_rng(5)
    labels = {"train": rng.integers(0, 250, n_train), "test": rng.integers(0, 250, n_test)}
    return {
        split: (np.broadcast_to(y[:, None, None, None], (len(y), 3, 2, 1)).astype(np.uint8), y)
        for split, y in labels.items()
    }


@pytest.fixture(scope="module")
def dataset():
    names = tuple(f"class {i}" for i in range(250))
    return in_memory(Description("random", names, (3, 2, 1), "drawn at random"), random_arrays())


def recovered(dataset, x):
    return np.rint(255 * (x * dataset.deviation[0] + dataset.mean[0])).astype(int)


def test_splits_are_the_file_s_parts(dataset):
    train, validation = dataset.split("train"), dataset.split("validation")
    assert (train.n_samples, validation.n_samples, dataset.split("test").n_samples) == (36, 4, 11)
    order = np.random.default_rng(0).permutation(40)
    whole = random_arrays()["train"][1]
    assert sorted(validation.labels) == sorted(whole[order[-4:]])
    assert sorted(np.concatenate([train.labels, validation.labels])) == sorted(whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_is_normalised_and_batch_last(dataset, dtype):
    split = dataset.split("train")
    x, targets = split.batch(np.array([3, 0, 3]), dtype=dtype)
    assert x.shape == (1, 3, 2, 3)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    assert targets.dtype == np.int64
    np.testing.assert_array_equal(targets, split.labels[[3, 0, 3]])
    expected = (split.labels[[3, 0, 3]] / 255 - dataset.mean[0]) / dataset.deviation[0]
    np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), rtol=1e-5)


def test_rows_and_columns_and_colours_stay_what_they_are():
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (30, 4, 5, 3), np.uint8), rng.integers(0, 2, 30)
    description = Description("colours", ("a", "b"), (4, 5, 3), "drawn at random")
    dataset = in_memory(description, {"train": (images, labels), "test": (images // 2, labels)})
    x, _ = dataset.split("test").batch(np.array([7]), dtype=np.float64)
    scaled = (images[7] // 2 / 255 - dataset.mean) / dataset.deviation
    np.testing.assert_allclose(x[..., 0], scaled.transpose(2, 0, 1), rtol=1e-12, atol=1e-12)
    whole = (images / 255 - dataset.mean) / dataset.deviation
    np.testing.assert_allclose(whole.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(whole.std((0, 1, 2)), 1, rtol=1e-12)


def test_an_epoch_is_the_permutation_of_its_generator(dataset):
    split = dataset.split("train")
    order = generator(7, "batches", 1).permutation(36)
    for i, (x, targets) in enumerate(islice(split.batches(7, 10, start_step=3), 3)):
        np.testing.assert_array_equal(targets, split.labels[order[10 * i : 10 * i + 10]])
        np.testing.assert_array_equal(recovered(dataset, x)[0, 0, 0], targets)


@given(st.integers(0, 2**32 - 1), st.integers(1, 36), st.integers(0, 90))
def test_a_resumed_run_sees_the_same_batches(dataset, seed, batch_size, start):
    split = dataset.split("train")
    whole = islice(split.batches(seed, batch_size), start, start + 5)
    resumed = islice(split.batches(seed, batch_size, start_step=start), 5)
    for (x, targets), (x_again, targets_again) in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(targets, targets_again)


def test_every_sample_once_an_epoch(dataset):
    split = dataset.split("train")
    seen = np.concatenate([targets for _, targets in islice(split.batches(0, 12), 3)])
    assert sorted(seen) == sorted(split.labels)


@pytest.mark.parametrize("batch_size", [1, 5, 6, 36, 40])
def test_in_order_every_sample_comes_once_the_last_ones_too(dataset, batch_size):
    split = dataset.split("train")
    batches = list(split.in_order(batch_size))
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in batches]), split.labels)
    for x, targets in batches:
        np.testing.assert_array_equal(recovered(dataset, x)[0, 0, 0], targets)


@pytest.mark.parametrize("batch_size", [0, -1, 37])
def test_refuses_impossible_batch_sizes_at_once(dataset, batch_size):
    with pytest.raises(InputError, match="choose a batch size from 1 to 36"):
        dataset.split("train").batches(0, batch_size)


def test_refuses_unknown_names():
    with pytest.raises(InputError, match="did you mean 'train'"):
        load_dataset("digits").split("trian")
    with pytest.raises(InputError, match="unknown data set 'digit': did you mean 'digits'"):
        load_dataset("digit")
    with pytest.raises(InputError, match="--data-dir"):
        load_dataset("mnist")


def test_refuses_a_split_without_samples():
    arrays = random_arrays(n_test=0)
    names = tuple(f"class {i}" for i in range(250))
    dataset = in_memory(Description("random", names, (3, 2, 1), "drawn at random"), arrays)
    with pytest.raises(InputError, match="'random' holds no test samples: import it again with more"):
        dataset.split("test")
