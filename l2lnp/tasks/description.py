"""Read what a distribution of tasks says, and refuse what cannot be (``docs/meta_training.md``)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from l2lnp.errors import InputError, unknown_name
from l2lnp.scalars import LARGEST


class _Form(NamedTuple):
    """What a value must be: in words, and as a check."""

    words: str
    fits: Callable[[Any], bool]


MOST_UNITS = 1 << 16  # of a layer, and pixels of a kernel's side
MOST_LOG_SCALE = 20  # weights and their products stay finite
MOST_WEIGHT = 1e9  # sums of weights stay finite


def _are_whole(values: Any, least: int = 1, most: int = LARGEST) -> bool:
    is_list = isinstance(values, list) and len(values) > 0
    return is_list and all(type(value) is int and least <= value <= most for value in values)


_TEXT = _Form("a text", lambda value: isinstance(value, str))
_SIZE = _Form("a positive whole number", lambda value: _are_whole([value]))
_SIZES = _Form("a list of positive whole numbers", _are_whole)
_COUNTS = _Form("a list of whole numbers from 0", lambda value: _are_whole(value, least=0))
_KERNELS = _Form(
    f"a list of positive whole numbers up to {MOST_UNITS:,}", lambda value: _are_whole(value, most=MOST_UNITS)
)
_UNITS = _Form(
    f"a list of whole numbers from 0 to {MOST_UNITS:,}",
    lambda value: _are_whole(value, least=0, most=MOST_UNITS),
)
_RANGE = _Form(
    f"two positive whole numbers up to {MOST_UNITS:,}, the lesser first",
    lambda value: _are_whole(value, most=MOST_UNITS) and len(value) == 2 and value[0] <= value[1],
)
_LOG_SCALE = _Form(
    f"a number from 0 to {MOST_LOG_SCALE}",
    lambda value: type(value) in (int, float) and 0 <= value <= MOST_LOG_SCALE,
)
_WEIGHT = _Form(
    f"a number from 0 to {MOST_WEIGHT:g}",
    lambda value: type(value) in (int, float) and 0 <= value <= MOST_WEIGHT,
)
_TABLES = _Form(
    "[[tables]]", lambda value: isinstance(value, list) and all(isinstance(table, dict) for table in value)
)

_FORMS: Mapping[str, Mapping[str, _Form]] = {
    "": {
        "description": _TEXT,
        "batch_sizes": _SIZES,
        "initial_log_scale": _LOG_SCALE,
        "data": _TABLES,
        "network": _TABLES,
    },
    "data": {"name": _TEXT, "shrink": _SIZE, "weight": _WEIGHT},
    "network": {
        "name": _TEXT,
        "convolutions": _COUNTS,
        "kernels": _KERNELS,
        "channels": _RANGE,
        "hidden_units": _UNITS,
        "weight": _WEIGHT,
    },
}


def read_description(text: str, source: str) -> Mapping[str, Any]:
    """Return what ``text`` in TOML says.

    Raises
    ------
    InputError
        With ``source``, where the text comes from, if it is no description of tasks.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML: {error}") from None
    _check_keys(source, "", [table])
    for part in ("data", "network"):
        if not table.get(part):
            raise InputError(f"{source}: needs at least one [[{part}]] table")
        _check_keys(source, part, table[part])
        if not any(each.get("weight", 1) for each in table[part]):
            raise InputError(f"{source}: at least one [[{part}]] needs a weight above 0")
    if not all("name" in each for each in table["data"]):
        raise InputError(f"{source}: each [[data]] needs the name of a data set")
    for network in table["network"]:
        in_vain = sorted(network.keys() - {"name", "weight"}) if "name" in network else []
        if in_vain:
            raise InputError(
                f"{source}: the [[network]] '{network['name']}' has a description of its own: "
                f"leave out {', '.join(in_vain)}"
            )
    if "batch_sizes" not in table:
        raise InputError(f"{source}: needs batch_sizes, {_SIZES.words}")
    return table


def _check_keys(source: str, part: str, tables: Sequence[Mapping[str, Any]]) -> None:
    where = f"{source}, [[{part}]]" if part else source
    for table in tables:
        for key, value in table.items():
            if key not in _FORMS[part]:
                raise InputError(f"{where}: {unknown_name('key', key, sorted(_FORMS[part]))}")
            form = _FORMS[part][key]
            if not form.fits(value):
                raise InputError(f"{where}: {key} must be {form.words}, not {value!r}")
