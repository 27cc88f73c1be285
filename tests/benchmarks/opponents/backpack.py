"""BackPACK: diagonals of the generalised Gauss-Newton matrix, exact or by one draw, and of the Hessian.

These networks are piecewise linear in every single parameter, so both diagonals are the same.
"""

from backpack import backpack, extend
from backpack.extensions import DiagGGNExact, DiagGGNMC, DiagHessian
from torch import nn

from l2lnp.benchmarks.jobs import Contender
from l2lnp.benchmarks.problems import NetworkProblem

from .pytorch import batch_of, model_of, vector

EXTENSIONS = (
    (DiagGGNMC, "diag_ggn_mc", "draw of the diagonal"),
    (DiagGGNExact, "diag_ggn_exact", "exact diagonal"),
    (DiagHessian, "diag_h", "exact diagonal"),
)


def contenders(job):
    if not (isinstance(job.problem, NetworkProblem) and job.name.startswith("sweep")):
        return []
    return [diagonal(job.problem, *extension) for extension in EXTENSIONS]


def diagonal(problem, extension, attribute, quantity):
    model, loss = extend(model_of(problem)), extend(nn.CrossEntropyLoss())
    x, targets = batch_of(problem.batches[0])

    def run():
        model.zero_grad(set_to_none=True)
        with backpack(extension()):
            loss(model(x), targets).backward()
        return model

    def numbers(model):
        parameters = list(model.parameters())
        return {
            "g": vector([p.grad for p in parameters]),
            quantity: vector([getattr(p, attribute) for p in parameters]),
        }

    return Contender(f"BackPACK {extension.__name__}", run, numbers)
