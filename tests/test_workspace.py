"""The arena: what is lent belongs to the caller until the last reference is gone."""

import gc

import numpy as np

from l2lnp.workspace import Fresh, Workspace

LIKE = np.zeros(0, np.float32)


def address(a):
    return a.__array_interface__["data"][0]


def test_lent_memory_comes_back_only_when_nobody_refers_to_it():
    space = Workspace()
    first = space.lend((4, 250), LIKE)
    assert (first.shape, first.dtype) == ((4, 250), np.float32)
    assert address(first) % 64 == 0
    view, where = first[1:, ::2].T, address(first)
    del first
    gc.collect()
    view[...] = 7
    second = space.lend((1000,), LIKE)
    second[...] = 0
    assert address(second) != where
    assert (view == 7).all()
    del view
    gc.collect()
    assert address(space.lend((500,), np.zeros(0))) == where  # as many bytes, of another dtype


def test_memory_of_another_size_is_not_kept():
    space = Workspace()
    for n in range(1, 50):
        space.lend((n,), LIKE)
    gc.collect()
    assert len(space._returned) == 1


def test_an_array_outlives_the_arena():
    space = Workspace()
    lent = space.lend((10,), LIKE)
    del space
    lent[...] = 3
    np.testing.assert_array_equal(lent, 3)


def test_without_an_arena_arrays_are_new():
    assert Fresh().lend((2, 3), LIKE).shape == (2, 3)
