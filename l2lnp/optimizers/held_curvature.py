"""An optimizer that looks at the second derivatives every k steps only, and holds h in between.

    h_t = h(theta_t, batch_t)  where t is a multiple of k, else h_t-1
    u, state' = inner.update(phi, state, (loss, g, h_t, theta))

The steps in between cost a gradient sweep alone. Exact meta-gradients go through h too: what
the steps that used it say about a held h is added up, and goes to the step that computed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.optimizers.base import Context, Inputs, Phi, State, UpdateAdjoint
from l2lnp.optimizers.wrapper import Wrapper
from l2lnp.tasks.base import Optimizee

_H, _STEP = "curvature/h", "curvature/step"


@dataclass(frozen=True)
class HeldCurvature(Wrapper):
    """``inner``, which reads h, with an h that is computed every ``every`` steps.

    Notes
    -----
    The state is that of ``inner`` with ``curvature/h`` (P,) and ``curvature/step``, the steps taken.
    """

    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise InputError(f"{self.name}: curvature_every must be positive, not {self.every}")

    def init_state(self, theta: Array) -> State:
        """Return the state of ``inner``, and an h that the first step replaces."""
        return {**self.inner.init_state(theta), _H: array_module(theta).zeros_like(theta), _STEP: 0}

    def look(
        self, optimizee: Optimizee, theta: Array, batch: Any, context: Context, state: State
    ) -> tuple[Inputs, State]:
        evaluation = optimizee.evaluate(theta, batch, self._is_fresh(state))
        return self._inputs(evaluation, theta, context), state

    def n_alike(self, state: State, most: int) -> int:
        """Return how many of the next ``most`` steps go by the h that is held."""
        until_fresh = -state[_STEP] % self.every
        return self.inner.n_alike(self._inner(state), min(most, until_fresh))

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return the update u (P,) and the next state; ``inputs.h`` counts where a new h is due."""
        inputs = self._held(state, inputs)
        u, after = self.inner.update(phi, self._inner(state), inputs)
        return u, {**after, _H: inputs.h, _STEP: state[_STEP] + 1}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        held = self._held(state, inputs)
        a = self.inner.update_adjoint(phi, self._inner(state), held, a_u, self._inner(a_state))
        a_h = a.h if _H not in a_state else a_state[_H] if a.h is None else a_state[_H] + a.h
        if self._is_fresh(state):
            return a._replace(h=a_h)
        return a._replace(h=None, state=a.state if a_h is None else {**a.state, _H: a_h})

    def unroll_adjoint(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        a_u: Sequence[Array],
        a_state: State,
        states: Sequence[State] | None = None,
    ) -> tuple[Phi, State]:
        held, h = [], state[_H]
        for t, inputs in enumerate(steps, state[_STEP]):
            held.append(self._held({_H: h, _STEP: t}, inputs))
            h = held[-1].h
        states = states and [self._inner(after) for after in states]
        return self.inner.unroll_adjoint(phi, self._inner(state), held, a_u, self._inner(a_state), states)

    def _is_fresh(self, state: State) -> bool:
        """Return whether the step from ``state`` computes a new h."""
        return state[_STEP] % self.every == 0

    def _held(self, state: State, inputs: Inputs) -> Inputs:
        return inputs if self._is_fresh(state) else inputs._replace(h=state[_H])

    def _inner(self, state: State) -> State:
        return {key: value for key, value in state.items() if key not in (_H, _STEP)}
