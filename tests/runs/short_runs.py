"""Short runs on the bundled digits, in this process."""

from l2lnp.runs.metrics import read_metrics
from l2lnp.runs.resolving import resolve
from l2lnp.runs.run import begin
from l2lnp.runs.training import train

SHORT = {"steps": 23, "batch_size": 32, "eval_every_steps": 7, "threads": 1}


class Memory:
    """A watcher that keeps what it is told."""

    def __init__(self):
        self.steps = []
        self.messages = []

    def step(self, progress):
        self.steps.append(progress)

    def message(self, text):
        self.messages.append(text)


def begin_short(path, **settings):
    """Begin a run of a few steps in the folder ``path``."""
    return begin(resolve({**SHORT, **settings}), path)


def go(run, stop_at=None):
    """Train, as if interrupted after step ``stop_at``; return the outcome and what the watcher saw."""
    memory = Memory()
    start = run.training.step
    return train(run, memory, lambda: start + len(memory.steps) == stop_at), memory


def measured(folder):
    """Return the metrics of a run without its times."""
    return [line._replace(elapsed_s=0.0) for line in read_metrics(folder.metrics)]
