"""Adam: the bias-corrected mean gradient over its bias-corrected root mean square."""

from __future__ import annotations

from collections.abc import Callable
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
from l2lnp.scalars import Scalar, like


@dataclass(frozen=True)
class Adam(HandDesigned):
    """u = -alpha m^ / (sqrt(v^) + eps), with the moving averages m of g and v of g^2.

        m' = beta_1 m + (1 - beta_1) g        m^ = m' / (1 - beta_1^t)
        v' = beta_2 v + (1 - beta_2) g^2      v^ = v' / (1 - beta_2^t)

    References
    ----------
    Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1.
    """

    learning_rate: float = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    name: ClassVar[str] = "adam"
    positive: ClassVar[tuple[str, ...]] = ("learning_rate", "epsilon")
    decays: ClassVar[tuple[str, ...]] = ("beta_1", "beta_2")

    def init_state(self, theta: Array) -> State:
        """Return ``{"m": (P,), "v": (P,), "t": 0}``."""
        xp = array_module(theta)
        return {"m": xp.zeros_like(theta), "v": xp.zeros_like(theta), "t": 0}

    def carried(self, state: State, turn: Callable[[Array], Array]) -> State:
        return {**state, "m": turn(state["m"])} if "m" in state else state

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return u and the averages."""
        after, m_hat, root = self._averages(state, inputs.g)
        return -self.rate(phi, inputs) * m_hat / (root + self.epsilon), after

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`."""
        alpha, g = self.rate(phi, inputs), inputs.g
        after, m_hat, root = self._averages(state, g)
        correction_m, correction_v = self._corrections(after["t"])
        scale = 1.0 / (root + self.epsilon)
        a_direction = -alpha * a_u
        a_root = -a_direction * m_hat * scale**2
        a_m = a_state.get("m", 0.0) + a_direction * scale / correction_m
        a_v = a_state.get("v", 0.0) + sqrt_adjoint(root, a_root) / correction_v
        a_g = (1.0 - self.beta_1) * a_m + 2.0 * (1.0 - self.beta_2) * g * a_v
        before = {"m": self.beta_1 * a_m, "v": self.beta_2 * a_v}
        return UpdateAdjoint(self.rate_adjoint(phi, inputs, m_hat * scale, a_u), before, 0.0, a_g, None)

    def _averages(self, state: State, g: Array) -> tuple[State, Array, Array]:
        """Return the next state, m^ and sqrt(v^)."""
        t = state["t"] + 1
        m = moving_average(self.beta_1, state["m"], g)
        v = moving_average(self.beta_2, state["v"], g**2)
        correction_m, correction_v = (like(c, g) for c in self._corrections(t))
        return {"m": m, "v": v, "t": t}, m / correction_m, (v / correction_v) ** 0.5

    def _corrections(self, t: Scalar) -> tuple[Scalar, Scalar]:
        return 1.0 - self.beta_1**t, 1.0 - self.beta_2**t


@dataclass(frozen=True)
class SOAP(Adam):
    """Adam in the curvature basis (`InBasis`).

    References
    ----------
    Vyas et al. 2025 (arXiv 2409.11321). Departs: the basis is that of K-FAC's factors, not of
    Shampoo's, and Adam's decays are its own.
    """

    name: ClassVar[str] = "soap"
    basis: ClassVar[str] = "kronecker"
