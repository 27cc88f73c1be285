"""The learned and hand-designed optimizers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from l2lnp.errors import unknown_name
from l2lnp.execution import Execution
from l2lnp.optimizers.adam import Adam
from l2lnp.optimizers.base import (
    SCHEDULES,
    Context,
    HandDesigned,
    Inputs,
    Optimizer,
    Phi,
    State,
    UpdateAdjoint,
)
from l2lnp.optimizers.features import FEATURES, Feature
from l2lnp.optimizers.lstm import LSTM, SLSTM
from l2lnp.optimizers.rmsprop import RMSprop
from l2lnp.optimizers.second_order import SOU
from l2lnp.optimizers.sgd import SGD, Momentum
from l2lnp.tree import Layout

__all__ = [
    "FEATURES",
    "LSTM",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "SLSTM",
    "SOU",
    "Adam",
    "Context",
    "Feature",
    "HandDesigned",
    "Inputs",
    "Momentum",
    "Optimizer",
    "Phi",
    "RMSprop",
    "State",
    "UpdateAdjoint",
    "make_optimizer",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.name: optimizer for optimizer in (SGD, Momentum, RMSprop, Adam, SOU, LSTM, SLSTM)
}


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
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    optimizer = OPTIMIZERS[name]
    known = [f.name for f in fields(optimizer) if f.name not in ("layout", "execution")]
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of the optimizer {name}", setting, known)
    tuples: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return optimizer(layout, execution=execution, **tuples)
