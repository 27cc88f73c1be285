"""JAX under jit on a GPU: gradients, the step of the learned optimizer, unrolls, a training step by SLSTM.

Calls are not waited for one by one. JAX's "highest" precision is float32 without TF32.
"""

import os

import jax
import numpy as np
from jax import numpy as jnp

from l2lnp.benchmarks.gpu_jobs import DeviceContender, slstm_learner
from l2lnp.benchmarks.problems import NetworkProblem
from l2lnp.errors import InputError
from l2lnp.layers import Activation, Conv2D, FullyConnected

from . import jax_jit
from .jax_jit import TINY, apply, batch_of, learned

VERSIONS = {"jax": jax.__version__}
jax.config.update("jax_default_matmul_precision", "highest")


def contenders(job):
    if os.environ.get("L2LNP_OPPONENTS_ON_CPU") != "1" and jax.default_backend() != "gpu":
        raise InputError("the opponent jax sees no GPU: install jax with CUDA")
    if isinstance(job.problem, NetworkProblem) and job.name == "training-step":
        return [slstm_step(job.problem)]
    return [
        DeviceContender(c.name, c.run, c.numbers, wait=jax.block_until_ready, versions=VERSIONS)
        for c in jax_jit.contenders(job, wait=lambda result: result)
    ]


def sweep(network, theta, batch):
    """Return loss, g and h by the recursion that ours uses, every linear map by its own transpose."""
    x, targets = batch
    params = {(t.layer, t.name): theta[t.coordinates].reshape(t.shape) for t in network.layout.tensors}
    inputs = []
    for i, layer in enumerate(network.layers):
        inputs.append(x)
        x = apply(layer, params.get((i, "w")), params.get((i, "b")), x)
    p, n = jax.nn.softmax(x), len(targets)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(x), targets[:, None], 1).mean()
    g_y, h_y = (p - jax.nn.one_hot(targets, p.shape[1])) / n, p * (1 - p) / n
    g, h = {}, {}
    for i, layer in reversed(list(enumerate(network.layers))):
        below = inputs[i]
        if isinstance(layer, Conv2D | FullyConnected):
            w, b = params[i, "w"], params[i, "b"]
            maps = ((g_y, g, w, below), (h_y, h, w * w, below * below))
            xs = []
            for v_y, found, w_, x_ in maps:
                _, pull = jax.vjp(lambda w, b, x, layer=layer: apply(layer, w, b, x), w_, b, x_)
                found[i, "w"], found[i, "b"], v_x = pull(v_y)
                xs.append(v_x)
            g_y, h_y = xs
        elif isinstance(layer, Activation):
            slope = below > 0
            g_y, h_y = g_y * slope, h_y * slope
        else:
            _, pull = jax.vjp(lambda x, layer=layer: apply(layer, None, None, x), below)
            (g_y,), (h_y,) = pull(g_y), pull(h_y)
    tensors = [(t.layer, t.name) for t in network.layout.tensors]
    return loss, *(jnp.concatenate([v[key].reshape(-1) for key in tensors]) for v in (g, h))


def slstm_step(problem):
    """theta, moving averages and LSTM states after a step, in one compiled function."""
    learner, phi = slstm_learner(problem)
    optimizer, network = learner.optimizer, problem.network
    decay, layout = optimizer.decay, network.layout
    tensors = [t.coordinates for t in layout.tensors]
    spans = {group: layout.layers[int(group)][1] for group in optimizer.groups}
    phi = jax.tree.map(jnp.asarray, phi)

    def newton(m, k):
        ratio = m / (k + 0.1 * k.mean() + TINY)
        return jnp.clip(ratio / jnp.sqrt((ratio**2).mean()), -5, 5)

    @jax.jit
    def step(carry, phi, batch):
        t, theta, moments, states = carry
        loss, g, h = sweep(network, theta, batch)
        t, moments = t + 1, decay * moments + (1 - decay) * jnp.stack([g, g**2, abs(h)])
        m, v, k = moments / (1 - decay**t)
        scale = (v + TINY) ** -0.5
        of_newton = jnp.concatenate([newton(m[at], k[at]) for at in tensors])
        noise = (jnp.log(v + TINY) - jnp.log(k * abs(loss) + TINY)) / 5
        features = jnp.stack([m * scale, g * scale, of_newton, noise], 1)
        updates, after = [], {}
        for group, span in spans.items():
            u, *after[group] = learned(phi, group, features[span], *states[group])
            updates.append(u)
        return t, theta + jnp.concatenate(updates), moments, after

    zeros = {g: [(jnp.zeros((s.stop - s.start, 20)),) * 2] * 2 for g, s in spans.items()}
    theta, batch = jnp.asarray(problem.theta), batch_of(problem.batches[0])
    start = jnp.float32(0), theta, jnp.zeros((3, len(theta))), zeros
    run = lambda: step(start, phi, batch)
    numbers = lambda after: {"u": np.asarray(after[1]) - problem.theta}
    return DeviceContender("JAX, slstm: step", run, numbers, wait=jax.block_until_ready, versions=VERSIONS)
