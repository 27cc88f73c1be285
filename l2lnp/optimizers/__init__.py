"""The learned and hand-designed optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from numbers import Integral, Real
from typing import Any

from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution
from l2lnp.optimizers.adam import SOAP, Adam
from l2lnp.optimizers.base import (
    SCHEDULES,
    Context,
    Inputs,
    Optimizer,
    Phi,
    State,
    UpdateAdjoint,
)
from l2lnp.optimizers.features import FEATURES, Feature
from l2lnp.optimizers.hand_designed import HandDesigned
from l2lnp.optimizers.held_curvature import HeldCurvature
from l2lnp.optimizers.in_basis import InBasis
from l2lnp.optimizers.lstm import LSTM, SLSTM
from l2lnp.optimizers.rmsprop import RMSprop
from l2lnp.optimizers.second_order import SOU
from l2lnp.optimizers.sgd import SGD, Momentum
from l2lnp.scalars import LARGEST
from l2lnp.tree import Layout

__all__ = [
    "FEATURES",
    "LSTM",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "SLSTM",
    "SOAP",
    "SOU",
    "Adam",
    "Context",
    "Feature",
    "HandDesigned",
    "HeldCurvature",
    "InBasis",
    "Inputs",
    "Momentum",
    "Optimizer",
    "Phi",
    "RMSprop",
    "State",
    "UpdateAdjoint",
    "check_axes",
    "check_settings",
    "default_settings",
    "make_optimizer",
    "settings_of",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.name: optimizer for optimizer in (SGD, Momentum, RMSprop, Adam, SOAP, SOU, LSTM, SLSTM)
}
BASES = ("coordinates", "kronecker")

_OF_BASIS = {"basis_every": "every", "basis_max_width": "max_width", "basis_recency": "recency"}
_NO_SETTINGS = ("layout", "execution")


def default_settings(name: str) -> dict[str, Any]:
    """Return all settings that `make_optimizer` takes for the optimizer called ``name``, at their defaults.

    Beside its own fields these are ``basis``: ``"coordinates"``, or ``"kronecker"`` for the curvature
    basis (`InBasis`), and ``basis_every``, ``basis_max_width`` and ``basis_recency``; and of
    those that read h ``curvature_every``, the steps between two looks at it (`HeldCurvature`).
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    optimizer = OPTIMIZERS[name]
    own = {f.name: f.default for f in fields(optimizer) if f.name not in _NO_SETTINGS}
    held = {"curvature_every": 1} if optimizer.uses_curvature else {}
    return (
        own
        | held
        | {"basis": optimizer.basis}
        | {key: getattr(InBasis, field) for key, field in _OF_BASIS.items()}
    )


def check_settings(name: str, settings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise `InputError` unless ``settings`` of the optimizer called ``name`` are like those ``known``.

    What belongs to the curvature basis may only be at its default in coordinates.
    """
    for setting, value in settings.items():
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
        if not _is_like(known[setting], value):
            raise InputError(f"{name}: {setting} must be like {known[setting]!r}, not {value!r}")
    axes = settings.get("basis", known["basis"])
    check_axes(axes)
    in_vain = [key for key in _OF_BASIS if settings.get(key, known[key]) != known[key]]
    if in_vain and axes == "coordinates":
        raise InputError(
            f"{in_vain[0]} of {name} belongs to the curvature basis: take --basis kronecker, or leave it out"
        )


def check_axes(name: str) -> None:
    """Raise `InputError` unless the setting ``basis`` may be ``name``."""
    if name not in BASES:
        raise unknown_name("basis", name, BASES)


def _is_like(default: Any, value: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple | list) and all(_is_like(default[0], item) for item in value)
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, Integral if isinstance(default, int) else Real):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else isfinite(value)


def make_optimizer(
    name: str, layout: Layout, execution: Execution | None = None, **settings: Any
) -> Optimizer:
    """Return the optimizer called ``name`` (`OPTIMIZERS`) over the coordinates of ``layout``.

    Lists in ``settings`` (as files give them) become tuples.

    Raises
    ------
    InputError
        If the name or a setting is unknown, or a setting is impossible.
    """
    known = default_settings(name)
    check_settings(name, settings, known)
    chosen = known | {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    in_basis, *of_basis = (chosen.pop(key) for key in ("basis", *_OF_BASIS))
    curvature_every = chosen.pop("curvature_every", 1)
    optimizer = OPTIMIZERS[name](layout, execution=execution, **chosen)
    if in_basis == "kronecker":
        if curvature_every != 1:
            raise InputError(
                f"{name}: the curvature basis takes h from its own factors, every basis_every steps: "
                f"leave out curvature_every, or set basis = coordinates"
            )
        return InBasis(layout, optimizer, *of_basis, execution=execution)
    if curvature_every != 1:
        return HeldCurvature(layout, optimizer, curvature_every, execution=execution)
    return optimizer


def settings_of(optimizer: Optimizer) -> dict[str, Any]:
    """Return all settings with which `make_optimizer` makes ``optimizer`` again."""
    inner = optimizer.inner if isinstance(optimizer, InBasis | HeldCurvature) else optimizer
    found = {name: getattr(inner, name, value) for name, value in default_settings(inner.name).items()}
    if isinstance(optimizer, InBasis):
        of_basis = {key: getattr(optimizer, field) for key, field in _OF_BASIS.items()}
        return found | {"basis": "kronecker"} | of_basis
    held = {"curvature_every": optimizer.every} if isinstance(optimizer, HeldCurvature) else {}
    return found | {"basis": "coordinates"} | held
