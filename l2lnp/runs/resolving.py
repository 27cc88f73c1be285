"""Complete what is asked of a run by defaults that depend on the optimizer, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from inspect import signature
from typing import Any

import numpy as np

from l2lnp.backend import load_backend
from l2lnp.curvature import ADJOINT_MODES, BASIS_MODES, check_basis
from l2lnp.data.loading import BUNDLED
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import ON_A_GPU, available_cores
from l2lnp.meta.joint import JointLearner
from l2lnp.optimizers import OPTIMIZERS, check_axes, check_settings, default_settings
from l2lnp.pretrained import RANDOM, load_learned_optimizer, pretrained_names
from l2lnp.runs.settings import TrainSettings, check_given, full_path, option

DTYPES = ("float32", "float64")
JOINT_DEFAULTS: dict[str, Any] = {
    name: signature(JointLearner).parameters[name].default
    for name in ("second_derivatives", "unroll_length_steps", "meta_learning_rate", "clip_norm")
}
PRACTISED_JOINT_DEFAULTS = {  # what has practised is changed seldom and little
    **JOINT_DEFAULTS,
    "unroll_length_steps": 20,
    "meta_learning_rate": 1e-4,
}  # how they were chosen: docs/results/trials.md
PRETRAINED_WEIGHT_DECAY = 0.2  # per pass; how it was chosen: docs/results/generalization.md


def resolve(given: Mapping[str, Any]) -> TrainSettings:
    """Return complete settings from those ``given``; the others take their defaults.

    Raises
    ------
    InputError
        If a value is of a wrong type or out of range, or settings do not fit together.
    """
    given = {name: value for name, value in check_given(given).items() if value is not None}
    given |= _pretrained_by_default(given)
    backend = load_backend(given.get("backend", TrainSettings.backend)).__name__
    how = {"threads": available_cores()} if backend == "numpy" else ON_A_GPU
    values = {**vars(TrainSettings()), **how, **given, **_of_pretrained(given), "backend": backend}
    if values["dtype"] not in DTYPES:
        raise unknown_name("dtype", values["dtype"], DTYPES)
    if values["data_dir"] is not None and values["data"] == BUNDLED:
        raise InputError(f"--data-dir does not apply to {BUNDLED}: name the data set with --data")
    values.update(_of_optimizer(values, given))
    _check_rates(values)
    return TrainSettings(**{name: full_path(name, value) for name, value in values.items()})


def _pretrained_by_default(given: Mapping[str, Any]) -> dict[str, Any]:
    """A learned optimizer begins as it came with the package: in the curvature basis, unless asked not to."""
    name = given.get("optimizer", TrainSettings.optimizer)
    is_learned = name in OPTIMIZERS and OPTIMIZERS[name].learned
    if not is_learned or "pretrained" in given:
        return {}
    own = given.get("optimizer_settings", {})
    if "basis" in own:
        in_coordinates = own["basis"] == "coordinates"
    else:
        mode = given.get("curvature") if OPTIMIZERS[name].uses_curvature else None
        in_coordinates = own.get("curvature_every", 1) != 1 or mode not in (None, *BASIS_MODES)
    file = f"{name}-coordinates" if in_coordinates else name
    return {"pretrained": file if file in pretrained_names() else RANDOM}


def _of_pretrained(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the file given as ``pretrained`` says about the optimizer it holds."""
    if given.get("pretrained", RANDOM) == RANDOM:
        return {}
    learned = load_learned_optimizer(given["pretrained"])
    if given.get("optimizer", learned.name) != learned.name:
        raise InputError(
            f"--pretrained {given['pretrained']} holds {learned.name}, not {given['optimizer']}: "
            f"leave out --optimizer, or give --optimizer {learned.name}"
        )
    learned_with = own_settings(learned.name, learned.settings)
    own = {**learned_with, **given.get("optimizer_settings", {})}
    check_axes(own["basis"])
    for setting in ("basis", "features", "n_units", "per"):
        if own[setting] != learned_with[setting]:
            raise InputError(
                f"--pretrained {given['pretrained']} has learned with {setting} = "
                f"{learned_with[setting]}, not {own[setting]}: leave the setting out, or begin anew with "
                f"--pretrained {RANDOM}"
            )
    if not (own["weight_decay"] or "weight_decay" in given.get("optimizer_settings", {})):
        own["weight_decay"] = PRETRAINED_WEIGHT_DECAY
    return {
        "optimizer": learned.name,
        "curvature": given.get("curvature", learned.curvature),
        "optimizer_settings": own,
    }


def _of_optimizer(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the settings that only some optimizers have; refuses those given in vain."""
    name = values["optimizer"]
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    optimizer = OPTIMIZERS[name]
    own = own_settings(name, values["optimizer_settings"])
    found: dict[str, Any] = {"optimizer_settings": own}
    if not optimizer.uses_curvature:
        _refuse(given, ["curvature"], f"{name}, which uses gradients alone")
    else:
        in_basis = own["basis"] == "kronecker"
        found["curvature"] = values["curvature"] or (None if in_basis else "hesscale")
        if found["curvature"] is not None:
            check_basis(found["curvature"], in_basis)
    if not optimizer.learned:
        _refuse(given, ["pretrained", "joint", *JOINT_DEFAULTS], f"{name}, which learns nothing")
        rate = next(f.default for f in fields(optimizer) if f.name == "learning_rate")
        return {**found, "learning_rate": values["learning_rate"] or rate}

    _refuse(given, ["learning_rate"], f"{name}, which learns the size of its steps")
    is_random = values["pretrained"] == RANDOM
    found["joint"] = given.get("joint", is_random or any(name in given for name in JOINT_DEFAULTS))
    if found["joint"]:
        defaults = JOINT_DEFAULTS if is_random else PRACTISED_JOINT_DEFAULTS
        found.update({name: given.get(name, default) for name, default in defaults.items()})
        _check_second_derivatives(found)
    else:
        _refuse(given, list(JOINT_DEFAULTS), "a frozen optimizer: it belongs to --joint")
        if is_random:
            raise InputError(
                "--frozen needs a pretrained optimizer: one that has learned nothing trains nothing"
            )
    return found


def own_settings(optimizer: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of the optimizer itself: ``asked``, and the defaults of the others."""
    known = {name: value for name, value in default_settings(optimizer).items() if name != "learning_rate"}
    check_settings(optimizer, asked, known)
    found: dict[str, Any] = {**known, **asked}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _check_rates(values: Mapping[str, Any]) -> None:
    limits = np.finfo(values["dtype"])
    least, most = float(limits.smallest_normal), float(limits.max)
    for name in ("learning_rate", "meta_learning_rate"):
        rate = values[name]
        if rate is not None and not least <= rate <= most:
            raise InputError(
                f"{option(name)} {rate} is no number that {values['dtype']} holds: "
                f"choose from {least:.3g} to {most:.3g}"
            )


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
