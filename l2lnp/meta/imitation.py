"""Imitation: a learned optimizer is trained to propose the updates that a teacher makes.

A hand-designed teacher trains theta; the learned optimizer looks on and proposes an update u_t
of its own at each step, with its own state carried on. phi goes down the mean distance

    D = 1/T sum_t |u_t - u*_t|^2 / |u*_t|^2        u*_t: the teacher's update

The way of theta does not depend on phi, so the meta-gradient through the optimizer's state is
exact without second derivatives.

References
----------
Chen et al. 2020 (arXiv 2010.09089), section 4: imitation against truncation bias. Departs: the distance is
relative, so that it means the same whatever the teacher's rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError
from l2lnp.meta.joint import adam_step, all_finite
from l2lnp.meta.unroll import Step, Tape, updates_adjoint
from l2lnp.optimizers.base import Context, Optimizer, Phi, State
from l2lnp.randomness import generator
from l2lnp.scalars import Scalar, like, scalar
from l2lnp.tasks.base import Optimizee

TINY = 1e-20  # beside |u*|^2, for a teacher that stands still


class Imitated(NamedTuple):
    """phi and its Adam state after an episode; the teacher's losses as it saw them, and D of each unroll."""

    phi: Phi
    meta: State
    losses: Sequence[Scalar]
    distances: list[float]


def imitate(
    optimizer: Optimizer,
    teacher: Optimizer,
    phi: Phi,
    meta: State,
    optimizee: Optimizee,
    theta: Array,
    batches: Iterable[Any],
    truncation_steps: int,
    rate: float,
    clip_norm: float,
    context: Context,
) -> Imitated:
    """Let ``teacher`` train ``theta`` on ``batches``, and ``optimizer`` learn its updates.

    Parameters
    ----------
    truncation_steps
        Steps between two changes of phi, which is kept where numbers are not finite; steps left over
        at the end change nothing.
    context
        Of the first step.
    """
    if truncation_steps < 1:
        raise InputError(f"an unroll has one step or more, not {truncation_steps}")
    state, lessons_state = optimizer.init_state(theta), teacher.init_state(theta)
    lessons_phi = _phi_of(teacher, theta)
    losses: list[Scalar] = []
    distances: list[float] = []
    tape, proposals, lessons = Tape(state), [], []
    for batch in batches:
        inputs, renewed = optimizer.look(optimizee, theta, batch, context, state)
        seen, lessons_state = teacher.look(optimizee, theta, batch, context, lessons_state)
        tape.record(Step(inputs, 0.0), state, renewed)
        proposal, state = optimizer.update(phi, renewed, inputs)
        lesson, lessons_state = teacher.update(lessons_phi, lessons_state, seen)
        theta, context = teacher.moved(theta, lesson, context), context._replace(step=context.step + 1)
        losses.append(inputs.loss)
        proposals.append(proposal)
        lessons.append(lesson)
        if len(lessons) == truncation_steps:
            distance, a_phi = imitation_gradient(optimizer, phi, tape, proposals, lessons)
            distances.append(float(distance))
            if all_finite(a_phi.values()):
                phi, meta = adam_step(phi, meta, a_phi, rate, clip_norm)
            tape, proposals, lessons = Tape(state), [], []
    return Imitated(phi, meta, losses, distances)


def _phi_of(teacher: Optimizer, theta: Array) -> Phi:
    """Return the teacher's learning rate, in theta's library and type."""
    phi = teacher.init_phi(generator(0, "phi"), theta.dtype)  # draws nothing
    return {key: array_module(theta).asarray(value) for key, value in phi.items()}


def imitation_gradient(
    optimizer: Optimizer, phi: Phi, tape: Tape, proposals: Sequence[Array], lessons: Sequence[Array]
) -> tuple[Scalar, Phi]:
    """Return D of the steps on ``tape``, and its derivative in ``phi``; the state before them is constant."""
    distance, a_u = 0.0, []
    for proposal, lesson in zip(proposals, lessons, strict=True):
        error, scale = proposal - lesson, 1.0 / (len(lessons) * (scalar(lesson @ lesson) + TINY))
        distance = distance + scale * scalar(error @ error)
        a_u.append(like(2.0 * scale, error) * error)
    return distance, updates_adjoint(optimizer, phi, tape, a_u, {})[0]
