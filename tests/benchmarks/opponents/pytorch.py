"""PyTorch, eager: gradients by autograd, and g and h by hand; LSTM cells; unrolls."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from l2lnp.benchmarks.jobs import Contender, joined, sweep_flops
from l2lnp.benchmarks.problems import NetworkProblem, StepProblem, UnrollProblem
from l2lnp.layers import Activation, Conv2D, Flatten, FullyConnected, MaxPool2D

GATES = (0, 1, 3, 2)  # of ours (i, f, o, n), in the order of LSTMCell (i, f, n, o)
TINY = 1e-20


def contenders(job):
    problem = job.problem
    if isinstance(problem, NetworkProblem) and job.name.startswith("sweep"):
        return [
            gradient("PyTorch: g", problem),
            gradient("PyTorch channels-last: g", problem, torch.channels_last),
            sweep_by_hand("PyTorch by hand: g and h", problem),
            sweep_by_hand("PyTorch by hand, channels-last: g and h", problem, torch.channels_last),
        ]
    if isinstance(problem, NetworkProblem) and job.name == "training-step":
        return [adam_step(problem)]
    if isinstance(problem, StepProblem):
        return [lstm_step("PyTorch", problem)]
    if isinstance(problem, UnrollProblem):
        walked_again = [unrolled("PyTorch", problem)]
        return (
            walked_again if problem.exact else [*walked_again, unrolled("PyTorch, surrogate", problem, True)]
        )
    return []


# networks


def module_of(layer):
    match layer:
        case Conv2D():
            padding = layer.size // 2 if layer.padding == "same" else 0
            return nn.Conv2d(layer.n_in, layer.n_out, layer.size, layer.stride, padding)
        case MaxPool2D():
            return nn.MaxPool2d(layer.size, layer.stride)
        case FullyConnected():
            return nn.Linear(layer.n_in, layer.n_out)
        case Flatten():
            return nn.Flatten()
        case Activation(name="relu"):
            return nn.ReLU()
    raise NotImplementedError(layer)


def model_of(problem, memory_format=torch.contiguous_format):
    model = nn.Sequential(*map(module_of, problem.network.layers))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), tensors_of(problem), strict=True):
            parameter.copy_(value.view(parameter.shape))
    return model.to(memory_format=memory_format)


def tensors_of(problem):
    """The parameters one by one; they come in the same order, weights before biases."""
    return [torch.tensor(problem.theta[t.coordinates]) for t in problem.network.layout.tensors]


def batch_of(batch, memory_format=torch.contiguous_format):
    x = torch.from_numpy(np.ascontiguousarray(batch.x.transpose(3, 0, 1, 2)))
    return x.to(memory_format=memory_format), torch.from_numpy(batch.labels)


def vector(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).numpy()


def gradient(name, problem, memory_format=torch.contiguous_format, compiled=lambda model: model):
    model = compiled(model_of(problem, memory_format))
    x, targets = batch_of(problem.batches[0], memory_format)

    def run():
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), targets).backward()
        return [p.grad for p in model.parameters()]

    flops = len(targets) * sweep_flops(problem.network)[0]
    return Contender(name, run, lambda grads: {"g": vector(grads)}, flops)


def sweep_by_hand(name, problem, memory_format=torch.contiguous_format):
    """The same recursion as ours, in PyTorch's operations: what an expert could do."""
    model = model_of(problem, memory_format)
    x, targets = batch_of(problem.batches[0], memory_format)

    @torch.no_grad()
    def run():
        inputs, pooled = [x], {}
        for i, layer in enumerate(model):
            if isinstance(layer, nn.MaxPool2d):
                y, pooled[i] = functional.max_pool2d(
                    inputs[-1], layer.kernel_size, layer.stride, return_indices=True
                )
            else:
                y = layer(inputs[-1])
            inputs.append(y)
        p = inputs.pop().softmax(1)
        h_y = p * (1 - p) / len(targets)
        g_y = (p - functional.one_hot(targets, p.shape[1])) / len(targets)
        gs, hs = [], []
        for i, (layer, below) in reversed(list(enumerate(zip(model, inputs, strict=True)))):
            if isinstance(layer, nn.Conv2d):
                g_y, *g = convolution_backward(layer, g_y, below, layer.weight, i > 0)
                h_y, *h = convolution_backward(layer, h_y, below * below, layer.weight * layer.weight, i > 0)
            elif isinstance(layer, nn.Linear):
                g, h = [g_y.T @ below, g_y.sum(0)], [h_y.T @ (below * below), h_y.sum(0)]
                g_y, h_y = g_y @ layer.weight, h_y @ (layer.weight * layer.weight)
            elif isinstance(layer, nn.MaxPool2d):
                g_y, h_y = (pool_backward(layer, v, below, pooled[i]) for v in (g_y, h_y))
            elif isinstance(layer, nn.ReLU):
                slope = below > 0
                g_y, h_y = g_y * slope, h_y * slope
            else:
                g_y, h_y = (v.view_as(below) for v in (g_y, h_y))
            if isinstance(layer, nn.Conv2d | nn.Linear):
                gs, hs = [*g, *gs], [*h, *hs]
        return gs, hs

    flops = len(targets) * sweep_flops(problem.network)[1]
    return Contender(name, run, lambda gh: {"g": vector(gh[0]), "h": vector(gh[1])}, flops)


