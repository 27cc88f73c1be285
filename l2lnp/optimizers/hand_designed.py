"""What the hand-designed optimizers have in common: a learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.optimizers.base import Inputs, Optimizer, Phi, State
from l2lnp.scalars import like


@dataclass(frozen=True)
class HandDesigned(Optimizer):
    """An optimizer written by people: its learning rate is the one entry of phi.

    So ``meta_gradient`` gives the derivative in the learning rate (the hypergradient)
    with no further code.
    """

    learning_rate: float = 0.01

    positive: ClassVar[tuple[str, ...]] = ("learning_rate",)
    decays: ClassVar[tuple[str, ...]] = ()  # settings in [0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in self.positive:
            if not (value := getattr(self, setting)) > 0:
                raise InputError(f"{self.name}: {setting} must be positive, not {value}")
        for setting in self.decays:
            if not 0 <= (value := getattr(self, setting)) < 1:
                raise InputError(f"{self.name}: {setting} must be at least 0 and less than 1, not {value}")

    def init_phi(self, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Phi:
        """Return ``{"learning_rate": ()}``; draws nothing."""
        return {"learning_rate": np.asarray(self.learning_rate, dtype)}

    def init_state(self, theta: Array) -> State:
        """Return the empty state of an optimizer that remembers nothing."""
        return {}

    def rate(self, phi: Phi, inputs: Inputs) -> Array:
        """Return the learning rate of a step: what phi says, times what the schedule says."""
        return phi["learning_rate"] * like(self.scheduled(inputs.context), inputs.g)

    def rate_adjoint(self, phi: Phi, inputs: Inputs, direction: Array, a_u: Array) -> Phi:
        """Return a_phi for u = -rate * direction."""
        a_rate = array_module(direction).vdot(direction, a_u) * self.scheduled(inputs.context)
        return {"learning_rate": -a_rate.reshape(phi["learning_rate"].shape)}
