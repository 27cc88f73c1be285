"""Mini-batches on the GPU: the same bits as on the CPU, in memory and streamed."""

from itertools import islice

import numpy as np
import pytest

from l2lnp.data.augmentation import Augmentation
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.streaming import load_file

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("memory_limit_bytes", [1 << 30, 0], ids=["memory", "streamed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_have_the_same_bits(gpu, tmp_path, memory_limit_bytes, dtype):
    rng = np.random.default_rng(0)
    splits = {
        s: (rng.integers(0, 256, (300, 9, 8, 3), np.uint8), rng.integers(0, 7, 300))
        for s in ("train", "test")
    }
    write_dataset(tmp_path / "x.h5", Description("x", tuple("abcdefg"), (9, 8, 3), "random"), splits)
    split = load_file(tmp_path / "x.h5", memory_limit_bytes).split("train")
    changes = Augmentation(flip=True, crop_padding=2)
    drawn = [islice(split.batches(3, 64, 2, xp, dtype, changes), 6) for xp in (np, gpu)]
    for (x, labels), (x_gpu, labels_gpu) in zip(*drawn, strict=True):
        assert isinstance(x_gpu, gpu.ndarray)
        np.testing.assert_array_equal(x_gpu.get(), x)
        np.testing.assert_array_equal(labels_gpu.get(), labels)
