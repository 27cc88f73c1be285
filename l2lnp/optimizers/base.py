"""What an optimizer is: a pure function of (phi, state, loss, g, h), and its adjoint.

    u, state'  = update(phi, state, loss, g, h)
    theta'     = theta + u

Everything is a plain array over coordinates (P,), so any loss function can be driven,
also one that is no network (``docs/tutorials/your_own_loss.md``). The optimizer object is
a frozen description that holds sizes and settings; what is learned stands in phi, what
is remembered between steps in the state, both flat dictionaries of arrays (keys are
paths as in the files, ``"conv/lstm1/w"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

from l2lnp.backend import Array
from l2lnp.tree import Layout

Phi: TypeAlias = dict[str, Array]
State: TypeAlias = dict[str, Array | int]


class Inputs(NamedTuple):
    """What one inner step gives the optimizer, and what its adjoint gives cotangents for."""

    loss: float
    g: Array  # (P,)
    h: Array | None  # (P,); None for an optimizer that uses no curvature


class UpdateAdjoint(NamedTuple):
    """Cotangents of everything that goes into one `Optimizer.update`."""

    phi: Phi
    state: State
    loss: float
    g: Array
    h: Array | None


@dataclass(frozen=True)
class Optimizer:
    """The protocol of all optimizers, hand-designed and learned."""

    layout: Layout

    name: ClassVar[str] = ""
    uses_curvature: ClassVar[bool] = False

    def init_phi(self, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Phi:
        """Draw initial meta-parameters on the host: the learning rate, or the LSTM's weights."""
        raise NotImplementedError

    def init_state(self, theta: Array) -> State:
        """Return the state before the first step, arrays of theta's library and dtype."""
        raise NotImplementedError

    def update(
        self, phi: Phi, state: State, loss: float, g: Array, h: Array | None
    ) -> tuple[Array, State]:
        """Return the update u (P,) and the next state; changes none of its arguments."""
        raise NotImplementedError

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Return the adjoint of `update` in phi, state, loss, g and h, at the step's arguments."""
        raise NotImplementedError

    def unroll_adjoint(
        self, phi: Phi, state: State, steps: Sequence[Inputs], a_u: Sequence[Array], a_state: State
    ) -> tuple[Phi, State]:
        """Return the adjoint of several updates, with loss, g and h taken as constants.

        Parameters
        ----------
        state
            The state before the first of ``steps``.
        a_u
            The cotangent of each step's update.
        a_state
            The cotangent of the state after the last step.

        Returns
        -------
        a_phi, a_state
            The latter refers to ``state``.
        """
        raise NotImplementedError
