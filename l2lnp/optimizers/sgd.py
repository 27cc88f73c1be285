"""Gradient descent, without and with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.base import HandDesigned, Inputs, Phi, State, UpdateAdjoint, rate_adjoint


@dataclass(frozen=True)
class SGD(HandDesigned):
    """u = -alpha g."""

    learning_rate: float = 0.1

    name: ClassVar[str] = "sgd"

    def update(
        self,
        phi: Phi,
        state: State,
        loss: float,
        g: Array,
        h: Array | None,
        theta: Array | None = None,
    ) -> tuple[Array, State]:
        """Return u and the empty state."""
        return -phi["learning_rate"] * g, {}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        alpha = phi["learning_rate"]
        return UpdateAdjoint(rate_adjoint(alpha, inputs.g, a_u), {}, 0.0, -alpha * a_u, None)


@dataclass(frozen=True)
class Momentum(HandDesigned):
    """m' = mu m + g;  u = -alpha m'  (Polyak's heavy ball)."""

    learning_rate: float = 0.02
    momentum: float = 0.9

    name: ClassVar[str] = "momentum"

    def init_state(self, theta: Array) -> State:
        """Return ``{"m": (P,)}``."""
        return {"m": array_module(theta).zeros_like(theta)}

    def update(
        self,
        phi: Phi,
        state: State,
        loss: float,
        g: Array,
        h: Array | None,
        theta: Array | None = None,
    ) -> tuple[Array, State]:
        """Return u and m'."""
        m = self.momentum * state["m"] + g
        return -phi["learning_rate"] * m, {"m": m}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        alpha = phi["learning_rate"]
        m = self.momentum * state["m"] + inputs.g
        a_m = a_state.get("m", 0.0) - alpha * a_u
        return UpdateAdjoint(rate_adjoint(alpha, m, a_u), {"m": self.momentum * a_m}, 0.0, a_m, None)
