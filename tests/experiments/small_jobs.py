"""Small jobs on the bundled digits."""

from l2lnp.experiments.job import Job
from l2lnp.runs.resolving import resolve

COMMON = {"data": "digits", "network": "small", "batch_size": 16}
SLSTM = {"pretrained": "slstm", "joint": False}


def job(steps=6, evaluate_at=(), split="test", h="as it is", **given):
    """Return a job of a few steps, by Adam if nothing else is given."""
    given = given or {"optimizer": "adam"}
    settings = resolve({**COMMON, "threads": 1, "steps": steps, "seed": 0, **given})
    return Job(settings, tuple(evaluate_at), split, h)
