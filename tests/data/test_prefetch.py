"""Items computed ahead by a thread."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from l2lnp.data.prefetch import prefetch


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name == "l2lnp-prefetch"]


def wait_until(condition, at_most_s=5.0):
    deadline = time.monotonic() + at_most_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_items_come_in_order():
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert wait_until(lambda: not prefetch_threads())


def test_never_more_ahead_than_asked():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    assert wait_until(lambda: len(taken) == 4)  # one in use, two ready, one waiting for room
    time.sleep(0.05)
    assert len(taken) == 4
    ahead.close()


def test_an_error_comes_where_it_would_have_been():
    def items():
        yield 1
        raise KeyError("second")

    ahead = prefetch(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="second"):
        next(ahead)
    assert wait_until(lambda: not prefetch_threads())


def test_the_thread_ends_when_the_iterator_is_dropped():
    ended = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    ahead = prefetch(prefetch(items(), 2), 2)
    next(ahead)
    del ahead
    gc.collect()
    assert ended.is_set()
    assert not prefetch_threads()


ENDLESS = """
import itertools
from l2lnp.data.prefetch import prefetch

ahead = prefetch(prefetch(itertools.count(), 1), 1)
next(ahead)
"""


def test_a_program_ends_although_items_are_left():
    subprocess.run([sys.executable, "-c", ENDLESS], check=True, timeout=60)
