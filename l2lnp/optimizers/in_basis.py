"""Any optimizer in the curvature basis: it sees rotated gradients, and its updates are rotated back.

    g' = Q^T g         u', state' = inner.update(phi, state, (loss, g', h', theta))         u = Q u'

with the axes Q of `l2lnp.basis`, which are refreshed at steps 0, 1, 2, 4 and then regularly, by
`InBasis.look`; between refreshes they stand still. At a refresh first-moment averages are
turned into the new axes; second moments and LSTM states stay with their column. h' is made of
the factors' eigenvalues, so nothing asks for second derivatives, unless the optimizee gives it
(curvature mode ``ekfac``). Q, and h' with it, counts as a
constant in meta-gradients, also in exact ones: they are exact given the basis.

theta is handed on as it is: only its root mean square over each layer is asked for, which no
rotation changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from l2lnp import basis
from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.optimizers.base import Context, Inputs, Phi, State, UpdateAdjoint
from l2lnp.optimizers.wrapper import Wrapper
from l2lnp.tasks.base import Optimizee, OptimizeeWithModes
from l2lnp.tree import Moments

_MOMENT, _AXES, _SPECTRUM = "basis/moment", "basis/axes", "basis/spectrum"
_STEP, _REFRESHES = "basis/step", "basis/refreshes"


@dataclass(frozen=True)
class InBasis(Wrapper):
    """``inner`` in the curvature basis.

    Parameters
    ----------
    every
        Steps between refreshes.
    max_width
        Modes wider than this are left alone.
    recency
        How much more the later moments count than the first, r >= 1 in `l2lnp.basis`.

    Notes
    -----
    The state is that of ``inner`` and, for each mode, ``basis/moment/{layer}/{mode}``,
    ``basis/axes/{layer}/{mode}`` (width, width) and, where ``inner`` reads h,
    ``basis/spectrum/{layer}/{mode}`` (width,); ``basis/step`` and ``basis/refreshes`` count.
    """

    every: int = 10
    max_width: int = 512
    recency: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1 or self.max_width < 1:
            raise InputError(
                f"{self.name}: basis_every and basis_max_width must be positive, "
                f"not {self.every} and {self.max_width}"
            )
        if self.recency < 1:
            raise InputError(f"{self.name}: basis_recency must be 1 or more, not {self.recency}")

    @property
    def uses_curvature(self) -> bool:  # type: ignore[override]
        """Whether `update` needs h: only where there is no basis to take it from."""
        return self.inner.uses_curvature and not self._modes

    def init_state(self, theta: Array) -> State:
        """Return the state of ``inner``, moments of zero, and axes along the coordinates."""
        xp = array_module(theta)
        state = {**self.inner.init_state(theta), _STEP: 0, _REFRESHES: 0}
        for key in self._modes:
            width = self._rotated.get(key, 1)
            state[_path(_MOMENT, key)] = xp.zeros((width, width), theta.dtype)
            if key in self._rotated:
                state[_path(_AXES, key)] = xp.eye(width, dtype=theta.dtype)
            if self.inner.uses_curvature:
                state[_path(_SPECTRUM, key)] = xp.zeros(width, theta.dtype)
        return state

    def look(
        self, optimizee: Optimizee, theta: Array, batch: Any, context: Context, state: State
    ) -> tuple[Inputs, State]:
        if not self._modes:
            return super().look(optimizee, theta, batch, context, state)
        task = cast(OptimizeeWithModes, optimizee)
        wants_h = self.inner.uses_curvature and task.has_h_in_basis
        if basis.is_refresh(state[_STEP], self.every):
            evaluation, moments = task.evaluate_with_moments(theta, batch, False, self.max_width)
            state = self.refreshed(state, evaluation[1], moments)
            if wants_h:  # which is to be had only now that the axes are known
                evaluation, _ = task.evaluate_with_moments(theta, batch, True, 0, self._axes(state))
        elif wants_h:
            evaluation, _ = task.evaluate_with_moments(theta, batch, True, 0, self._axes(state))
        else:
            evaluation = task.evaluate(theta, batch, False)
        return self._inputs(evaluation, theta, context), state

    def refreshed(self, state: State, g: Array, moments: Moments) -> State:
        """Return ``state`` in the axes that follow from new ``moments``; ``g`` decides the first signs."""
        n, keys = state[_REFRESHES], list(self._modes)
        references = basis.references(self.layout, g) if n == 0 else {}

        def refresh(index: int) -> State:
            key = keys[index]
            m = basis.averaged(n, state[_path(_MOMENT, key)], moments[key], self.recency)
            found, spectrum = {_path(_MOMENT, key): m}, m.reshape(-1)
            if key in self._rotated:
                q = state[_path(_AXES, key)]
                q, spectrum = basis.iterated(m, q) if n else basis.eigenvectors(m, references[key])
                found[_path(_AXES, key)] = q
            return found | ({_path(_SPECTRUM, key): spectrum} if self.inner.uses_curvature else {})

        after = {**state, _REFRESHES: n + 1}
        for found in self._execution.map(refresh, len(keys)):
            after |= found
        turn = self._turn(state, after)
        return {**after, **self.inner.carried(self._inner(after), lambda v: self._rotate(turn, v))}

    def n_alike(self, state: State, most: int) -> int:
        """Return how many of the next ``most`` steps come before the next refresh."""
        steps = (i for i in range(most) if self._modes and basis.is_refresh(state[_STEP] + i, self.every))
        return self.inner.n_alike(self._inner(state), next(steps, most))

    def look_adjoint(self, before: State, after: State, a_state: State) -> State:
        if before is after:
            return a_state
        turn = self._turn(before, after)
        return self.inner.carried(a_state, lambda v: self._rotate_back(turn, v))

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return the update u (P,) and the next state.

        Raises
        ------
        InputError
            If no `look` or `refreshed` has formed the basis before.
        """
        axes = self._axes(state)
        u, after = self.inner.update(phi, self._inner(state), self._rotated_inputs(state, axes, inputs))
        return self._rotate_back(axes, u), {**state, **after, _STEP: state[_STEP] + 1}

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        axes = self._axes(state)
        inside = self._rotated_inputs(state, axes, inputs)
        a = self.inner.update_adjoint(phi, self._inner(state), inside, self._rotate(axes, a_u), a_state)
        a_h = a.h if self.uses_curvature else None
        return a._replace(g=self._rotate_back(axes, a.g), h=a_h)

    def unroll_adjoint(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        a_u: Sequence[Array],
        a_state: State,
        states: Sequence[State] | None = None,
    ) -> tuple[Phi, State]:
        axes = self._axes(state)
        inside = [self._rotated_inputs(state, axes, inputs) for inputs in steps]
        a_inside = [self._rotate(axes, a) for a in a_u]
        states = states and [self._inner(after) for after in states]
        return self.inner.unroll_adjoint(phi, self._inner(state), inside, a_inside, a_state, states)

    def _rotated_inputs(self, state: State, axes: Moments, inputs: Inputs) -> Inputs:
        if self._modes and not state[_REFRESHES]:
            raise InputError(f"{self.name}: the basis is formed by `look`, or `refreshed`, before `update`")
        self.layout.check(g=inputs.g)
        h = inputs.h  # in the basis already, where there is one
        if h is None and self.inner.uses_curvature and self._modes:
            spectra = {key: state[_path(_SPECTRUM, key)] for key in self._modes}
            h = basis.diagonal(self.layout, spectra, inputs.g)
        return inputs._replace(g=self._rotate(axes, inputs.g), h=h)

    def _rotate(self, axes: Moments, v: Array) -> Array:
        return basis.rotate(self.layout, axes, v, self._execution)

    def _rotate_back(self, axes: Moments, v: Array) -> Array:
        return basis.rotate_back(self.layout, axes, v, self._execution)

    def _turn(self, before: State, after: State) -> Moments:
        """Return what turns coordinates in the axes of ``before`` into those of ``after``."""
        old, new = self._axes(before), self._axes(after)
        return {key: basis.turn(old[key], q) for key, q in new.items()}

    def _axes(self, state: State) -> Moments:
        return {key: state[_path(_AXES, key)] for key in self._rotated}

    def _inner(self, state: State) -> State:
        return {key: value for key, value in state.items() if not key.startswith("basis/")}

    @cached_property
    def _modes(self) -> dict[tuple[int, int], int]:
        return basis.mode_widths(self.layout)

    @cached_property
    def _rotated(self) -> dict[tuple[int, int], int]:
        return {key: width for key, width in self._modes.items() if 1 < width <= self.max_width}

    @cached_property
    def _execution(self) -> Execution:
        return self.execution or Execution()


def _path(what: str, key: tuple[int, int]) -> str:
    layer, mode = key
    return f"{what}/{layer}/{mode}"
