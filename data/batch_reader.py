"""Read a CIFAR-10 batch without trusting it: a reader of the few pickle instructions that the batches use.

The official batches are Python pickles, and a pickle is a program that can call
anything. This reader is not that program's machine: it knows 26 instructions, it
imports and calls nothing, and the only things it builds are integers, byte strings,
lists, tuples, dictionaries and uint8 arrays. Anything else is refused. Memory is
bounded by the size of the file: every instruction takes at least one byte of it and
builds one small thing, or takes the bytes of what it builds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l2lnp.errors import InputError

MOST_BYTES = 1 << 26  # an official batch has 31 MB


class _Mark:
    """The instruction ``(``: the beginning of a tuple's, list's or dictionary's members."""


class _Name:
    """One of the three names that a stored array needs; it stands for itself and is never called."""

    def __init__(self, name: bytes) -> None:
        self.name = name


@dataclass
class _Array:
    """An array while it is being read: ``REDUCE`` makes it, ``BUILD`` fills it."""

    values: np.ndarray | None = None


@dataclass
class _Type:
    """The type of a stored array's elements."""

    code: bytes


_RECONSTRUCT = _Name(b"numpy.core.multiarray _reconstruct")
_NDARRAY = _Name(b"numpy ndarray")
_DTYPE = _Name(b"numpy dtype")
_NAMES = {name.name: name for name in (_RECONSTRUCT, _NDARRAY, _DTYPE)}

_FIXED = {b"N": None, b"\x88": True, b"\x89": False}  # instructions that push a constant
_INTEGERS = {b"K": 1, b"M": 2, b"J": 4}  # push an integer of so many bytes
_STRINGS = {b"U": 1, b"T": 4}  # push as many bytes as the next so many bytes say
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}  # make a tuple of so many


def read_batch(content: bytes, name: str) -> dict[bytes, Any]:
    """Return the dictionary in a batch file's ``content``; ``name`` is for messages.

    Raises
    ------
    InputError
        If it is anything but the instructions of an official batch.
    """
    if len(content) > MOST_BYTES:
        raise InputError(f"{name} has {len(content)} bytes, an official CIFAR-10 batch at most {MOST_BYTES}")
    try:
        value = _Reader(content).run()
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        reason = f" ({error})" if isinstance(error, ValueError) else ""
        raise InputError(f"{name} is no official CIFAR-10 batch, or is damaged{reason}") from None
    if not isinstance(value, dict):
        raise InputError(f"{name} is no official CIFAR-10 batch: it holds no dictionary")
    return {key: item.values if isinstance(item, _Array) else item for key, item in value.items()}


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow the instructions to the one that ends them, and return what they leave."""
        while (code := self._take(1)) != b".":
            self._step(code)
        (value,) = self._stack
        return value

    def _step(self, code: bytes) -> None:
        push = self._stack.append
        if code in _FIXED:
            push(_FIXED[code])
        elif code in _INTEGERS:
            push(int.from_bytes(self._take(_INTEGERS[code]), "little", signed=code == b"J"))
        elif code in _STRINGS:
            push(self._take(self._number(_STRINGS[code])))
        elif code in _TUPLES:
            push(tuple(self._pop(_TUPLES[code])))
        else:
            _OTHERS[code](self)

    def _take(self, n: int) -> bytes:
        taken = self._content[self._place : self._place + n]
        if len(taken) < n:
            raise ValueError("it ends too early")
        self._place += n
        return taken

    def _number(self, n_bytes: int) -> int:
        return int.from_bytes(self._take(n_bytes), "little")

    def _pop(self, n: int) -> list[Any]:
        if n > len(self._stack):
            raise ValueError("it takes what is not there")
        popped = self._stack[-n:]
        del self._stack[-n:]
        return popped

    def _pop_to_mark(self) -> list[Any]:
        for n, value in enumerate(reversed(self._stack)):
            if isinstance(value, _Mark):
                return self._pop(n + 1)[1:]
        raise ValueError("it takes what is not there")

    def _protocol(self) -> None:
        if self._take(1) != b"\x02":
            raise ValueError("not of protocol 2")

    def _name(self) -> None:
        end = self._content.index(b"\n", self._content.index(b"\n", self._place, self._place + 99) + 1)
        module, name, _ = self._take(end + 1 - self._place).split(b"\n")
        full = module + b" " + name
        if full not in _NAMES:
            raise ValueError(f"it asks for {full[:60]!r}")
        self._stack.append(_NAMES[full])

    def _append(self) -> None:
        values = self._pop_to_mark()
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("it appends to what is no list")
        target.extend(values)

    def _set_items(self) -> None:
        values = self._pop_to_mark()
        target = self._stack[-1]
        if type(target) is not dict or not all(type(key) is bytes for key in values[::2]):
            raise ValueError("it sets items of what is no dictionary")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _reduce(self) -> None:
        """Make an empty array or a type; nothing else can be made by calling."""
        what, arguments = self._pop(2)
        if what is _RECONSTRUCT and arguments == (_NDARRAY, (0,), b"b"):
            self._stack.append(_Array())
        elif what is _DTYPE and arguments == (b"u1", 0, 1):
            self._stack.append(_Type(b"u1"))
        else:
            raise ValueError("it calls something")

    def _build(self) -> None:
        """Fill an array: (version, shape, type, in Fortran order?, bytes); a type needs no filling."""
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, _Array):
            _, shape, kind, fortran, values = state
            if not isinstance(kind, _Type) or fortran is not False or type(values) is not bytes:
                raise ValueError("an array of another type than uint8")
            if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
                raise ValueError("an array of impossible shape")
            target.values = np.frombuffer(values, np.uint8).reshape(shape)
        elif not isinstance(target, _Type):
            raise ValueError("it builds something")

    def _remember(self, n_bytes: int) -> None:
        self._memo[self._number(n_bytes)] = self._stack[-1]

    def _recall(self, n_bytes: int) -> None:
        self._stack.append(self._memo[self._number(n_bytes)])


_OTHERS = {
    b"\x80": _Reader._protocol,
    b"(": lambda reader: reader._stack.append(_Mark()),
    b"}": lambda reader: reader._stack.append({}),
    b"]": lambda reader: reader._stack.append([]),
    b"t": lambda reader: reader._stack.append(tuple(reader._pop_to_mark())),
    b"e": _Reader._append,
    b"u": _Reader._set_items,
    b"c": _Reader._name,
    b"R": _Reader._reduce,
    b"b": _Reader._build,
    b"q": lambda reader: reader._remember(1),
    b"r": lambda reader: reader._remember(4),
    b"h": lambda reader: reader._recall(1),
    b"j": lambda reader: reader._recall(4),
}
