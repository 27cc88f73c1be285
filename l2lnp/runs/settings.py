"""What is asked of a training run: filled by the command line, repeated by ``config.toml``."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution
from l2lnp.files import read_text
from l2lnp.pretrained import RANDOM, pretrained_names
from l2lnp.scalars import LARGEST

MAY_CHANGE = ("steps", "threads")  # when a run goes on


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training run depends on. ``None`` in a resolved object: does not apply to its optimizer.

    Made by `l2lnp.runs.resolving.resolve`, which fills in defaults and refuses what does not fit.
    """

    data: str = "digits"
    data_dir: str | None = None
    memory_limit_mb: int = 1024  # of pictures; a file with more is streamed
    flip: bool = False
    crop_padding: int = 0
    network: str = "small"
    optimizer: str = "slstm"
    learning_rate: float | None = None  # hand-designed optimizers
    curvature: str | None = None  # sou and slstm
    pretrained: str | None = None  # from here on: learned optimizers
    joint: bool | None = None
    second_derivatives: bool | None = None  # from here on: joint training
    unroll_length_steps: int | None = None
    meta_learning_rate: float | None = None
    clip_norm: float | None = None
    steps: int = 600
    batch_size: int = 128
    seed: int = 0
    backend: str = "numpy"
    dtype: str = "float32"
    threads: int | None = None
    average: bool = False
    micro_batch: int = Execution.micro_batch
    lanes: int = Execution.lanes
    chunk: int = Execution.chunk
    log_every_steps: int = 1
    eval_every_steps: int = 100
    checkpoint_every_s: float = 5.0
    optimizer_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def execution(self) -> Execution:
        """How work is cut and shared out, with arenas of its own."""
        return Execution(self.threads or 1, self.micro_batch, self.lanes, self.chunk)

    def title(self) -> str:
        """Return a short name of the run for people."""
        data, network = Path(self.data).stem, Path(self.network).stem
        rate = "" if self.learning_rate is None else f" {self.learning_rate:g}"
        return f"{data}, {network} network, {self.optimizer}{rate}: batch {self.batch_size}, seed {self.seed}"

    def evaluates_at(self, step: int) -> bool:
        """Return whether the test error is measured after ``step`` steps."""
        return step % self.eval_every_steps == 0 or step == self.steps

    def logs_at(self, step: int) -> bool:
        """Return whether ``metrics.jsonl`` gets a line after ``step`` steps."""
        return step % self.log_every_steps == 0 or self.evaluates_at(step)

    def to_toml(self) -> str:
        """Return the settings as TOML, one a line, those that do not apply left out."""
        plain = {name: value for name, value in vars(self).items() if name != "optimizer_settings"}
        return _lines(plain) + "\n[optimizer_settings]\n" + _lines(self.optimizer_settings)


def _lines(settings: Mapping[str, Any]) -> str:
    return "".join(f"{toml_line(name, value)}\n" for name, value in settings.items() if value is not None)


def toml_line(name: str, value: Any) -> str:
    """Return ``name = value`` in TOML, for texts, numbers, lists, true and false."""
    # which JSON writes alike, but for the one control character that it leaves as it is
    key, text = (json.dumps(each, ensure_ascii=False).replace("\x7f", "\\u007f") for each in (name, value))
    is_bare = name.isascii() and name.isidentifier()
    return f"{name if is_bare else key} = {text}"


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings that the TOML file at ``path`` gives, checked by name and type.

    Raises
    ------
    InputError
        If the file cannot be read, or gives something that is no setting.
    """
    text = read_text(path).removeprefix("\ufeff")  # the mark that some editors put before UTF-8
    try:
        return parse_config(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_config(text: str) -> dict[str, Any]:
    """Return the settings that ``text`` in TOML gives, checked by name and type."""
    try:
        return check_given(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}") from None


def check_given(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the names, types and ranges of single settings, and return them."""
    for name, value in given.items():
        if name not in _TYPES:
            raise unknown_name("setting", name, _TYPES)
        _check_value(name, value)
    return dict(given)


def option(name: str) -> str:
    """Return how a setting is spelled on the command line."""
    return "--" + _SPELLINGS.get(name, name).replace("_", "-")


_SPELLINGS = {
    "memory_limit_mb": "memory_limit",
    "unroll_length_steps": "unroll_length",
    "log_every_steps": "log_every",
    "eval_every_steps": "eval_every",
    "checkpoint_every_s": "checkpoint_every",
}
_MAY_BE_ZERO = ("seed", "memory_limit_mb", "crop_padding")


def _type_of(hint: Any) -> type:
    plain = next((t for t in get_args(hint) if isinstance(hint, UnionType) and t is not NoneType), hint)
    return get_origin(plain) or plain


_TYPES = {name: _type_of(hint) for name, hint in get_type_hints(TrainSettings).items()}
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a table"}


def _check_value(name: str, value: Any) -> None:
    wanted = _TYPES[name]
    fits = type(value) is wanted or (wanted is float and type(value) is int)
    if not fits and value is not None:
        raise InputError(f"{option(name)} must be {_WORDS[wanted]}, not {value!r}")
    if wanted in (int, float) and value is not None:
        least = "at least 0" if name in _MAY_BE_ZERO else "positive"
        if not 0 <= value < math.inf or (value == 0 and name not in _MAY_BE_ZERO):
            raise InputError(f"{option(name)} must be {least}, not {value}")
        if type(value) is int and value > LARGEST:
            raise InputError(f"{option(name)} must be at most {LARGEST}, not {value}")


def full_path(name: str, value: Any) -> Any:
    """Return a path given for ``name`` in full, so that a run can go on from elsewhere; else ``value``."""
    if name not in ("data", "network", "pretrained", "data_dir") or value is None:
        return value
    is_path = name == "data_dir" or value.endswith((".h5", ".hdf5", ".toml")) or "/" in value or "\\" in value
    is_folder = name == "pretrained" and value not in (*pretrained_names(), RANDOM) and Path(value).is_dir()
    return str(Path(value).absolute()) if is_path or is_folder else value


def collected(assignments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return settings by name; raise `InputError` if one is given twice."""
    found: dict[str, Any] = {}
    for name, value in assignments:
        if name in found:
            raise InputError(
                f"the setting {name} is given twice, as {found[name]} and {value}: leave one out"
            )
        found[name] = value
    return found


def parse_assignment(text: str) -> tuple[str, Any] | None:
    """Return name and value of ``NAME=VALUE``, a TOML value; a text needs no quotes. None: there is no =."""
    name, equals, value = text.partition("=")
    if not equals:
        return None
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
