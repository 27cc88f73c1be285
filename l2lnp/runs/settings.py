"""What is asked of a training run: one frozen object, filled by the command line, repeated by ``config.toml``."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from l2lnp.backend import load_backend
from l2lnp.curvature import ADJOINT_MODES, MODES
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution, available_cores
from l2lnp.files import read_text
from l2lnp.optimizers import OPTIMIZERS
from l2lnp.optimizers.base import Optimizer
from l2lnp.pretrained import load_learned_optimizer

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training run depends on. ``None`` in a resolved object: does not apply to its optimizer.

    Made by `resolve`, which fills in the defaults and refuses what does not fit together.
    """

    data: str = "digits"
    data_dir: str | None = None
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
    # JSON's texts, numbers, lists, true and false are TOML's as well
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in settings.items() if value is not None}
    return "".join(f"{name} = {text}\n" for name, text in texts.items())


JOINT_DEFAULTS: dict[str, Any] = {
    "second_derivatives": False,
    "unroll_length_steps": 5,
    "meta_learning_rate": 0.01,
    "clip_norm": 1.0,
}


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings that the TOML file at ``path`` gives, checked by name and type.

    Raises
    ------
    InputError
        If the file cannot be read, or gives something that is no setting.
    """
    text = read_text(path)
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


def resolve(given: Mapping[str, Any]) -> TrainSettings:
    """Return complete settings from those ``given``; the others take their defaults.

    Raises
    ------
    InputError
        If a value is of a wrong type or out of range, or settings do not fit together.
    """
    given = {name: value for name, value in check_given(given).items() if value is not None}
    values = {**vars(TrainSettings()), **_of_pretrained(given), "threads": available_cores(), **given}
    if values["dtype"] not in DTYPES:
        raise unknown_name("dtype", values["dtype"], DTYPES)
    values.update(_of_optimizer(values, given))
    values["backend"] = load_backend(values["backend"]).__name__
    return TrainSettings(**{name: full_path(name, value) for name, value in values.items()})


def option(name: str) -> str:
    """Return how a setting is spelled on the command line."""
    return "--" + _SPELLINGS.get(name, name).replace("_", "-")


_SPELLINGS = {
    "unroll_length_steps": "unroll_length",
    "log_every_steps": "log_every",
    "eval_every_steps": "eval_every",
    "checkpoint_every_s": "checkpoint_every",
}


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
        least = "at least 0" if name == "seed" else "positive"
        if not math.isfinite(value) or value < 0 or (value == 0 and name != "seed"):
            raise InputError(f"{option(name)} must be {least}, not {value}")


def _of_pretrained(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the file given as ``pretrained`` says about the optimizer it holds."""
    if "pretrained" not in given:
        return {}
    learned = load_learned_optimizer(given["pretrained"])
    if given.get("optimizer", learned.name) != learned.name:
        raise InputError(
            f"--pretrained {given['pretrained']} holds an {learned.name}, not a {given['optimizer']}: "
            f"leave out --optimizer, or give --optimizer {learned.name}"
        )
    return {"optimizer": learned.name, "curvature": learned.curvature, "optimizer_settings": learned.settings}


def _of_optimizer(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the settings that only some optimizers have; refuses those given in vain."""
    name = values["optimizer"]
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    optimizer = OPTIMIZERS[name]
    found: dict[str, Any] = {"optimizer_settings": _own_settings(optimizer, values["optimizer_settings"])}
    if optimizer.uses_curvature:
        found["curvature"] = values["curvature"] or "hesscale"
        if found["curvature"] not in MODES:
            raise unknown_name("curvature mode", found["curvature"], MODES)
    else:
        _refuse(given, ["curvature"], f"{name}, which uses gradients alone")
    if not optimizer.learned:
        _refuse(given, ["pretrained", "joint", *JOINT_DEFAULTS], f"{name}, which learns nothing")
        return {**found, "learning_rate": values["learning_rate"] or optimizer.learning_rate}

    _refuse(given, ["learning_rate"], f"{name}, which learns the size of its steps")
    found["joint"] = given.get("joint", True)
    if found["joint"]:
        found.update({name: given.get(name, default) for name, default in JOINT_DEFAULTS.items()})
        _check_second_derivatives(found)
    else:
        _refuse(given, list(JOINT_DEFAULTS), "a frozen optimizer: it belongs to --joint")
        if "pretrained" not in given:
            raise InputError(f"--frozen needs --pretrained: an {name} that has learned nothing would train nothing")
    return found


_NOT_OWN = ("layout", "learning_rate", "execution")  # fields of optimizers that are given otherwise


def _own_settings(optimizer: type[Optimizer], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of the optimizer itself, as lists, numbers and texts; ``asked`` replaces defaults."""
    known = {f.name: f.default for f in fields(optimizer) if f.name not in _NOT_OWN}
    for name, value in asked.items():
        if name not in known:
            raise unknown_name(f"setting of {optimizer.name}", name, known)
        wanted = type(known[name])
        if type(value) is not wanted and (type(value), wanted) not in ((int, float), (list, tuple)):
            raise InputError(f"{optimizer.name}: {name} must be like {known[name]!r}, not {value!r}")
    return {name: list(v) if isinstance(v, tuple) else v for name, v in {**known, **asked}.items()}


def _refuse(given: Mapping[str, Any], names: list[str], why: str) -> None:
    for name in names:
        if name in given:
            raise InputError(f"{option(name)} does not apply to {why}")


def _check_second_derivatives(found: Mapping[str, Any]) -> None:
    mode = found.get("curvature")
    if found["second_derivatives"] and mode is not None and mode not in ADJOINT_MODES:
        raise InputError(
            f"--second-derivatives cannot go through --curvature {mode}: "
            f"it is supported for {', '.join(ADJOINT_MODES)}"
        )


def full_path(name: str, value: Any) -> Any:
    """Return a path given for ``name`` in full, so that a run can go on from another folder; else ``value``."""
    if name not in ("data", "network", "pretrained", "data_dir") or value is None:
        return value
    is_path = name == "data_dir" or value.endswith((".h5", ".hdf5", ".toml")) or "/" in value or "\\" in value
    return str(Path(value).absolute()) if is_path else value
