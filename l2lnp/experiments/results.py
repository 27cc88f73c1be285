"""The files of a comparison: ``comparison.json``, ``seeds.csv``, ``curves.csv``, ``errors.csv``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import inf, isnan
from pathlib import Path
from typing import Any, NamedTuple

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Comparison, Row
from l2lnp.experiments.contenders import check_name
from l2lnp.experiments.tuned import Tuned
from l2lnp.files import make_folder, read_text, replace_file

FORMAT = 1
TABLES = ("seeds", "curves", "errors")


class _Number(NamedTuple):
    """What a number in a table may be; a run that diverged has infinite losses, and may have no error."""

    kind: type = float
    low: float = 0
    high: float = sys.float_info.max
    may_be_nan: bool = False
    may_be_empty: bool = False

    def parse(self, text: str) -> Any:
        if self.may_be_empty and text == "":
            return None
        value = self.kind(text)
        if not (self.low <= value <= self.high or (self.may_be_nan and isnan(value))):
            raise ValueError
        return value


_TIME, _LOSS, _ERROR = _Number(), _Number(high=inf), _Number(high=1, may_be_nan=True)
_WHEN_REACHED = _Number(may_be_empty=True)  # empty: never
_SEED = _Number(int, low=-inf)


def write_results(folder: Path, comparison: Comparison) -> None:
    """Write the numbers of a comparison into ``folder``."""
    make_folder(folder)
    for name in TABLES:
        # the page is made of the seeds, and made again from this file: with digits to spare
        style = ".12g" if name == "seeds" else ".6g"
        replace_file(folder / f"{name}.csv", _to_csv(getattr(comparison, name), style).encode())
    text = json.dumps({"format": FORMAT, **comparison.about}, indent=1)
    replace_file(folder / "comparison.json", text.encode() + b"\n")


def holds_another(folder: Path, command: Mapping[str, Any]) -> bool:
    """Return whether ``folder`` holds a run, or results of another command than ``command``.

    As `comparison.this_command` gives it; the checksum was not always told.
    """
    path = folder / "comparison.json"
    if not path.exists():
        return (folder / "config.toml").exists()
    try:
        found = json.loads(read_text(path))
        checksums = {about["command_sha256"] for about in (found, command) if "command_sha256" in about}
        return bool(found["command"] != command["command"] or len(checksums) > 1)
    except (ValueError, LookupError, TypeError):
        return True


def read_results(folder: Path) -> Comparison:
    """Return what `write_results` wrote.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    if not (folder / "comparison.json").exists():
        raise InputError(f"{folder} holds no results of a comparison: it has no comparison.json")
    text, *tables = (read_text(folder / name) for name in ("comparison.json", *(f"{t}.csv" for t in TABLES)))
    try:
        about = json.loads(text)
        if type(about) is not dict or "format" not in about:
            raise ValueError("comparison.json does not say its format")
        if about.pop("format") == FORMAT:
            _check_about(about)
            rows = [_from_csv(name, table, about) for name, table in zip(TABLES, tables, strict=True)]
            return Comparison(about, *rows)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise InputError(f"the results in {folder} are damaged: {error}") from None
    raise InputError(f"{folder} is from another version of l2lnp")


