"""SOU, the paper's second-order baseline: a Newton step with the approximate Hessian diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.optimizers.base import Inputs, Phi, State, UpdateAdjoint
from l2lnp.optimizers.hand_designed import HandDesigned


@dataclass(frozen=True)
class SOU(HandDesigned):
    """u = -alpha g / (|h| + eps).

    References
    ----------
    Roy & Todorovic 2018, the baseline "second-order update". Departs: |h| and eps, so
    that the step goes downhill and stays finite where h is negative or small.
    """

    learning_rate: float = 0.02
    epsilon: float = 0.1

    name: ClassVar[str] = "sou"
    positive: ClassVar[tuple[str, ...]] = ("learning_rate", "epsilon")
    uses_curvature: ClassVar[bool] = True

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return u and the empty state."""
        if inputs.h is None:
            raise InputError("sou needs second derivatives h: evaluate the loss with a curvature mode")
        return -self.rate(phi, inputs) * inputs.g / (abs(inputs.h) + self.epsilon), {}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`; |h| has slope 0 at h = 0."""
        alpha, g = self.rate(phi, inputs), inputs.g
        h: Array = inputs.h
        scale = 1.0 / (abs(h) + self.epsilon)
        a_direction = -alpha * a_u
        a_h = -a_direction * g * scale**2 * array_module(h).sign(h)
        a_phi = self.rate_adjoint(phi, inputs, g * scale, a_u)
        return UpdateAdjoint(a_phi, {}, 0.0, a_direction * scale, a_h)
