"""Join comparisons that differ in their seeds alone: run on several machines, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Comparison

_MAY_DIFFER = ("title", "command", "seeds", "clock", "environment")
# What is meant where nothing is said, as on pages made before it was asked for.
_FORMER = {"backend": "numpy"}


def join(parts: Sequence[Comparison], command: str) -> Comparison:
    """Return one comparison with the seeds of all; title and clock are the first one's.

    Parameters
    ----------
    command
        The one that joins; it is told beside those of the parts.

    Raises
    ------
    InputError
        If the parts do not compare the same, or a seed is in two of them.
    """
    first = parts[0].about
    for number, (other, *_) in enumerate(parts[1:], 2):
        keys = (first | other).keys() - {*_MAY_DIFFER}
        odd = sorted(key for key in keys if _said(first, key) != _said(other, key))
        if odd:
            raise InputError(
                "results can be joined if they differ in their seeds alone: "
                f"numbers 1 and {number} of these differ in {', '.join(odd)}"
            )
    seeds = [seed for part in parts for seed in part.about["seeds"]]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise InputError(f"seed {twice[0]} is in two of the results to be joined: each seed counts once")
    if len({frozenset(row["step"] for row in part.errors) for part in parts}) > 1:
        raise InputError(
            "results cannot be joined if their errors were measured at other steps (--eval-every)"
        )
    place = {name: i for i, name in enumerate(first["contenders"])}
    tables = (
        sorted(
            (row for part in parts for row in getattr(part, table)),
            key=lambda row: (place[row["contender"]], row["seed"]),
        )
        for table in ("seeds", "curves", "errors")
    )
    about = {
        **first,
        "command": "\n".join([*(part.about["command"] for part in parts), command]),
        "seeds": sorted(seeds),
        "environment": _together([part.about.get("environment", {}) for part in parts]),
    }
    return Comparison(about, *tables)


def _said(about: dict[str, Any], key: str) -> Any:
    return about.get(key, _FORMER.get(key))


def _together(environments: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return what was used, of each thing all versions that occur."""
    names = dict.fromkeys(name for environment in environments for name in environment)
    return {name: ", ".join(dict.fromkeys(e[name] for e in environments if name in e)) for name in names}
