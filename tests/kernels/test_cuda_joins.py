"""Tensors as one vector, in a CUDA kernel run on the CPU."""

import numpy as np
import pytest
from stand_in.graphs import DEVICE

from l2lnp.kernels import joins, twin

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (1, 7), (6, 1), (1,), (2, 2), (300, 2), (4,)]


def parts_of(cupy, dtype, shapes):
    rng = np.random.default_rng(0)
    return [cupy.asarray(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def joined(cupy, parts, n_launches):
    before = DEVICE.n_launches
    result = twin(joins, parts[0]).join(parts)
    assert DEVICE.n_launches - before == n_launches
    assert result.dtype == parts[0].dtype
    expected = np.concatenate([part.get().reshape(-1) for part in parts])
    np.testing.assert_array_equal(result.get(), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_parts", [1, 7, 8, 9, 10])
def test_parts_of_every_shape(cupy, dtype, n_parts):
    joined(cupy, parts_of(cupy, dtype, SHAPES[:n_parts]), -(-n_parts // 8))


def test_matrices_in_whatever_order(cupy):
    a, b, c = parts_of(cupy, np.float32, [(3, 4), (5, 6), (3, 2, 4)])
    joined(cupy, [a.T, b[:, ::2], b[1:4, 2:]], 1)
    joined(cupy, [a, c.swapaxes(0, 2), b], 2)  # one is copied first


def test_other_types_are_refused(cupy):
    (a,), (b,) = (parts_of(cupy, dtype, [(3,)]) for dtype in (np.float32, np.float64))
    with pytest.raises(ValueError, match="part_1"):
        twin(joins, a).join([a, b])
