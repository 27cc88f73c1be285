"""A small smooth optimizee with third derivatives, and the meta-loss written out."""

from typing import NamedTuple

import numpy as np

from l2lnp.network import Evaluation
from l2lnp.optimizers import Context
from l2lnp.tree import Layout

CONTEXT = Context(batch_size=5, n_samples=12)


class LogCosh(NamedTuple):
    """f = mean_r log cosh(W theta - y)_r over the rows in a batch; h is the exact diagonal."""

    layout: Layout
    w: np.ndarray
    y: np.ndarray

    @classmethod
    def random(cls, rng, layout, n_rows, dtype=np.float64):
        w, y = rng.normal(size=(n_rows, layout.n_coordinates)), rng.normal(size=n_rows)
        return cls(layout, w.astype(dtype), y.astype(dtype))

    def evaluate(self, theta, batch, wants_h):
        w, m = self.w[batch], len(self.w[batch])
        r = w @ theta - self.y[batch]
        h = (w**2).T @ (1 - np.tanh(r) ** 2) / m if wants_h else None
        return Evaluation(float(np.log(np.cosh(r)).mean()), w.T @ np.tanh(r) / m, h)

    def adjoint(self, theta, batch, a_loss, a_g, a_h):
        w = self.w[batch]
        tanh = np.tanh(w @ theta - self.y[batch])
        first = 1 - tanh**2
        a_r = a_loss * tanh
        if a_g is not None:
            a_r = a_r + first * (w @ a_g)
        if a_h is not None:
            a_r = a_r - 2 * tanh * first * (w**2 @ a_h)
        return w.T @ a_r / len(w)


def meta_loss(optimizer, phi, optimizee, theta, state, batches):
    """The mean of the losses after each update; the last batch only measures."""
    losses = []
    for step, batch in enumerate(batches):
        context = CONTEXT._replace(step=step)
        inputs, state = optimizer.look(optimizee, theta, batch, context, state)
        losses.append(inputs.loss)
        u, state = optimizer.update(phi, state, inputs)
        theta = optimizer.moved(theta, u, context)
    return np.mean(losses[1:])


def enlivened(phi, rng):
    """phi with weights of order one half, so that all of the LSTM is at work; a learning rate stays."""
    return {
        key: value.astype(np.float64) if key == "learning_rate" else 0.5 * rng.normal(size=value.shape)
        for key, value in phi.items()
    }
