"""RMSprop: each coordinate's gradient divided by its recent root mean square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.optimizers.base import (
    HandDesigned,
    Inputs,
    Phi,
    State,
    UpdateAdjoint,
    moving_average,
    rate_adjoint,
    sqrt_adjoint,
)


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

    def init_state(self, theta: Array) -> State:
        """Return ``{"v": (P,)}``."""
        return {"v": array_module(theta).zeros_like(theta)}

    def update(
        self,
        phi: Phi,
        state: State,
        loss: float,
        g: Array,
        h: Array | None,
        theta: Array | None = None,
    ) -> tuple[Array, State]:
        """Return u and v'."""
        v = moving_average(self.decay, state["v"], g**2)
        return -phi["learning_rate"] * g / (v**0.5 + self.epsilon), {"v": v}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        alpha, g = phi["learning_rate"], inputs.g
        root = moving_average(self.decay, state["v"], g**2) ** 0.5
        scale = 1.0 / (root + self.epsilon)
        a_direction = -alpha * a_u
        a_root = -a_direction * g * scale**2
        a_v = a_state.get("v", 0.0) + sqrt_adjoint(root, a_root)
        a_g = a_direction * scale + 2.0 * (1.0 - self.decay) * g * a_v
        return UpdateAdjoint(rate_adjoint(alpha, g * scale, a_u), {"v": self.decay * a_v}, 0.0, a_g, None)
