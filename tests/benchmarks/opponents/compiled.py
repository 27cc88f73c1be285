"""``torch.compile`` over the model, and over the step of the learned optimizer."""

import torch

from l2lnp.benchmarks.problems import NetworkProblem, StepProblem

from . import pytorch


def contenders(job):
    if isinstance(job.problem, NetworkProblem) and job.name.startswith("sweep"):
        return [pytorch.gradient("torch.compile: g", job.problem, compiled=torch.compile)]
    if isinstance(job.problem, StepProblem):
        return [pytorch.lstm_step("torch.compile", job.problem, torch.compile)]
    return []
