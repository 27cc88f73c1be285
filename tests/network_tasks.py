"""Small networks as optimizees, and runs of optimizers on them."""

import numpy as np
from networks_of_all_kinds import NETWORKS, draw_batch

from l2lnp.optimizers import Context, make_optimizer

SMALL = {"n_units": (4, 3), "step_unit": "weights", "features": ("momenta", "clock")}
SMALL_SLSTM = {**SMALL, "features": ("momenta", "newton_ratio", "significance", "log_noise")}
N = 7  # samples in a batch


class Task:
    """A network and its batches, given by number."""

    def __init__(self, network, batches, h_in_basis=False):
        self.network, self.batches = network, batches
        self.layout = network.layout
        self.has_h_in_basis = h_in_basis
        self.asked = []  # per evaluation, whether for h and for moments

    @classmethod
    def of(cls, name, n_batches=3, dtype=np.float64):
        network = NETWORKS[name]()
        return cls(network, [draw_batch(network, seed, N, dtype)[1:] for seed in range(n_batches)])

    def evaluate(self, theta, batch, wants_h):
        return self.evaluate_with_moments(theta, batch, wants_h, 0)[0]

    def evaluate_with_moments(self, theta, batch, wants_h, widest_mode, axes=None):
        self.asked.append((wants_h, widest_mode))
        mode = ("ekfac" if axes else "hesscale") if wants_h else None
        return self.network.evaluate_with_moments(theta, *self.batches[batch], widest_mode, mode, axes=axes)

    def adjoint(self, theta, batch, a_loss, a_g, a_h):
        return self.network.adjoint(theta, *self.batches[batch], a_loss, a_g, a_h)


def make(name, layout, in_basis="kronecker", **settings):
    own = {"lstm": SMALL, "slstm": SMALL_SLSTM}.get(name, {})
    return make_optimizer(name, layout, **{**own, "basis": in_basis, **settings})


def enlivened(optimizer, seed=0):
    rng = np.random.default_rng(seed)
    phi = optimizer.init_phi(rng, np.float64)
    return {
        key: v if key == "learning_rate" else 0.4 * rng.normal(size=v.shape) for key, v in sorted(phi.items())
    }


def run(optimizer, phi, task, theta, n_steps):
    """Return the loss before each step, and the state and theta after all."""
    losses, state = [], optimizer.init_state(theta)
    for step in range(n_steps):
        context = Context(step, n_steps, N, 10 * N)
        inputs, state = optimizer.look(task, theta, step % len(task.batches), context, state)
        losses.append(inputs.loss)
        u, state = optimizer.update(phi, state, inputs)
        theta = optimizer.moved(theta, u, context)
    return np.array(losses), state, theta
