"""``torch.compile`` on a GPU in the mode "reduce-overhead", which replays CUDA graphs."""

from functools import partial

import torch

from l2lnp.benchmarks.problems import NetworkProblem, StepProblem

from . import pytorch_cuda

compiled = partial(torch.compile, mode="reduce-overhead")


def contenders(job):
    if isinstance(job.problem, NetworkProblem) and job.name.startswith("sweep"):
        return [pytorch_cuda.gradient("torch.compile: g", job.problem, compiled=compiled)]
    if isinstance(job.problem, StepProblem):
        return [pytorch_cuda.lstm_step("torch.compile", job.problem, compiled)]
    return []
