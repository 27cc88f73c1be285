"""PyTorch on a GPU, eager: float32 with TF32 off, cuDNN free to choose its algorithms.

Without a GPU (`device`) the same code runs on the CPU, for its numbers to be checked.
"""

import os

import numpy as np
import torch
from torch.func import functional_call, grad_and_value
from torch.nn import functional

from l2lnp.benchmarks.gpu_jobs import DeviceContender
from l2lnp.benchmarks.jobs import joined
from l2lnp.benchmarks.problems import NetworkProblem, StepProblem, UnrollProblem
from l2lnp.errors import InputError

from .pytorch import Learned, averages, batch_of, model_of, phi_of, slstm_features

VERSIONS = {"torch": torch.__version__, "torch's CUDA": str(torch.version.cuda)}
TINY = 1e-20


def device():
    """The GPU, with TF32 off; or the CPU where L2LNP_OPPONENTS_ON_CPU=1 asks for it."""
    if os.environ.get("L2LNP_OPPONENTS_ON_CPU") == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("the opponent torch sees no GPU: install a PyTorch with CUDA")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def contenders(job):
    problem = job.problem
    if isinstance(problem, NetworkProblem) and job.name.startswith("sweep"):
        formats = {"PyTorch: g": torch.contiguous_format, "PyTorch channels-last: g": torch.channels_last}
        return [gradient(name, problem, memory_format) for name, memory_format in formats.items()]
    if isinstance(problem, StepProblem):
        return [lstm_step("PyTorch", problem)]
    if isinstance(problem, UnrollProblem):
        return [unrolled("PyTorch, surrogate", problem)]
    return []


def contender(name, run, numbers, per_call=1):
    return DeviceContender(name, run, numbers, per_call=per_call, versions=VERSIONS)


def host(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).cpu().numpy()


def gradient(name, problem, memory_format=torch.contiguous_format, compiled=lambda model: model):
    on = device()
    model = compiled(model_of(problem, memory_format).to(on))
    x, targets = (part.to(on) for part in batch_of(problem.batches[0], memory_format))

    def run():
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), targets).backward()
        return [p.grad for p in model.parameters()]

    return contender(name, run, lambda grads: {"g": host(grads)})


def lstm_step(name, problem, compiled=lambda step: step):
    on = device()
    learned = Learned(problem.phi, "0").to(on)
    decay, t, loss = problem.optimizer.decay, problem.state["t"] + 1, problem.inputs.loss
    g, h = (torch.from_numpy(v).to(on) for v in (problem.inputs.g, problem.inputs.h))
    moments = [torch.from_numpy(row).to(on) for row in problem.state["moments"]]
    rows = torch.from_numpy(problem.optimizer.coordinatewise(problem.state)).to(on)
    state = [part.contiguous() for part in rows.T.split(20, 1)]
    hidden1, hidden2, cell1, cell2 = state

    def step(g, h, moments, hidden1, cell1, hidden2, cell2):
        m, v, k = averages(moments, (g, g * g, abs(h)), decay)
        features = slstm_features(t, loss, g, m, v, k, decay)
        return *learned(features, hidden1, cell1, hidden2, cell2), m, v, k

    step = compiled(step)

    @torch.no_grad()
    def run():
        return step(g, h, moments, hidden1, cell1, hidden2, cell2)

    def numbers(result):
        u, hidden1, cell1, hidden2, cell2, *_ = result
        rows = torch.cat([hidden1, hidden2, cell1, cell2], 1).T
        return {"u": u.cpu().numpy(), "state": rows.cpu().numpy()}

    return contender(name, run, numbers)


def unrolled(name, problem, compiled=lambda f: f):
    """An unroll of LSTM on SMALL and the gradient of sum_t <g_t, theta_t>, g_t held constant."""
    on, of_network, optimizer = device(), problem.of_network, problem.optimizer
    model, decay, n_steps = model_of(of_network).to(on), optimizer.decay, problem.n_steps
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]
    start = torch.tensor(of_network.theta).to(on)
    batches = [tuple(part.to(on) for part in batch_of(b)) for b in of_network.batches]
    learned = {group: Learned(problem.phi, group).to(on) for group in optimizer.groups}
    spans = [of_network.network.layout.layers[int(group)][1] for group in optimizer.groups]
    phi = [p for module in learned.values() for p in module.parameters() if p.requires_grad]

    def loss_of(theta, x, targets):
        parts = [part.view(shape) for part, shape in zip(theta.split(sizes), shapes, strict=True)]
        outputs = functional_call(model, dict(zip(names, parts, strict=True)), (x,))
        return functional.cross_entropy(outputs, targets)

    gradient_of = compiled(grad_and_value(loss_of))

    def run():
        theta, meta_loss = start, 0.0
        moments = [torch.zeros_like(start)] * 2
        states = [[start.new_zeros(span.stop - span.start, 20) for _ in range(4)] for span in spans]
        for t, batch in enumerate(batches):
            g, _ = gradient_of(theta.detach(), *batch)
            if t > 0:
                meta_loss = meta_loss + (g * theta).sum() / n_steps
            if t == n_steps:
                break
            moments = averages(moments, (g, g * g), decay)
            scale = (moments[1] / (1 - decay ** (t + 1)) + TINY) ** -0.5
            x = torch.stack([moments[0] / (1 - decay ** (t + 1)) * scale, g * scale], 1)
            updates = []
            for i, (module, span) in enumerate(zip(learned.values(), spans, strict=True)):
                u, *states[i] = module(x[span], *states[i])
                updates.append(u)
            theta = theta + torch.cat(updates)
        return torch.autograd.grad(meta_loss, phi)

    def numbers(grads):
        on_host = {p: a.cpu() for p, a in zip(phi, grads, strict=True)}
        return {"a_phi": np.asarray(joined(phi_of(learned, on_host)))}

    return contender(name, run, numbers)
