"""Joint learning: a learned optimizer trains theta, and is itself learned on the way.

Every ``unroll_length_steps`` inner steps the meta-gradient of the last unroll goes back
through them, Adam changes phi, and training goes on from the same theta and state
(truncated BPTT). Roy & Todorovic 2018 learn the CNN and its LSTMs so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.errors import DivergedError, InputError, check_positive, unknown_name
from l2lnp.kernels import joins, reductions, twin
from l2lnp.meta.unroll import Step, Tape, meta_gradient
from l2lnp.optimizers.adam import Adam
from l2lnp.optimizers.base import Context, Inputs, Optimizer, Phi, State
from l2lnp.scalars import Scalar, like
from l2lnp.tasks.base import Optimizee
from l2lnp.tree import Layout

MAX_RESTARTS = 10  # in a row
OFFSET = 0.05  # in the meta-losses "root" and "log"
SHARPNESS = 8  # of the average of theta: about the last ninth of all steps counts

# What a loss f, the last one of an unroll of T steps or not, weighs in the meta-loss, at its value:
# the derivative of f / T, of 2 sqrt(f + 0.05) / T, of log(f + 0.05) / T, and of the last f alone.
META_LOSSES: Mapping[str, Callable[[Scalar, int, bool], Scalar]] = {
    "mean": lambda f, n_steps, is_last: 1 / n_steps,
    "root": lambda f, n_steps, is_last: 1 / (n_steps * (abs(f) + OFFSET) ** 0.5),
    "log": lambda f, n_steps, is_last: 1 / (n_steps * (abs(f) + OFFSET)),
    "last": lambda f, n_steps, is_last: float(is_last),
}


class Training(NamedTuple):
    """Everything that changes in training. Arrays are replaced, never changed: a reference is a snapshot."""

    step: int  # inner steps taken; the number of the next batch
    theta: Array  # (P,)
    state: State  # the optimizer's
    phi: Phi
    meta: State  # Adam's, over phi as one vector
    n_restarts: int  # so far
    average: Array | None = None  # of theta (P,), where one is kept

    @property
    def result(self) -> Array:
        """theta as it is to be used: its average, where one is kept."""
        return self.theta if self.average is None else self.average


class Report(NamedTuple):
    """What happened in one step."""

    loss: Scalar  # before the step
    learned: bool  # whether phi was changed
    message: str | None  # what the user should know


class JointLearner:
    """Trains theta by an optimizer, and the optimizer if it is learned.

    Parameters
    ----------
    unroll_length_steps
        Inner steps T between two changes of phi.
    meta_learning_rate
        Of Adam on phi.
    clip_norm
        The meta-gradient is scaled down to this global norm.
    second_derivatives
        Exact meta-gradients (`l2lnp.meta.unroll.meta_gradient`).
    frozen
        True leaves phi as it is, as for hand-designed optimizers.
    meta_loss
        What of the losses after each step is made small: their ``"mean"``, the mean of
        log(loss + 0.05), in which late steps and easy tasks count as much as early steps and
        hard tasks (``"log"``; Wichrowska et al. 2017, arXiv 1703.04813), the mean of
        2 sqrt(loss + 0.05), which is between the two (``"root"``), or the ``"last"`` one.
    n_steps, batch_size, n_samples
        Of the run and its data, for optimizers that go by them (`l2lnp.optimizers.base.Context`).
    average
        Keep an average of theta, to be used in its place (`averaged`); the training does not see it.

    Attributes
    ----------
    checkpoint : Training
        The last boundary between unrolls. A run that resumes there goes the same way again,
        to the last bit.
    flag : Array or None
        Where checks are not looked at, so that nothing waits for a GPU: (1,) of int32, which a step sets to 1
        when it meets a number that is not finite, and goes on (`l2lnp.runs.blocks`).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        unroll_length_steps: int = 3,
        meta_learning_rate: float = 0.003,
        clip_norm: float = 1.0,
        second_derivatives: bool = False,
        frozen: bool = False,
        meta_loss: str = "mean",
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_samples: int | None = None,
        average: bool = False,
    ) -> None:
        sizes = {"n_steps": n_steps, "batch_size": batch_size, "n_samples": n_samples}
        check_positive(
            "training",
            unroll_length_steps=unroll_length_steps,
            **{name: size for name, size in sizes.items() if size is not None},
        )
        if not (meta_learning_rate > 0 and clip_norm > 0):
            raise InputError(
                f"the meta-learning rate and the clip norm must be positive, "
                f"not {meta_learning_rate} and {clip_norm}"
            )
        if meta_loss not in META_LOSSES:
            raise unknown_name("meta-loss", meta_loss, META_LOSSES)
        self.optimizer = optimizer
        self.meta_loss = meta_loss
        self.unroll_length_steps = unroll_length_steps
        self.meta_learning_rate = meta_learning_rate
        self.clip_norm = clip_norm
        self.second_derivatives = second_derivatives
        self.averages = average
        self.beginning = Context(0, n_steps, batch_size, n_samples)
        self.learns = optimizer.learned and not frozen
        self.checkpoint: Training
        self.flag: Array | None = None
        self._tape: Tape
        self._restarts_in_a_row = 0

    def start(self, theta: Array, phi: Phi) -> Training:
        """Return the training before its first step."""
        vector = _join(phi)
        meta = _adam(vector).init_state(vector)
        average = theta if self.averages else None
        return self.resume(Training(0, theta, self.optimizer.init_state(theta), phi, meta, 0, average))

    def resume(self, training: Training) -> Training:
        """Begin a new unroll at ``training``, which may come from a file, and return it."""
        self._tape = Tape(training.state)
        self.checkpoint = training
        return training

    def follow(self, training: Training) -> None:
        """Go on at ``training``, the steps before which were made without this learner, and were good."""
        self.resume(training)
        self._restarts_in_a_row = 0

    def place(self) -> Callable[[], None]:
        """Return what brings the learner back to where it stands now."""
        state, checkpoint, restarts = self._tape.state, self.checkpoint, self._restarts_in_a_row
        steps, renewed = list(self._tape.steps), dict(self._tape.renewed)  # not the tape: it goes on

        def back() -> None:
            self._tape = Tape(state, list(steps), dict(renewed))
            self.checkpoint, self._restarts_in_a_row = checkpoint, restarts

        return back

    def step(self, training: Training, optimizee: Optimizee, batch: Any) -> tuple[Training, Report]:
        """Make one inner step on ``batch``; at the end of an unroll change phi before it.

        Where loss, g, h, u or phi is not finite, theta and phi go back to the last
        boundary and the optimizer's state starts anew; the report says so.

        Raises
        ------
        DivergedError
            After ten restarts with no whole unroll between them.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            context = self.beginning._replace(step=training.step)
            inputs, renewed = self.optimizer.look(optimizee, training.theta, batch, context, training.state)
            if not self._finite([inputs.loss, inputs.g, inputs.h]):
                return self._restart(training, inputs.loss, "the loss or its derivatives are")
            is_boundary = len(self._tape.steps) == self._length
            if learned := is_boundary and self.learns:
                training = self._learn(training, optimizee, inputs)
                if not self._finite(training.phi.values()):
                    return self._restart(training, inputs.loss, "the optimizer's meta-parameters are")
            if is_boundary:
                self.resume(training)
                self._restarts_in_a_row = 0
            theta, state = self.optimizer.step(training.phi, renewed, inputs, training.theta)
            if not self._finite([theta]):
                return self._restart(training, inputs.loss, "the update is")
        self._record(inputs, training, batch, renewed, state)
        average = averaged(training.average, theta, training.step + 1) if self.averages else None
        after = training._replace(step=training.step + 1, theta=theta, state=state, average=average)
        return after, Report(inputs.loss if self.flag is not None else float(inputs.loss), learned, None)

    @property
    def _length(self) -> int:
        return self.unroll_length_steps if self.learns else 1

    def _record(self, inputs: Inputs, training: Training, batch: Any, renewed: State, after: State) -> None:
        step = Step(inputs, self._weight(inputs.loss, False))
        if self.second_derivatives:
            step = step._replace(theta=training.theta, batch=batch)
        elif self.learns and self.optimizer.keeps_states(training.theta):
            step = step._replace(after=after)
        self._tape.record(step, training.state, renewed)

    def _weight(self, loss: Scalar, is_last: bool) -> Scalar:
        return META_LOSSES[self.meta_loss](loss, self._length, is_last)

    def _finite(self, values: Iterable[Any]) -> bool:
        if self.flag is None:
            return all_finite(values)
        there = [v for v in values if v is not None]
        twin(reductions, self.flag).mark_not_finite(there, self.flag)
        return True

    def _learn(self, training: Training, optimizee: Optimizee, last: Inputs) -> Training:
        """Return the training with phi changed by the meta-gradient of the unroll on the tape.

        ``last`` is what was seen after the unroll's last step.
        """
        phi, a_theta = training.phi, like(self._weight(last.loss, True), last.g) * last.g
        a = meta_gradient(
            self.optimizer, phi, optimizee, self._tape, a_theta, second_derivatives=self.second_derivatives
        )
        phi, meta = adam_step(phi, training.meta, a.phi, self.meta_learning_rate, self.clip_norm)
        return training._replace(phi=phi, meta=meta)

    def _restart(self, training: Training, loss: float, what: str) -> tuple[Training, Report]:
        self._restarts_in_a_row += 1
        if self._restarts_in_a_row > MAX_RESTARTS:
            raise DivergedError(
                f"step {training.step}: {what} not finite, and {MAX_RESTARTS} restarts did not help: "
                f"lower the learning rate, or the output scale of a learned optimizer"
            )
        last = self.checkpoint
        restored = last._replace(
            step=training.step + 1,
            state=self.optimizer.init_state(last.theta),
            n_restarts=training.n_restarts + 1,
        )
        message = (
            f"{what} not finite: theta and the optimizer go back to step {last.step}, its state starts anew"
        )
        return self.resume(restored), Report(float(loss), False, message)


def adam_step(phi: Phi, meta: State, a_phi: Phi, learning_rate: float, clip_norm: float) -> tuple[Phi, State]:
    """Return phi after a step of Adam along the clipped ``a_phi``, and Adam's next state."""
    # an LSTM that the network has no layer for has no gradient
    whole = {key: a_phi[key] if key in a_phi else 0 * value for key, value in phi.items()}
    vector, a_vector = _join(phi), clipped(_join(whole), clip_norm)
    rate = array_module(vector).asarray(learning_rate, vector.dtype)
    u, after = _adam(vector).update({"learning_rate": rate}, meta, Inputs(0.0, a_vector, None))
    return _split(vector + u, phi), after