def convolution_backward(layer, g_y, x, w, wants_x):
    geometry = layer.stride, layer.padding, layer.dilation, False, [0, 0], 1
    wanted = [wants_x, True, True]
    return torch.ops.aten.convolution_backward(g_y, x, w, [w.shape[0]], *geometry, wanted)


def pool_backward(layer, g_y, x, indices):
    pair = [layer.kernel_size] * 2
    return torch.ops.aten.max_pool2d_with_indices_backward(g_y, x, pair, pair, [0, 0], [1, 1], False, indices)


def adam_step(problem):
    model = model_of(problem)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.004)
    x, targets = batch_of(problem.batches[0])

    def run():
        optimizer.zero_grad()
        functional.cross_entropy(model(x), targets).backward()
        optimizer.step()
        return model

    return Contender("PyTorch, Adam: step", run, lambda m: {"u": vector(m.parameters()) - problem.theta})


# the learned optimizers


class Learned(nn.Module):
    """Two LSTM cells and an output over coordinates (rows)."""

    def __init__(self, phi, group):
        super().__init__()
        self.cell1 = cell_of(phi, f"{group}/lstm1")
        self.cell2 = cell_of(phi, f"{group}/lstm2")
        self.head = nn.Linear(phi[f"{group}/head/w"].shape[1], 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(phi[f"{group}/head/w"]))
            self.head.bias.copy_(torch.from_numpy(phi[f"{group}/head/b"]))

    def forward(self, features, hidden1, cell1, hidden2, cell2):
        hidden1, cell1 = self.cell1(features, (hidden1, cell1))
        hidden2, cell2 = self.cell2(hidden1, (hidden2, cell2))
        return 0.1 * torch.tanh(self.head(hidden2)[:, 0]), hidden1, cell1, hidden2, cell2


def in_order(w):
    """Exchange our order of the gates and LSTMCell's; its own inverse."""
    return np.ascontiguousarray(w.reshape(4, -1, *w.shape[1:])[list(GATES)]).reshape(w.shape)


def cell_of(phi, path):
    w, b = in_order(phi[f"{path}/w"]), in_order(phi[f"{path}/b"])
    n_units = len(b) // 4
    cell = nn.LSTMCell(w.shape[1] - n_units, n_units)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.from_numpy(w[:, :-n_units]))
        cell.weight_hh.copy_(torch.from_numpy(w[:, -n_units:]))
        cell.bias_ih.copy_(torch.from_numpy(b))
        cell.bias_hh.zero_()
    cell.bias_hh.requires_grad_(False)  # ours has one bias
    return cell


def phi_of(learned, grads):
    """The gradients of `Learned` modules by group, as a phi of ours."""
    phi = {}
    for group, module in learned.items():
        g = {name: grads[p].numpy() for name, p in module.named_parameters() if p in grads}
        for cell, lstm in (("cell1", "lstm1"), ("cell2", "lstm2")):
            w = np.concatenate([g[f"{cell}.weight_ih"], g[f"{cell}.weight_hh"]], axis=1)
            phi[f"{group}/{lstm}/w"], phi[f"{group}/{lstm}/b"] = in_order(w), in_order(g[f"{cell}.bias_ih"])
        phi[f"{group}/head/w"], phi[f"{group}/head/b"] = g["head.weight"], g["head.bias"]
    return phi


def averages(moments, values, decay):
    return [decay * m + (1 - decay) * v for m, v in zip(moments, values, strict=True)]


