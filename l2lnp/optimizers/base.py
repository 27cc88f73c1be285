"""What an optimizer is: a pure function of (phi, state, inputs), and its adjoint.

    u, state'  = update(phi, state, inputs)         inputs: loss, g, h, ...
    theta'     = kept theta + u                             kept: 1, or less by the weight decay

Everything is a plain array over coordinates (P,), so any loss function can be driven,
also one that is no network (``docs/tutorials/your_own_loss.md``). The optimizer object is
a frozen description that holds sizes and settings; what is learned stands in phi, what
is remembered between steps in the state, both flat dictionaries of arrays (keys are
paths as in the files, ``"conv/lstm1/w"``).

Cotangents of a state are dictionaries too. A missing key stands for zero, and whole
numbers in a state, such as the count of steps ``"t"``, have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, pi
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution
from l2lnp.scalars import Scalar, cos, exp, least, like
from l2lnp.tasks.base import Optimizee
from l2lnp.tree import Layout, add_params

Phi: TypeAlias = dict[str, Array]
State: TypeAlias = dict[str, Any]  # arrays, and the whole number "t"


class Context(NamedTuple):
    """What is known of a step beside derivatives: its place in the run, the sizes of batch and data."""

    step: Scalar = 0  # steps made before
    n_steps: int | None = None  # of the whole run; None where nobody knows
    batch_size: int | None = None
    n_samples: int | None = None  # that there are to train on

    @property
    def share(self) -> Scalar:
        """The share of the run that is over, 0 to 1.

        Raises
        ------
        InputError
            If the length of the run is not known.
        """
        if self.n_steps is None:
            raise InputError("this optimizer goes by the length of the run: say how many steps there will be")
        return least(self.step / self.n_steps, 1.0)

    @property
    def samples(self) -> int:
        """The batch size.

        Raises
        ------
        InputError
            If it is not known.
        """
        if self.batch_size is None:
            raise InputError("this optimizer goes by the batch size: say how many samples a batch has")
        return self.batch_size

    @property
    def passes(self) -> float:
        """The share of the data that one batch is: passes through the data per step.

        Raises
        ------
        InputError
            If either size is not known.
        """
        if self.n_samples is None:
            raise InputError("weight decay goes by passes through the data: say how many samples there are")
        return self.samples / self.n_samples


class Inputs(NamedTuple):
    """What one inner step gives the optimizer; its adjoint gives cotangents for all but the context."""

    loss: Scalar
    g: Array  # (P,)
    h: Array | None  # (P,); None for an optimizer that uses no curvature
    theta: Array | None = None  # (P,) before the step; None for an optimizer that does not ask for it
    context: Context = Context()


class UpdateAdjoint(NamedTuple):
    """Cotangents of everything that goes into one `Optimizer.update`."""

    phi: Phi
    state: State
    loss: Scalar
    g: Array
    h: Array | None
    theta: Array | None = None


SCHEDULES: Mapping[str, Callable[[Context], Scalar]] = {
    "constant": lambda context: 1.0,
    "cosine": lambda context: 0.5 * (1.0 + cos(pi * context.share)),
}


@dataclass(frozen=True)
class Optimizer:
    """The protocol of all optimizers, hand-designed and learned.

    Parameters
    ----------
    layout
        Where each tensor lies in theta.
    execution
        Threads, and the chunks of coordinates that learned optimizers work on; changes no
        result but the last bits, and is no part of what makes two optimizers equal.
    schedule
        What every update is multiplied by, over the length of the run (`SCHEDULES`):
        ``"constant"``, 1; ``"cosine"``, from 1 down to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983).
    weight_decay
        How fast theta decays beside its updates, per pass through the data, times what the schedule
        says. No learning rate scales it (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2), and
        a time constant in passes holds for data of any size (Wang & Aitchison 2024, arXiv 2405.13698).
    """

    layout: Layout
    execution: Execution | None = field(default=None, compare=False, repr=False, kw_only=True)
    schedule: str = field(default="constant", kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)

    name: ClassVar[str] = ""
    uses_curvature: ClassVar[bool] = False
    learned: ClassVar[bool] = False  # True where phi is made to be learned while theta is
    basis: ClassVar[str] = "coordinates"  # what it works in unless told otherwise (`make_optimizer`)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        if not 0 <= self.weight_decay < inf:
            raise InputError(f"{self.name}: the weight decay must be at least 0, not {self.weight_decay}")

    @property
    def uses_theta(self) -> bool:
        """Whether `update` needs theta: true of learned optimizers that step in units of the weights."""
        return False

    def init_phi(self, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Phi:
        """Draw initial meta-parameters on the host: the learning rate, or the LSTM's weights."""
        raise NotImplementedError

    def init_state(self, theta: Array) -> State:
        """Return the state before the first step, arrays of theta's library and dtype."""
        raise NotImplementedError

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        """Return the update u (P,) and the next state; changes none of its arguments.

        Raises
        ------
        InputError
            If the optimizer needs h, theta, the length of the run or the batch size, and the inputs lack it.
        """
        raise NotImplementedError

    def scheduled(self, context: Context) -> Scalar:
        """Return what the schedule multiplies the update of this step by."""
        return SCHEDULES[self.schedule](context)

    def kept(self, context: Context) -> Scalar:
        """Return the share of theta that this step keeps: exp(-weight_decay schedule passes)."""
        if not self.weight_decay:
            return 1.0
        return exp(-self.weight_decay * self.scheduled(context) * context.passes)

    def moved(self, theta: Array, u: Array, context: Context) -> Array:
        """Return theta after the step: kept theta + u."""
        return moved(theta, self.kept(context), u)

    def step(self, phi: Phi, state: State, inputs: Inputs, theta: Array) -> tuple[Array, State]:
        """Return theta and the state after the step: `update`, and then `moved`."""
        u, after = self.update(phi, state, inputs)
        return self.moved(theta, u, inputs.context), after

    def look(
        self, optimizee: Optimizee, theta: Array, batch: Any, context: Context, state: State
    ) -> tuple[Inputs, State]:
        """Evaluate ``optimizee`` at ``theta``; return what `update` asks for, and the state to give it.

        The latter is ``state`` itself, but where the optimizer takes a new look at the curvature (`InBasis`).
        """
        evaluation = optimizee.evaluate(theta, batch, self.uses_curvature)
        return self._inputs(evaluation, theta, context), state

    def _inputs(
        self, evaluation: tuple[float, Array, Array | None], theta: Array, context: Context
    ) -> Inputs:
        return Inputs(*evaluation, theta=theta if self.uses_theta else None, context=context)

    def n_alike(self, state: State, most: int) -> int:
        """Return how many of the next ``most`` steps from ``state`` on are of the common kind.

        They differ in their numbers alone, not in what is computed: a GPU may be given the same work again.
        0: the next step is of another kind.
        """
        return most

    def look_adjoint(self, before: State, after: State, a_state: State) -> State:
        """Return the cotangent of the state ``before`` a `look` that made ``after`` of it."""
        return a_state

    def carried(self, state: State, turn: Callable[[Array], Array]) -> State:
        """Return ``state`` with ``turn`` done to all that is linear in g (P,): first-moment averages.

        ``state`` may be one of cotangents, of which some are missing.
        """
        return state

    def update_adjoint(
        self, phi: Phi, state: State, inputs: Inputs, a_u: Array, a_state: State
    ) -> UpdateAdjoint:
        """Return the adjoint of `update` in phi, state, loss, g, h and theta, at the step's arguments."""
        raise NotImplementedError

    def replay(self, phi: Phi, state: State, steps: Sequence[Inputs]) -> list[State]:
        """Return the state before each of ``steps``; the first of them is ``state``."""
        states = [state]
        for inputs in steps[:-1]:
            states.append(self.update(phi, states[-1], inputs)[1])
        return states

    def keeps_states(self, theta: Array) -> bool:
        """Return whether `unroll_adjoint` goes by the states after the steps, where they are kept."""
        return False

    def unroll_adjoint(
        self,
        phi: Phi,
        state: State,
        steps: Sequence[Inputs],
        a_u: Sequence[Array],
        a_state: State,
        states: Sequence[State] | None = None,
    ) -> tuple[Phi, State]:
        """Return the adjoint of several updates, with loss, g, h and theta taken as constants.

        Parameters
        ----------
        state
            The state before the first of ``steps``.
        a_u
            The cotangent of each step's update.
        a_state
            The cotangent of the state after the last step.
        states
            The state after each of ``steps``, where they were kept (`keeps_states`).

        Returns
        -------
        a_phi, a_state
            The latter refers to ``state``.
        """
        a_phi: Phi = {}
        befores = self.replay(phi, state, steps)
        for before, inputs, a_u_t in reversed(list(zip(befores, steps, a_u, strict=True))):
            step = self.update_adjoint(phi, before, inputs, a_u_t, a_state)
            a_phi, a_state = add_params(a_phi, step.phi), step.state
        return a_phi, a_state


def moved(theta: Array, kept: Scalar, u: Array) -> Array:
    """Return kept * theta + u."""
    return like(kept, theta) * theta + u


def moving_average(decay: float, old: Array, new: Array) -> Array:
    """Return decay * old + (1 - decay) * new."""
    return decay * old + (1.0 - decay) * new


def sqrt_adjoint(root: Array, a_root: Array) -> Array:
    """Return a_v for root = sqrt(v): a_root / (2 root), and 0 where v is 0."""
    xp = array_module(root)
    positive = root > 0
    return xp.where(positive, a_root, 0.0) / xp.where(positive, 2.0 * root, 1.0)