def averaged(average: Array, theta: Array, t: Scalar) -> Array:
    """Return the average of theta after step ``t`` = 1, 2, ...: its window grows with the run.

    average' = average + (k + 1) / (t + k) (theta - average), k = 8; theta itself at t = 1.

    References
    ----------
    Shamir & Zhang 2013 (arXiv 1212.1824), polynomial-decay averaging.
    """
    return average + like((SHARPNESS + 1) / (t + SHARPNESS), theta) * (theta - average)


def clipped(v: Array, norm: float) -> Array:
    """Return ``v``, scaled down to the given Euclidean norm if it is longer."""
    xp = array_module(v)
    if xp is not np:  # without asking the device how long it is
        return v * xp.minimum(norm / xp.linalg.norm(v.astype(xp.float64)), 1.0).astype(v.dtype)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(v))
    if length == np.inf:  # its square is beyond single precision
        length = float(np.linalg.norm(v.astype(np.float64)))
    return v * (norm / length) if length > norm else v


def _adam(vector: Array) -> Adam:
    return Adam(Layout.of_vector(vector.size))


def _join(phi: Phi) -> Array:
    """Return the entries of phi as one vector, in the order of their names."""
    parts = [phi[key] for key in sorted(phi)]
    joined: Array = twin(joins, parts[0]).join(parts)
    return joined


def _split(vector: Array, like: Phi) -> Phi:
    """Return a vector made by `_join` as a dictionary like ``like``."""
    parts, start = {}, 0
    for key in sorted(like):
        parts[key] = vector[start : start + like[key].size].reshape(like[key].shape)
        start += like[key].size
    return {key: parts[key] for key in like}


def all_finite(values: Any) -> bool:
    """Return whether numbers and arrays are finite; those that are None do not count."""
    return all(
        isfinite(v) if isinstance(v, float) else bool(array_module(v).isfinite(v).all())
        for v in values
        if v is not None
    )
