"""Unrolled optimisation and its reverse: the meta-gradient.

One inner step t maps (theta, state) to (theta', state'):

    loss, g, h     = optimizee.evaluate(theta, batch_t)
    u, state'      = optimizer.update(phi, state, inputs)        inputs: loss, g, h, ...
    theta'         = kept theta + u                              kept: 1, or less by the weight decay

The meta-loss is a weighted mean of the losses at theta_1 .. theta_T, each *after* an
update, so that the last update earns credit too. The loss at theta_T is the first
evaluation of the next unroll, so it is not computed twice: it enters as the cotangent
``a_theta = weight g_T``.

Walking back, with a_theta the derivative of the meta-loss in theta_t+1:

    a_phi += ..., a_state, a_loss, a_g, a_h = optimizer.update_adjoint(phi, state_t, ..., a_theta, a_state)
    a_theta  = kept a_theta + (weight_t + a_loss) g_t + (dg/dtheta)^T a_g + (dh/dtheta)^T a_h

The exact reverse needs third derivatives of the loss (`Optimizee.adjoint`). Without
second derivatives the last two terms and a_loss are left out (not multiplied by 0, which
NaN would survive): loss, g and h count as constants, a_theta is a running sum of
gradients, and the optimizer's own `unroll_adjoint` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from l2lnp.backend import Array
from l2lnp.optimizers.base import Context, Inputs, Optimizer, Phi, State
from l2lnp.scalars import Scalar, like
from l2lnp.tasks.base import Optimizee
from l2lnp.tree import add_params

START = Context()


class Step(NamedTuple):
    """What is kept of one inner step.

    theta and batch are kept only where second derivatives are wanted; the state after the step only where the
    optimizer goes back by it (`Optimizer.keeps_states`).
    """

    inputs: Inputs
    weight: Scalar  # of the step's own loss in the meta-loss
    theta: Array | None = None
    batch: Any = None
    after: State | None = None


@dataclass
class Tape:
    """The steps of an unroll, and the optimizer's state before the first of them.

    ``renewed`` holds the states that a `look` at a step's loss has changed before the step.
    """

    state: State
    steps: list[Step] = field(default_factory=list)
    renewed: dict[int, State] = field(default_factory=dict)

    def record(self, step: Step, before: State, state: State) -> None:
        """Append a step that was made from ``state``, which `look` has made of ``before``."""
        if state is not before:
            self.renewed[len(self.steps)] = state
        self.steps.append(step)

    def segments(self) -> list[Segment]:
        """Cut the tape where `look` has changed the state."""
        starts = sorted({0, *self.renewed})
        stops = [*starts[1:], len(self.steps)]
        spans = [slice(*bounds) for bounds in zip(starts, stops, strict=True)]
        states = [self.renewed.get(start, self.state) for start in starts]
        befores = [self.state, *states[:-1]]
        return [
            Segment(before, state, self.steps[span], span)
            for before, state, span in zip(befores, states, spans, strict=True)
        ]


class Segment(NamedTuple):
    """Neighbouring steps between which `look` has changed nothing."""

    before: State  # with the axes of the segment before it
    state: State
    steps: list[Step]
    span: slice

    @property
    def states(self) -> list[State] | None:
        """The state after each step, where they were kept."""
        kept = [step.after for step in self.steps if step.after is not None]
        return kept if len(kept) == len(self.steps) else None


class Unrolled(NamedTuple):
    """Where an unroll ends, and its tape."""

    theta: Array
    state: State
    tape: Tape


class MetaGradient(NamedTuple):
    """Derivatives of the meta-loss in phi, and in theta and state at the *start* of the unroll."""

    phi: Phi
    theta: Array
    state: State


def unroll(
    optimizer: Optimizer,
    phi: Phi,
    optimizee: Optimizee,
    theta: Array,
    state: State,
    batches: Iterable[Any],
    weights: Sequence[float] | None = None,
    context: Context = START,
) -> Unrolled:
    """Make one inner step for each of ``batches`` and keep them on a tape.

    Parameters
    ----------
    weights
        Of the loss *before* each step in the meta-loss. By default 0 for the first, which
        no step of this unroll can change, and 1 / T for the others; an unroll that goes on
        from another gives its first loss its weight too.
    context
        Of the first step.
    """
    batches = list(batches)
    if weights is None:
        weights = [1 / len(batches) if t else 0.0 for t in range(len(batches))]
    tape, keeps_states = Tape(state), optimizer.keeps_states(theta)
    for batch, weight in zip(batches, weights, strict=True):
        inputs, renewed = optimizer.look(optimizee, theta, batch, context, state)
        step, before = Step(inputs, weight, theta, batch), state
        theta, state = optimizer.step(phi, renewed, inputs, theta)
        tape.record(step._replace(after=state if keeps_states else None), before, renewed)
        context = context._replace(step=context.step + 1)
    return Unrolled(theta, state, tape)


def meta_gradient(
    optimizer: Optimizer,
    phi: Phi,
    optimizee: Optimizee,
    tape: Tape,
    a_theta: Array,
    a_state: State | None = None,
    second_derivatives: bool = False,
) -> MetaGradient:
    """Return the derivative of the meta-loss in the meta-parameters ``phi``.

    Parameters
    ----------
    a_theta, a_state
        Cotangents of the unroll's final theta (P,) and optimizer state. The last loss
        enters as ``a_theta = weight g_T``; no ``a_state`` truncates.
    second_derivatives
        False drops how loss, g and h move with theta, as Andrychowicz et al. (2016) do.
    """
    if second_derivatives:
        return _exact(optimizer, phi, optimizee, tape, a_theta, a_state or {})
    a_u = []
    for step in reversed(tape.steps):
        a_u.append(a_theta)
        a_theta = _through_decay(optimizer, step, a_theta)
        if not (isinstance(step.weight, int | float) and step.weight == 0):  # 0 times NaN would be NaN
            a_theta = a_theta + like(step.weight, a_theta) * step.inputs.g
    a_phi, a_state = updates_adjoint(optimizer, phi, tape, a_u[::-1], a_state or {})
    return MetaGradient(a_phi, a_theta, a_state)


def updates_adjoint(
    optimizer: Optimizer, phi: Phi, tape: Tape, a_u: Sequence[Array], a_state: State
) -> tuple[Phi, State]:
    """Return a_phi, and a_state at the start, from the cotangent of each update on the tape and of its end.

    What the optimizer saw counts as constant.
    """
    a_phi: Phi = {}
    for segment in reversed(tape.segments()):
        inputs = [step.inputs for step in segment.steps]
        a, a_state = optimizer.unroll_adjoint(
            phi, segment.state, inputs, a_u[segment.span], a_state, segment.states
        )
        a_phi, a_state = add_params(a_phi, a), optimizer.look_adjoint(segment.before, segment.state, a_state)
    return a_phi, a_state


def _through_decay(optimizer: Optimizer, step: Step, a_theta: Array) -> Array:
    """Return the share of ``a_theta`` that goes to theta before the step beside its update."""
    kept = optimizer.kept(step.inputs.context)
    return a_theta if isinstance(kept, float) and kept == 1.0 else like(kept, a_theta) * a_theta


def _exact(
    optimizer: Optimizer, phi: Phi, optimizee: Optimizee, tape: Tape, a_theta: Array, a_state: State
) -> MetaGradient:
    a_phi: Phi = {}
    for segment in reversed(tape.segments()):
        states = optimizer.replay(phi, segment.state, [step.inputs for step in segment.steps])
        for step, state in zip(reversed(segment.steps), reversed(states), strict=True):
            a = optimizer.update_adjoint(phi, state, step.inputs, a_theta, a_state)
            a_phi, a_state = add_params(a_phi, a.phi), a.state
            a_theta = _through_decay(optimizer, step, a_theta)
            a_theta = a_theta + optimizee.adjoint(step.theta, step.batch, step.weight + a.loss, a.g, a.h)
            if a.theta is not None:
                a_theta = a_theta + a.theta
        a_state = optimizer.look_adjoint(segment.before, segment.state, a_state)
    return MetaGradient(a_phi, a_theta, a_state)
