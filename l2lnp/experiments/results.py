"""The files of a comparison: ``comparison.json``, ``seeds.csv``, ``curves.csv``, ``errors.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Comparison, Row
from l2lnp.files import cannot, read_text, replace_file

FORMAT = 1
TABLES = ("seeds", "curves", "errors")
_TEXTS, _WHOLE = ("contender",), ("seed", "step", "restarts")


def write_results(folder: Path, comparison: Comparison) -> None:
    """Write the numbers of a comparison into ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot("make the folder", folder, error) from error
    for name in TABLES:
        # the page is made of the seeds, and made again from this file: with digits to spare
        style = ".12g" if name == "seeds" else ".6g"
        replace_file(folder / f"{name}.csv", _to_csv(getattr(comparison, name), style).encode())
    text = json.dumps({"format": FORMAT, **comparison.about}, indent=1)
    replace_file(folder / "comparison.json", text.encode() + b"\n")


def read_results(folder: Path) -> Comparison:
    """Return what `write_results` wrote.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    if not (folder / "comparison.json").exists():
        raise InputError(f"{folder} holds no results of a comparison: it has no comparison.json")
    try:
        about = json.loads(read_text(folder / "comparison.json"))
        if about.pop("format") != FORMAT:
            raise InputError(f"{folder} is from another version of l2lnp")
        tables = [_from_csv(read_text(folder / f"{name}.csv")) for name in TABLES]
    except (ValueError, LookupError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the results in {folder} are damaged: {error}") from None
    return Comparison(about, *tables)


def _to_csv(rows: Sequence[Row], style: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: format(value, style) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()


def _from_csv(text: str) -> list[Row]:
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError("a table is empty or cut short")
    return [{name: _parsed(name, value) for name, value in row.items()} for row in rows]


def _parsed(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if text == "":
        return None
    return int(text) if name in _WHOLE else float(text)
