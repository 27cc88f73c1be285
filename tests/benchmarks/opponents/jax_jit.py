"""JAX under jit: gradients, the step of the learned optimizer, unrolls by scan."""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from l2lnp.benchmarks.jobs import Contender, joined, sweep_flops
from l2lnp.benchmarks.problems import NetworkProblem, StepProblem, UnrollProblem
from l2lnp.layers import Activation, Conv2D, Flatten, FullyConnected, MaxPool2D

TINY = 1e-20


def contenders(job, wait=jax.block_until_ready):
    problem = job.problem
    if isinstance(problem, NetworkProblem) and job.name.startswith("sweep"):
        return [gradient(problem, wait)]
    if isinstance(problem, StepProblem):
        return [lstm_step(problem, wait)]
    if isinstance(problem, UnrollProblem):
        return [unrolled(problem, wait)]
    return []


def batch_of(batch):
    return jnp.asarray(batch.x.transpose(3, 0, 1, 2)), jnp.asarray(batch.labels)


def loss_function(network):
    """loss(theta, (x, targets)) of a network whose parameters are one vector."""

    def loss(theta, batch):
        x, targets = batch
        params = {(t.layer, t.name): theta[t.coordinates].reshape(t.shape) for t in network.layout.tensors}
        for i, layer in enumerate(network.layers):
            w, b = params.get((i, "w")), params.get((i, "b"))
            x = apply(layer, w, b, x)
        log_p = jax.nn.log_softmax(x)
        return -jnp.take_along_axis(log_p, targets[:, None], 1).mean()

    return loss


def apply(layer, w, b, x):
    match layer:
        case Conv2D():
            w = w.reshape(layer.n_out, layer.n_in, layer.size, layer.size)
            numbers = ("NCHW", "OIHW", "NCHW")
            y = lax.conv_general_dilated(x, w, (1, 1), layer.padding.upper(), dimension_numbers=numbers)
            return y + b[:, None, None]
        case MaxPool2D():
            n, c, rows, columns = x.shape
            return x.reshape(n, c, rows // 2, 2, columns // 2, 2).max((3, 5))
        case FullyConnected():
            return x @ w.T + b
        case Flatten():
            return x.reshape(len(x), -1)
        case Activation(name="relu"):
            return jax.nn.relu(x)
    raise NotImplementedError(layer)


def gradient(problem, wait):
    theta, batch = jnp.asarray(problem.theta), batch_of(problem.batches[0])
    step = jax.jit(jax.value_and_grad(loss_function(problem.network)))
    flops = len(batch[1]) * sweep_flops(problem.network)[0]
    run = lambda: wait(step(theta, batch))
    return Contender("JAX: g", run, lambda result: {"g": np.asarray(result[1])}, flops)


def cell(w, b, x, state):
    hidden, c = state
    i, f, o, n = jnp.split(jnp.concatenate([x, hidden], 1) @ w.T + b, 4, 1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(n)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def learned(phi, group, features, state1, state2):
    """The optimizer's network over coordinates (rows)."""
    state1 = cell(phi[f"{group}/lstm1/w"], phi[f"{group}/lstm1/b"], features, state1)
    state2 = cell(phi[f"{group}/lstm2/w"], phi[f"{group}/lstm2/b"], state1[0], state2)
    output = state2[0] @ phi[f"{group}/head/w"].T + phi[f"{group}/head/b"]
    return 0.1 * jnp.tanh(output[:, 0]), state1, state2


def lstm_step(problem, wait):
    decay = problem.optimizer.decay
    phi = jax.tree.map(jnp.asarray, problem.phi)
    hidden1, hidden2, cell1, cell2 = (
        jnp.asarray(s.T) for s in np.split(problem.optimizer.coordinatewise(problem.state), 4)
    )
    state = (hidden1, cell1), (hidden2, cell2)
    moments = jnp.asarray(problem.state["moments"])
    inputs = problem.inputs.loss, jnp.asarray(problem.inputs.g), jnp.asarray(problem.inputs.h)

    @jax.jit
    def step(phi, t, moments, state, loss, g, h):
        moments = decay * moments + (1 - decay) * jnp.stack([g, g**2, abs(h)])
        m, v, k = moments / (1 - decay**t)
        scale = (v + TINY) ** -0.5
        ratio = m / (k + 0.1 * k.mean() + TINY)
        newton = jnp.clip(ratio / jnp.sqrt((ratio**2).mean()), -5, 5)
        noise = (jnp.log(v + TINY) - jnp.log(k * abs(loss) + TINY)) / 5
        features = jnp.stack([m * scale, g * scale, newton, noise], 1)
        return *learned(phi, "0", features, *state), moments

    t = problem.state["t"] + 1
    run = lambda: wait(step(phi, t, moments, state, *inputs))

    def numbers(result):
        u, (hidden1, cell1), (hidden2, cell2), _ = result
        return {"u": np.asarray(u), "state": np.concatenate([hidden1, hidden2, cell1, cell2], 1).T}

    return Contender("JAX", run, numbers)


def unrolled(problem, wait):
    """First order: the gradient that the optimizer reads goes through ``stop_gradient``."""
    of_network, optimizer = problem.of_network, problem.optimizer
    decay, n_steps = optimizer.decay, problem.n_steps
    loss_of = loss_function(of_network.network)
    spans = {group: of_network.network.layout.layers[int(group)][1] for group in optimizer.groups}
    pairs = [batch_of(b) for b in of_network.batches]
    batches, last = jax.tree.map(lambda *parts: jnp.stack(parts), *pairs[:-1]), pairs[-1]
    start, phi = jnp.asarray(of_network.theta), jax.tree.map(jnp.asarray, problem.phi)

    def meta_loss(phi, batches, last):
        def step(carry, inputs):
            theta, moments, states = carry
            t, batch = inputs
            loss, g = jax.value_and_grad(loss_of)(theta, batch)
            if not problem.exact:
                g = lax.stop_gradient(g)
            moments = decay * moments + (1 - decay) * jnp.stack([g, g**2])
            m, v = moments / (1 - decay**t)
            scale = (v + TINY) ** -0.5
            features = jnp.stack([m * scale, g * scale], 1)
            updates, after = [], {}
            for group, span in spans.items():
                u, *after[group] = learned(phi, group, features[span], *states[group])
                updates.append(u)
            return (theta + jnp.concatenate(updates), moments, after), loss

        zeros = {group: [(jnp.zeros((span.stop - span.start, 20)),) * 2] * 2 for group, span in spans.items()}
        times = jnp.arange(1, n_steps + 1, dtype=jnp.float32)
        carry = start, jnp.zeros((2, len(start))), zeros
        (theta, *_), losses = lax.scan(step, carry, (times, batches))
        return (losses[1:].sum() + loss_of(theta, last)) / n_steps

    meta_gradient = jax.jit(jax.grad(meta_loss))
    run = lambda: wait(meta_gradient(phi, batches, last))
    return Contender("JAX", run, lambda a: {"a_phi": joined(jax.tree.map(np.asarray, a))})