def slstm_features(t, loss, g, m, v, k, decay):
    correction = 1 - decay**t
    m, v, k = m / correction, v / correction, k / correction
    scale = (v + TINY) ** -0.5
    ratio = m / (k + 0.1 * k.mean() + TINY)
    newton = torch.clamp(ratio / (ratio * ratio).mean().sqrt(), -5, 5)
    noise = (torch.log(v + TINY) - torch.log(k * abs(loss) + TINY)) / 5
    return torch.stack([m * scale, g * scale, newton, noise], 1)


def lstm_step(name, problem, compiled=lambda step: step):
    learned = Learned(problem.phi, "fully_connected" if problem.optimizer.per == "kind" else "0")
    decay, t, loss = problem.optimizer.decay, problem.state["t"] + 1, problem.inputs.loss
    g, h = torch.from_numpy(problem.inputs.g), torch.from_numpy(problem.inputs.h)
    moments = [torch.from_numpy(row) for row in problem.state["moments"]]
    s = torch.from_numpy(problem.optimizer.coordinatewise(problem.state)).T.split(20, 1)
    hidden1, hidden2, cell1, cell2 = (part.contiguous() for part in s)

    def step(t, loss, g, h, moments, hidden1, cell1, hidden2, cell2):
        m, v, k = averages(moments, (g, g * g, abs(h)), decay)
        features = slstm_features(t, loss, g, m, v, k, decay)
        return *learned(features, hidden1, cell1, hidden2, cell2), m, v, k

    step = compiled(step)

    @torch.no_grad()
    def run():
        return step(t, loss, g, h, moments, hidden1, cell1, hidden2, cell2)

    def numbers(result):
        u, hidden1, cell1, hidden2, cell2, *_ = result
        return {"u": u.numpy(), "state": torch.cat([hidden1, hidden2, cell1, cell2], 1).T.numpy()}

    return Contender(name, run, numbers)


def unrolled(name, problem, surrogate=False):
    """An unroll of LSTM (rnnprop features of g) on SMALL, and its meta-gradient.

    First order: the graph of every loss is walked again from the meta-loss, or, as a surrogate
    with the same gradient, the meta-loss is sum_t <g_t, theta_t> with g_t held constant.
    """
    of_network, optimizer = problem.of_network, problem.optimizer
    model, decay = model_of(of_network), optimizer.decay
    names = [n for n, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]
    start = torch.tensor(of_network.theta)
    batches = [batch_of(b) for b in of_network.batches]
    learned = {group: Learned(problem.phi, group) for group in optimizer.groups}
    spans = [of_network.network.layout.layers[int(group)][1] for group in optimizer.groups]
    phi = [p for module in learned.values() for p in module.parameters() if p.requires_grad]

    def loss_of(theta, batch):
        x, targets = batch
        parts = [part.view(shape) for part, shape in zip(theta.split(sizes), shapes, strict=True)]
        return functional.cross_entropy(
            functional_call(model, dict(zip(names, parts, strict=True)), x), targets
        )

    def features(t, g, m, v):
        scale = (v / (1 - decay**t) + TINY) ** -0.5
        return torch.stack([m / (1 - decay**t) * scale, g * scale], 1)

    def run():
        theta, meta_loss, n_steps = start.clone().requires_grad_(), 0.0, problem.n_steps
        moments = [torch.zeros_like(start)] * 2
        states = [[start.new_zeros(span.stop - span.start, 20) for _ in range(4)] for span in spans]
        for t, batch in enumerate(batches):
            is_last = t == n_steps
            at = theta.detach().requires_grad_() if surrogate else theta
            loss = loss_of(at, batch)
            if not is_last or surrogate:
                (g,) = torch.autograd.grad(loss, at, create_graph=problem.exact, retain_graph=not surrogate)
            if t > 0:
                meta_loss = meta_loss + ((g * theta).sum() if surrogate else loss) / n_steps
            if is_last:
                break
            moments = averages(moments, (g, g * g), decay)
            x = features(t + 1, g, *moments)
            updates = []
            for i, (module, span) in enumerate(zip(learned.values(), spans, strict=True)):
                u, *states[i] = module(x[span], *states[i])
                updates.append(u)
            theta = theta + torch.cat(updates)
        return dict(zip(phi, torch.autograd.grad(meta_loss, phi), strict=True))

    return Contender(name, run, lambda grads: {"a_phi": joined(phi_of(learned, grads))})