def _check_about(about: dict[str, Any]) -> None:
    """Raise `ValueError` at the first thing that cannot be so."""
    get: Callable[[str], Any] = about.get
    horizons, seeds, contenders = get("horizons"), get("seeds"), get("contenders")
    texts = ("title", "command", "data", "network", "split")
    right = {
        **{key: type(get(key)) is str for key in texts},
        "backend": type(about.get("backend", "")) is str,  # which was not always said
        "batch_size": _are([get("batch_size")], int),
        "horizons": _are(horizons, int) and [0, *horizons] == sorted({0, *horizons}) != [0],
        "seeds": _are(seeds, int) and len(seeds) == len(set(seeds)) > 1,
        "tuning_seeds": _are(get("tuning_seeds"), int),
        "levels": _are(get("levels"), int, float),
        "clock": get("clock") in ("wall", "cpu"),
        "contenders": type(contenders) is dict,
        "reference": type(contenders) is dict and get("reference") in [*contenders],
    }
    if not all(right.values()):
        key = next(key for key in right if not right[key])
        raise ValueError(f"in comparison.json, {key} is missing or cannot be so")
    for name, contender in contenders.items():
        check_name(name)
        try:
            if not (_are([contender["learned"]], bool) and _are([contender["h"]], str)):
                raise ValueError("learned or h")
            for n in horizons if "tuned" in contender else ():
                found = dict(contender["tuned"][str(n)])
                loss, tuned_on = found.pop("loss_on_tuning_seeds"), found.pop("tuning_seeds", [])
                Tuned(found, loss, tuple(tuned_on), ())
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"what comparison.json says about {name} cannot be so ({error})") from None


def _are(values: Any, *kinds: type) -> bool:
    return type(values) is list and all(type(value) in kinds for value in values)


def _to_csv(rows: Sequence[Row], style: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: format(value, style) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()


def _columns(name: str, about: dict[str, Any]) -> dict[str, _Number]:
    """Return the columns of a table, but for the contender, and what may stand in them."""
    step = _Number(int, low=1, high=about["horizons"][-1])
    if name == "curves":
        return {"seed": _SEED, "step": step, "loss": _LOSS, "wall_s": _TIME, "cpu_s": _TIME}
    if name == "errors":
        return {"seed": _SEED, "step": step, "error": _ERROR}
    means = {f"mean_loss_{n}": _LOSS._replace(low=sys.float_info.min) for n in about["horizons"]}
    end = {"final_loss": _LOSS, "final_error": _ERROR, "restarts": _Number(int)}
    reached = {"steps": step._replace(may_be_empty=True), "wall_s": _WHEN_REACHED, "cpu_s": _WHEN_REACHED}
    when = {f"{what}_to_{level:g}": kind for level in about["levels"] for what, kind in reached.items()}
    return {"seed": _SEED, **means, **end, "wall_s": _TIME, "cpu_s": _TIME, **when}


def _from_csv(name: str, text: str, about: dict[str, Any]) -> list[Row]:
    """Return the rows of a table; raise `ValueError` at the first thing in it that cannot be so."""
    columns, reader = _columns(name, about), csv.DictReader(io.StringIO(text))
    given, wanted = Counter(reader.fieldnames or ()), Counter(["contender", *columns])
    if given != wanted:
        odd = sorted((given - wanted) + (wanted - given))
        raise ValueError(f"{name}.csv has other columns than comparison.json asks for: {', '.join(odd)}")
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} of {name}.csv is cut short or too long")
        parsed: Row = {"contender": row.pop("contender")}
        for column, value in row.items():
            try:
                parsed[column] = columns[column].parse(value)
            except ValueError:
                where = f"line {reader.line_num} of {name}.csv"
                raise ValueError(f"{column} in {where} cannot be '{value}'") from None
        rows.append(parsed)
    return _paired(name, rows, about)


def _paired(name: str, rows: Sequence[Row], about: dict[str, Any]) -> list[Row]:
    """Return the rows in order; raise `ValueError` unless each contender has each seed and step once."""

    def key_of(row: Row) -> tuple[str, int, int]:
        return row["contender"], row["seed"], row.get("step", 0)

    steps = sorted({row.get("step", 0) for row in rows}) or [0]
    found, wanted = Counter(map(key_of, rows)), Counter(product(about["contenders"], about["seeds"], steps))
    for key in (wanted - found) + (found - wanted):
        contender, seed, step = key
        where = f"{contender}, seed {seed}" + (f", step {step}" if step else "")
        raise ValueError(f"lines for {where} in {name}.csv: {found[key]}, not {wanted[key]} (not paired)")
    place = {key: i for i, key in enumerate(wanted)}
    return sorted(rows, key=lambda row: place[key_of(row)])
