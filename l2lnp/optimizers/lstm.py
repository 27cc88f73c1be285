"""The learned optimizers `LSTM` and `SLSTM`: the coordinatewise LSTM, and the way back through its steps.

The way forward is `l2lnp.optimizers.lstm_forward`. Back, the steps of an unroll are gone through chunk by
chunk (`l2lnp.optimizers.lstm_there_and_back`), so that what is kept of them stays in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from l2lnp.backend import Array, array_module
from l2lnp.kernels import lstm, twin
from l2lnp.kernels.lstm import Weights
from l2lnp.optimizers import lstm_update_adjoint
from l2lnp.optimizers.base import Inputs, Phi, State, UpdateAdjoint
from l2lnp.optimizers.chunks import Span
from l2lnp.optimizers.lstm_forward import LSTMForward
from l2lnp.optimizers.lstm_there_and_back import Way, there_and_back
from l2lnp.optimizers.lstm_update import scales_of
from l2lnp.optimizers.preprocessing import Observed
from l2lnp.scalars import like


@dataclass(frozen=True)
class LSTM(LSTMForward):
    """A coordinatewise LSTM that reads gradients alone; its settings are those of `LSTMForward`."""

    name: ClassVar[str] = "lstm"
    learned: ClassVar[bool] = True

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Adjoint of `update`, through the LSTM, the features and the statistics of tensors."""
        inputs = self._checked(inputs)
        observed = self._observe(state["moments"], state["t"] + 1, inputs)
        a_rows = array_module(a_u).empty((self._sizes.n_features, a_u.size), a_u.dtype)
        output = array_module(a_u).empty_like(a_u)
        a_phi, a_lstm = self._bptt(phi, state, [inputs], [observed], [a_u], a_state, a_rows, output)
        a_moments, a = self._preprocessing.adjoint(
            a_rows,
            a_state.get("moments"),
            observed.moments,
            state["t"] + 1,
            inputs,
            observed.units,
            observed.statistics,
            self._tensors,
        )
        a_h = None if inputs.h is None else a.h
        a_theta = self._theta_adjoint(inputs, self._tensors.mean(a_u * output), a.units)
        return UpdateAdjoint(a_phi, {"moments": a_moments, "lstm": a_lstm}, a.loss, a.g, a_h, a_theta)

    def keeps_states(self, theta: Array) -> bool:
        is_kept: bool = twin(lstm_update_adjoint, theta).is_for(self._preprocessing)
        return is_kept

    def unroll_adjoint(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        a_u: Sequence[Array],
        a_state: State,
        states: Sequence[State] | None = None,
    ) -> tuple[Phi, State]:
        """Adjoint of several updates with loss, g, h and theta constant, chunk by chunk.

        The moving averages depend on g and h alone and so are constants too: their
        cotangents, which nothing here depends on, are left out of ``a_state``.
        """
        if self.keeps_states(state["lstm"]):
            return self._from_states(
                phi, state, steps, a_u, a_state, states or self._after(phi, state, steps)
            )
        moments, observed = state["moments"], []
        for t, inputs in enumerate(steps, state["t"] + 1):
            seen = self._observe(moments, t, self._checked(inputs))
            moments = seen.moments
            observed.append(seen._replace(moments=None))  # of all steps they would take too much memory
        a_phi, a_lstm = self._bptt(phi, state, steps, observed, a_u, a_state)
        return a_phi, {"lstm": a_lstm}

    def _after(self, phi: Phi, state: State, steps: Sequence[Inputs]) -> list[State]:
        """Return the state after each of ``steps``."""
        befores = self.replay(phi, state, steps)
        return [*befores[1:], self.update(phi, befores[-1], steps[-1])[1]]

    def _from_states(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        a_u: Sequence[Array],
        a_state: State,
        states: Sequence[State],
    ) -> tuple[Phi, State]:
        """Return what `unroll_adjoint` does, from the states after the steps."""
        made, weights, before = [], self._fold(phi, state["lstm"]), state
        for inputs, a, after in zip(map(self._checked, steps), a_u, states, strict=True):
            seen = Observed(after["moments"], None, None)
            if self._preprocessing.has_statistics or self.uses_theta:
                again = self._observe(before["moments"], after["t"], inputs)
                seen = again._replace(moments=after["moments"])
            step = self._step(weights, after["t"], inputs, seen, self._lstm(before), self._lstm(after), a)
            made.append(step)
            before = after
        start = self._lstm(state)
        a_lstm = a_state["lstm"].copy() if "lstm" in a_state else array_module(start).zeros_like(start)
        kernels = twin(lstm_update_adjoint, start)
        sums = kernels.reverse(made, a_lstm, self._chunks, self.groups, self._space())
        return self._of_groups(sums), {"lstm": a_lstm}

    def _of_groups(self, sums: Mapping[str, Any]) -> Phi:
        """Return a_phi from the cotangents of each group's weights, as `reverse` gives them."""
        of = {group: twin(lstm, a[0]).unfold(a) for group, a in sums.items()}
        return {f"{group}/{path}": of[group][path] for group in self.groups for path in of[group]}

    def _bptt(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        observed: Sequence[Observed],
        a_u: Sequence[Array],
        a_state: State,
        a_rows: Array | None = None,
        outputs: Array | None = None,
    ) -> tuple[Phi, Array]:
        """Return a_phi and the cotangent of state["lstm"].

        For a single step, fill ``a_rows`` (F, P), and ``outputs`` (P,) with the update before it is scaled.
        """
        xp, before = array_module(*a_u), self._lstm(state)
        weights = self._fold(phi, before)
        scales = [self._scales(inputs, seen) for inputs, seen in zip(steps, observed, strict=True)]
        spans = self._spans(len(steps), before)
        a_lstm = xp.array(a_state["lstm"]) if "lstm" in a_state else xp.zeros_like(before)
        way = Way(self._sizes, self.head, weights, before, a_lstm, a_rows, outputs)

        def run(index: int) -> list[Weights]:
            span = spans[index]
            rows = self._rows(span, state, steps, observed)
            a_heads = xp.empty((len(steps), span.n), before.dtype)
            for a_head, scale, a_u_t in zip(a_heads, scales, a_u, strict=True):
                a_head[...] = span.tensors.spread(scale) * a_u_t[span.coordinates]
            return list(there_and_back(way, span, rows, a_heads, self._space()))

        sums: dict[str, Weights] = {}
        for span, of_chunks in zip(spans, self._execution.map(run, len(spans)), strict=True):
            for chunk, a in zip(span.chunks, of_chunks, strict=True):
                total = sums.get(chunk.group)
                sums[chunk.group] = (
                    a if total is None else Weights(*(x + y for x, y in zip(total, a, strict=True)))
                )
        return self._of_groups(sums), a_lstm

    def _rows(self, span: Span, state: State, steps: Sequence[Inputs], observed: Sequence[Observed]) -> Array:
        """Return the features (T, F, n) of all steps over a span, in the arena."""
        moments = state["moments"][:, span.coordinates]
        rows = self._space().empty("features", (len(steps), self._sizes.n_features, span.n), moments)
        for t, inputs in enumerate(map(span.of, steps)):
            moments = self._preprocessing.advance(moments, inputs)
            self._preprocessing.fill(
                rows[t], moments, state["t"] + 1 + t, inputs, observed[t].statistics, span.tensors
            )
        return rows

    def _scales(self, inputs: Inputs, observed: Observed) -> Array:
        """Return what the output is multiplied by for each tensor, (n_tensors,)."""
        return scales_of(self._factor(inputs), self._step_units(observed), inputs.g, len(self._tensors.sizes))

    def _theta_adjoint(self, inputs: Inputs, a_output: Array, a_units: Array) -> Array | None:
        """Return a_theta from the mean cotangent over each tensor of its scale, and that of the units."""
        if not self.uses_theta:
            return None
        if self.step_unit == "weights":
            factor = like(self._factor(inputs), a_output) * self._weight_unit.step_shares(a_output)
            a_units = a_units + factor * a_output * self._tensors.counts(a_output)
        return self._weight_unit.adjoint(inputs.theta, a_units)


@dataclass(frozen=True)
class SLSTM(LSTM):
    """A coordinatewise LSTM that reads gradients and second derivatives."""

    features: tuple[str, ...] = ("rnnprop", "newton_ratio", "log_noise")

    name: ClassVar[str] = "slstm"
    uses_curvature: ClassVar[bool] = True
