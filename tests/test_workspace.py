"""The arena: what is lent belongs to the caller until the last reference is gone."""

import gc
import tracemalloc

import numpy as np
from networks_of_all_kinds import draw_batch

from l2lnp.execution import Execution
from l2lnp.layers import Activation, Conv2D, Flatten, FullyConnected, MaxPool2D, SoftmaxCrossEntropy
from l2lnp.network import Sequential
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


def test_a_sweep_allocates_nothing_big_in_the_steady_state():
    layers = Conv2D(1, 8, 3), Activation("relu"), MaxPool2D(2), Flatten(), FullyConnected(8 * 49, 5)
    network = Sequential(layers, SoftmaxCrossEntropy(), (1, 16, 16))
    theta, x, labels = draw_batch(network, n_samples=64, dtype=np.float32)
    one_activation = 8 * 14 * 14 * 64 * x.itemsize

    def peak_bytes(execution):
        network.evaluate(theta, x, labels, execution=execution)
        tracemalloc.start()
        try:
            network.evaluate(theta, x, labels, execution=execution)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(Execution()) < one_activation / 3
    assert peak_bytes(Execution(workspace=NoArena())) > 3 * one_activation


class NoArena(Workspace):
    """An arena that makes every array anew."""

    def scope(self, key):
        return Fresh()
