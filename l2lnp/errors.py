"""What goes wrong on bad input: one sentence that says what, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input; the message is one sentence for the user. The command line exits with code 2."""


class DivergedError(ArithmeticError):
    """A run met numbers that are not finite and could not go on."""


def check_positive(what: str, **sizes: int) -> None:
    """Raise `InputError` unless every one of the ``sizes`` of ``what`` is a positive whole number."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{what}: {name} must be a positive whole number, not {value!r}")


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown ``name``, with the nearest known one suggested.

    >>> str(unknown_name("optimizer", "adan", ["adam", "sgd"]))
    "unknown optimizer 'adan': did you mean 'adam'? Known: adam, sgd"
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean '{near[0]}'? Known" if near else "; known"
    return InputError(f"unknown {what} '{name}'{hint}: {', '.join(known)}")
