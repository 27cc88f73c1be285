"""Compute the next items of an iterator in a background thread while the current one is in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_S = 0.1  # how soon the thread notices that nobody takes items any more


class _End:
    """The last thing in the queue: how the items ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield ``items``, up to ``depth`` of them computed ahead by a thread.

    An error among the items is raised where it would have been. The thread has ended when
    the returned iterator ends, is closed or is dropped; at the end of the program it ends
    by itself.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ready, stopped), name="l2lnp-prefetch")
    return _drain(thread, ready, stopped)


def _fill(items: Iterator[T], ready: queue.Queue[T | _End], stopped: threading.Event) -> None:
    error = None
    try:
        for item in items:
            if not _put(item, ready, stopped):
                break
    except BaseException as raised:
        error = raised
    if isinstance(items, Generator):
        items.close()
    _put(_End(error), ready, stopped)


def _put(item: T | _End, ready: queue.Queue[T | _End], stopped: threading.Event) -> bool:
    """Wait for a free place, and say whether there was one while somebody still wanted items."""
    while not stopped.is_set() and threading.main_thread().is_alive():
        try:
            ready.put(item, timeout=_PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False


def _drain(thread: threading.Thread, ready: queue.Queue[T | _End], stopped: threading.Event) -> Iterator[T]:
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        with suppress(queue.Empty):  # makes room, so that a waiting thread goes on at once
            ready.get_nowait()
        if thread is not threading.current_thread():
            thread.join()
