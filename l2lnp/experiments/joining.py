"""Join comparisons of which each ran a part: some of the seeds, or some of the contenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Comparison, Row

Run: TypeAlias = tuple[str, int]  # a contender and a seed

_MAY_DIFFER = (
    *("title", "command", "command_sha256", "seeds", "contenders", "reference", "tuning_seeds"),
    *("clock", "environment"),
)
# What is meant where nothing is said, as on pages made before it was asked for.
_FORMER = {"backend": "numpy"}


def join(parts: Sequence[Comparison], command: Mapping[str, str], replace: bool = False) -> Comparison:
    """Return one comparison with the seeds and contenders of all; title, clock and reference are the first's.

    Parameters
    ----------
    command
        The one that joins (`comparison.this_command`); it is told beside those of the parts.
    replace
        Whether a contender's run of a seed counts instead of that in parts before it.

    Raises
    ------
    InputError
        If the parts do not compare the same, a contender's run of a seed is in two of them or in none,
        or runs of other settings have one name.
    """
    first = parts[0].about
    for number, (other, *_) in enumerate(parts[1:], 2):
        keys = (first | other).keys() - {*_MAY_DIFFER}
        odd = sorted(key for key in keys if _said(first, key) != _said(other, key))
        if odd:
            raise InputError(
                "results can be joined if they differ in their seeds or contenders alone: "
                f"numbers 1 and {number} of these differ in {', '.join(odd)}"
            )
    if len({frozenset(row["step"] for row in part.errors) for part in parts}) > 1:
        raise InputError(
            "results cannot be joined if their errors were measured at other steps (--eval-every)"
        )
    source = _sources(parts, replace)
    about = {
        **first,
        "command": "\n".join([*(part.about["command"] for part in parts), command["command"]]),
        "command_sha256": command["command_sha256"],
        "seeds": sorted({seed for _, seed in source}),
        "tuning_seeds": _tuning_seeds(parts),
        "contenders": _contenders(parts, source),
        "environment": _together([part.about.get("environment", {}) for part in parts]),
    }
    return Comparison(about, *(_rows(parts, source, table) for table in ("seeds", "curves", "errors")))


def _sources(parts: Sequence[Comparison], replace: bool) -> dict[Run, int]:
    """Return which part a run is taken from, for every contender and every seed."""
    names = dict.fromkeys(name for part in parts for name in part.about["contenders"])
    seeds = sorted({seed for part in parts for seed in part.about["seeds"]})
    source: dict[Run, int] = {}
    for name, seed in product(names, seeds):
        having = [
            number
            for number, (about, *_) in enumerate(parts)
            if name in about["contenders"] and seed in about["seeds"]
        ]
        if not having:
            raise InputError(
                f"results cannot be joined: none has '{name}' with seed {seed}, which another contender has"
            )
        if len(having) > 1 and not replace:
            raise InputError(
                f"'{name}' with seed {seed} is in two of the results to be joined: "
                "each run counts once; with --replace, that of the last result"
            )
        source[name, seed] = having[-1]
    return source


def _contenders(parts: Sequence[Comparison], source: Mapping[Run, int]) -> dict[str, Any]:
    """Return what is said about each contender, which is the same wherever its runs are from."""
    said: dict[str, Any] = {}
    for (name, _), number in source.items():
        about = parts[number].about["contenders"][name]
        if said.setdefault(name, about) != about:
            raise InputError(f"results cannot be joined: they differ in the settings of '{name}'")
    return said


def _tuning_seeds(parts: Sequence[Comparison]) -> list[int]:
    """Return the seeds that baselines were tuned on; a part without baselines has none."""
    found = {tuple(part.about["tuning_seeds"]) for part in parts} - {()}
    if len(found) > 1:
        raise InputError("results cannot be joined: their baselines were tuned on different seeds")
    return list(*found)


def _rows(parts: Sequence[Comparison], source: Mapping[Run, int], table: str) -> list[Row]:
    """Return the rows of a table, in the order of the contenders and seeds."""
    of_runs: dict[Run, list[Row]] = {run: [] for run in source}
    for number, part in enumerate(parts):
        for row in getattr(part, table):
            run = row["contender"], row["seed"]
            if source[run] == number:
                of_runs[run].append(row)
    return [row for rows in of_runs.values() for row in rows]


def _said(about: dict[str, Any], key: str) -> Any:
    return about.get(key, _FORMER.get(key))


def _together(environments: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return what was used, of each thing all versions that occur."""
    names = dict.fromkeys(name for environment in environments for name in environment)
    return {name: ", ".join(dict.fromkeys(e[name] for e in environments if name in e)) for name in names}
