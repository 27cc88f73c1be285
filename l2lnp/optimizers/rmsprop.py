"""RMSprop: each coordinate's gradient divided by its recent root mean square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.base import (
    Inputs,
    Phi,
    State,
    UpdateAdjoint,
    moving_average,
    sqrt_adjoint,
)
from l2lnp.optimizers.hand_designed import HandDesigned


@dataclass(frozen=True)
class RMSprop(HandDesigned):
    """v' = rho v + (1 - rho) g^2;  u = -alpha g / (sqrt(v') + eps).

    References
    ----------
    Tieleman & Hinton 2012, Lecture 6.5.
    """

    learning_rate: float = 0.002
    decay: float = 0.9
    epsilon: float = 1e-8

    name: ClassVar[str] = "rmsprop"
    positive: ClassVar[tuple[str, ...]] = ("learning_rate", "epsilon")
    decays: ClassVar[tuple[str, ...]] = ("decay",)

    def init_state(self, theta: Array) -> State:
        """Return ``{"v": (P,)}``."""
        return {"v": array_module(theta).zeros_like(theta)}

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return u and v'."""
        v = moving_average(self.decay, state["v"], inputs.g**2)
        return -self.rate(phi, inputs) * inputs.g / (v**0.5 + self.epsilon), {"v": v}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        alpha, g = self.rate(phi, inputs), inputs.g
        root = moving_average(self.decay, state["v"], g**2) ** 0.5
        scale = 1.0 / (root + self.epsilon)
        a_direction = -alpha * a_u
        a_root = -a_direction * g * scale**2
        a_v = a_state.get("v", 0.0) + sqrt_adjoint(root, a_root)
        a_g = a_direction * scale + 2.0 * (1.0 - self.decay) * g * a_v
        a_phi = self.rate_adjoint(phi, inputs, g * scale, a_u)
        return UpdateAdjoint(a_phi, {"v": self.decay * a_v}, 0.0, a_g, None)
