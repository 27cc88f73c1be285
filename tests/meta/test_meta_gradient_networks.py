"""Exact meta-gradients through real networks: every kind of layer, every curvature mode with an adjoint."""

import numpy as np
import pytest
from networks_of_all_kinds import NETWORKS, draw_batch

from l2lnp.checking import slope
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.execution import Execution
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.optimizers import make_optimizer
from l2lnp.tasks.classification import Batch, Classification

from .optimizees import enlivened, meta_loss

CUT = Execution(micro_batch=3, lanes=2, chunk=20)


class Problem:
    """A network, SLSTMs over its layers, and T + 1 mini-batches."""

    def __init__(self, network, mode, n_steps, seed, name="slstm"):
        rng = np.random.default_rng(seed)
        self.task = Classification(network, mode, CUT)
        self.optimizer = make_optimizer(name, network.layout, CUT, **settings_of(name))
        self.phi = enlivened(self.optimizer.init_phi(rng), rng)
        self.theta, x, labels = draw_batch(network, seed, n_samples=5 * (n_steps + 1))
        if labels.ndim == 2:
            labels = rng.integers(0, len(labels), labels.shape[1])
        parts = [slice(5 * t, 5 * t + 5) for t in range(n_steps + 1)]
        self.batches = [Batch(t, x[..., part], labels[part]) for t, part in enumerate(parts)]
        self.state = self.optimizer.init_state(self.theta)
        self.directions = {key: rng.normal(size=value.shape) for key, value in self.phi.items()}
        self.d_theta = rng.normal(size=self.theta.shape)

    def analytic(self):
        """The derivatives along the directions: in phi, and in theta."""
        end = unroll(self.optimizer, self.phi, self.task, self.theta, self.state, self.batches[:-1])
        a_theta = self.task.evaluate(end.theta, self.batches[-1], False).g / len(end.tape.steps)
        a = meta_gradient(self.optimizer, self.phi, self.task, end.tape, a_theta, second_derivatives=True)
        return sum(np.vdot(a.phi[key], d) for key, d in self.directions.items()), a.theta @ self.d_theta

    def numeric(self, step):
        def along(dose):
            phi = {key: value + dose[0] * self.directions[key] for key, value in self.phi.items()}
            theta = self.theta + dose[1] * self.d_theta
            return meta_loss(self.optimizer, phi, self.task, theta, self.state, self.batches)

        return tuple(slope(along, np.zeros(2), unit, step) for unit in np.eye(2))


def settings_of(name):
    return {"n_units": (3, 2)} if name == "slstm" else {"learning_rate": 0.05}


def check(network, mode, n_steps, name="slstm"):
    """Compare where no kink lies within the differences' steps: where two steps agree."""
    for seed in range(10):
        problem = Problem(network, mode, n_steps, seed, name)
        coarse, fine = problem.numeric(2e-6), problem.numeric(5e-7)
        if np.allclose(coarse, fine, rtol=2e-7, atol=2e-8):
            np.testing.assert_allclose(problem.analytic(), fine, rtol=1e-6, atol=1e-7)
            return
    pytest.fail("a kink at every draw")


@pytest.mark.parametrize("mode", ADJOINT_MODES)
@pytest.mark.parametrize("network", NETWORKS)
def test_slstm(network, mode):
    check(NETWORKS[network](), mode, n_steps=3)


@pytest.mark.parametrize("n_steps", [1, 2, 6])
def test_length_of_the_unroll(n_steps):
    check(NETWORKS["convolutional"](), "hesscale", n_steps)


@pytest.mark.parametrize("name", ["sou", "adam"])
@pytest.mark.parametrize("network", ["max_pooling", "row_lstm"])
def test_hypergradient_of_the_learning_rate(network, name):
    check(NETWORKS[network](), "hesscale", 3, name)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "sigmoid"])
def test_activations(activation):
    check(NETWORKS["max_pooling"](activation), "hesscale", n_steps=2)
