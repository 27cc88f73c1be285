"""Gradient descent, without and with momentum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.base import Inputs, Phi, State, UpdateAdjoint
from l2lnp.optimizers.hand_designed import HandDesigned


@dataclass(frozen=True)
class SGD(HandDesigned):
    """u = -alpha g."""

    learning_rate: float = 0.1

    name: ClassVar[str] = "sgd"

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return u and the empty state."""
        return -self.rate(phi, inputs) * inputs.g, {}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        a_phi = self.rate_adjoint(phi, inputs, inputs.g, a_u)
        return UpdateAdjoint(a_phi, {}, 0.0, -self.rate(phi, inputs) * a_u, None)


@dataclass(frozen=True)
class Momentum(HandDesigned):
    """m' = mu m + g;  u = -alpha m'  (Polyak's heavy ball)."""

    learning_rate: float = 0.02
    momentum: float = 0.9

    name: ClassVar[str] = "momentum"
    decays: ClassVar[tuple[str, ...]] = ("momentum",)

    def init_state(self, theta: Array) -> State:
        """Return ``{"m": (P,)}``."""
        return {"m": array_module(theta).zeros_like(theta)}

    def carried(self, state: State, turn: Callable[[Array], Array]) -> State:
        return {**state, "m": turn(state["m"])} if "m" in state else state

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return u and m'."""
        m = self.momentum * state["m"] + inputs.g
        return -self.rate(phi, inputs) * m, {"m": m}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        m = self.momentum * state["m"] + inputs.g
        a_m = a_state.get("m", 0.0) - self.rate(phi, inputs) * a_u
        return UpdateAdjoint(
            self.rate_adjoint(phi, inputs, m, a_u), {"m": self.momentum * a_m}, 0.0, a_m, None
        )
