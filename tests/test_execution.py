"""How work is cut: arenas, lanes, threads, random streams."""

import operator
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.randomness import generator
from l2lnp.workspace import Fresh, Workspace


def test_an_arena_hands_the_same_memory_out_again():
    arena, like = Workspace(), np.zeros(1, np.float32)
    a = arena.empty("y", (4, 3), like)
    assert np.shares_memory(a, arena.empty("y", (3, 2), like))
    assert not np.shares_memory(a, arena.empty("x", (4, 3), like))
    assert not np.shares_memory(a, arena.scope(1).empty("y", (4, 3), like))
    assert arena.scope(1) is arena.scope(1)
    wide = arena.empty("y", (4, 3), np.zeros(1))
    assert wide.dtype == np.float64
    assert not np.shares_memory(a, wide)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_arenas_align_to_cache_lines(size):
    assert Workspace().empty("y", (size,), np.zeros(1, np.float32)).ctypes.data % 64 == 0


def test_without_an_arena_every_array_is_new():
    like = np.zeros(1)
    assert not np.shares_memory(Fresh().empty("y", (3,), like), Fresh().empty("y", (3,), like))


@pytest.mark.parametrize("threads", [1, 3])
def test_every_sample_goes_through_once_and_in_order(threads):
    execution = Execution(threads=threads, micro_batch=3, lanes=4)
    for n in (1, 3, 11, 25):
        seen = execution.over_batch(lambda span, space, n=n: list(range(n))[span], n, operator.add)
        assert seen == list(range(n))


def test_lanes_are_the_unit_of_threads_and_threads_have_arenas_of_their_own():
    execution = Execution(threads=2, micro_batch=1, lanes=2)
    both_began = threading.Barrier(2)

    def micro_batch(span, space):
        if span.start in (0, 2):  # the first of each lane
            both_began.wait(timeout=10)
        return [(id(space), threading.get_ident(), span.start)]

    seen = execution.over_batch(micro_batch, 4, operator.add)
    arenas = {}
    for space, thread, start in seen:
        arenas.setdefault((space, thread), []).append(start)
    assert sorted(arenas.values()) == [[0, 1], [2, 3]]
    assert len({space for space, _ in arenas}) == len({thread for _, thread in arenas}) == 2


def test_blas_is_held_to_one_thread():
    def blas_threads(_):
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    for seen in Execution(threads=2).map(blas_threads, 2):
        assert set(seen) == {1}


def test_an_error_in_a_thread_is_raised():
    def fail(i):
        raise KeyError(i)

    with pytest.raises(KeyError):
        Execution(threads=2).map(fail, 2)


@pytest.mark.parametrize("name", ["threads", "micro_batch", "lanes", "chunk"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(InputError, match=f"execution: {name} must be a positive whole number, not {value}"):
        Execution(**{name: value})


def test_random_streams_are_independent_and_repeatable():
    first = generator(0, "batches", 1).random(4)
    np.testing.assert_array_equal(first, generator(0, "batches", 1).random(4))
    for other in (generator(1, "batches", 1), generator(0, "batches", 2), generator(0, "theta", 1)):
        assert (other.random(4) != first).all()
