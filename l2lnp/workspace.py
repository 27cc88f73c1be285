"""Arena of reusable arrays: in the steady state of training, nothing big is allocated."""

from __future__ import annotations

from collections.abc import Hashable
from math import prod

import numpy as np

from l2lnp.backend import Array, array_module

_ALIGNMENT_BYTES = 64


class Fresh:
    """The arena of a caller that gave none: every request is a new array."""

    def scope(self, key: Hashable) -> Fresh:
        """Return the arena of a part of the computation; here always this one."""
        return self

    def empty(self, key: Hashable, shape: tuple[int, ...], like: Array) -> Array:
        """Return a new uninitialised array of the library and dtype of ``like``."""
        return array_module(like).empty(shape, like.dtype)

    def lend(self, shape: tuple[int, ...], like: Array) -> Array:
        """Return an uninitialised array that is the caller's for as long as anyone refers to it."""
        return array_module(like).empty(shape, like.dtype)


class Workspace(Fresh):
    """Arrays by key, handed out again at every call: valid until the same key is asked for again.

    Each layer of each thread (see `l2lnp.execution`) gets a scope of its own, so that
    neither layers nor threads share an array.
    """

    def __init__(self) -> None:
        self._scopes: dict[Hashable, Workspace] = {}
        self._buffers: dict[Hashable, Array] = {}
        self._returned: list[Array] = []

    def scope(self, key: Hashable) -> Workspace:
        """Return the arena called ``key`` inside this one."""
        if key not in self._scopes:
            self._scopes[key] = Workspace()
        return self._scopes[key]

    def empty(self, key: Hashable, shape: tuple[int, ...], like: Array) -> Array:
        """Return an array with the library and dtype of ``like``, its contents left over from earlier."""
        slot = (key, like.dtype, array_module(like))
        size = prod(shape)
        buffer = self._buffers.get(slot)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[slot] = _aligned(size, like)
        return buffer[:size].reshape(shape)

    def lend(self, shape: tuple[int, ...], like: Array) -> Array:
        """Return an uninitialised array that is the caller's as long as anyone refers to it or a view.

        Then its memory is lent again, to whoever asks for as much: big arrays that replace
        each other at every step come without the cost of new pages.
        """
        if not isinstance(like, np.ndarray):
            return super().lend(shape, like)  # other libraries keep memory for themselves
        size = prod(shape) * like.itemsize
        while self._returned:
            buffer = self._returned.pop()
            if buffer.size == size:
                break
        else:
            buffer = _aligned(size, np.empty(0, np.uint8))
        lent: Array = np.asarray(_Loan(buffer, self._returned))
        return lent.view(like.dtype).reshape(shape)


class _Loan:
    """Memory that arrays refer to; it goes back when the last of them is gone."""

    def __init__(self, buffer: np.ndarray, returned: list[Array]) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer = buffer
        self._returned = returned

    def __del__(self) -> None:
        self._returned.append(self._buffer)


def _aligned(size: int, like: Array) -> Array:
    xp = array_module(like)
    spare = _ALIGNMENT_BYTES // like.dtype.itemsize
    raw = xp.empty(size + spare, like.dtype)
    address = raw.ctypes.data if xp.__name__ == "numpy" else raw.data.ptr
    skip = (-address % _ALIGNMENT_BYTES) // like.dtype.itemsize
    return raw[skip : skip + size]
