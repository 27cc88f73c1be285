"""Learning to learn second-order back-propagation (Roy & Todorovic, ICPR 2018).

The names below are the public API; ``docs/api.md`` says what is stable. Each is loaded when it
is first used. Layers stand in `l2lnp.layers`, optimizers in `l2lnp.optimizers`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2lnp.checking import gradcheck
    from l2lnp.data import load_dataset
    from l2lnp.errors import DivergedError, InputError
    from l2lnp.execution import Execution
    from l2lnp.meta.joint import JointLearner
    from l2lnp.meta.unroll import meta_gradient, unroll
    from l2lnp.network import Evaluation, Sequential
    from l2lnp.networks import find_network
    from l2lnp.optimizers import Context, Inputs, make_optimizer
    from l2lnp.tasks.classification import Classification
    from l2lnp.tree import Layout
    from l2lnp.version import VERSION

__all__ = [
    "VERSION",
    "Classification",
    "Context",
    "DivergedError",
    "Evaluation",
    "Execution",
    "InputError",
    "Inputs",
    "JointLearner",
    "Layout",
    "Sequential",
    "find_network",
    "gradcheck",
    "load_dataset",
    "make_optimizer",
    "meta_gradient",
    "unroll",
]

_MODULES = {
    "Classification": "l2lnp.tasks.classification",
    "Context": "l2lnp.optimizers",
    "DivergedError": "l2lnp.errors",
    "Evaluation": "l2lnp.network",
    "Execution": "l2lnp.execution",
    "InputError": "l2lnp.errors",
    "Inputs": "l2lnp.optimizers",
    "JointLearner": "l2lnp.meta.joint",
    "Layout": "l2lnp.tree",
    "Sequential": "l2lnp.network",
    "VERSION": "l2lnp.version",
    "gradcheck": "l2lnp.checking",
    "load_dataset": "l2lnp.data",
    "find_network": "l2lnp.networks",
    "make_optimizer": "l2lnp.optimizers",
    "meta_gradient": "l2lnp.meta.unroll",
    "unroll": "l2lnp.meta.unroll",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'l2lnp' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
