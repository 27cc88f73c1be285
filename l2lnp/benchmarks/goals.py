"""The goals: how fast each job must be, as a ratio to a stated opponent in the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Goal:
    """``contender`` takes at most ``at_most`` times what the best of ``against`` takes.

    ``of`` is what is compared: the median time, or the memory added.
    """

    job: str
    threads: int
    contender: str
    against: tuple[str, ...]
    at_most: float
    of: str = "median_s"

    def ratio(self, rows: Rows, of: str | None = None) -> float | None:
        """Return the ratio reached, of another quantity if given; None where it was not measured."""
        of = of or self.of
        found = {
            r["contender"]: r[of]
            for r in rows
            if r["job"] == self.job and r["threads"] == self.threads and r.get(of) is not None
        }
        best = min((found[name] for name in self.against if name in found), default=None)
        if best is None or self.contender not in found:
            return None
        return float(found[self.contender] / best)

    def __str__(self) -> str:
        what = "memory" if self.of == "added" else "time"
        least = f"the least of {', '.join(self.against)}" if len(self.against) > 1 else self.against[0]
        return f"{what} of {self.contender} against {least}"


def _sweeps() -> Iterable[Goal]:
    both, gradient, channels_last = "l2lnp: g and h", "PyTorch: g", "PyTorch channels-last: g"
    for name, threads, at_most in (("small", 1, 0.65), ("small", 2, 1.0), ("big", 1, 1.3), ("big", 2, 1.5)):
        yield Goal(f"sweep-{name}", threads, both, (gradient,), at_most)
    yield Goal("sweep-small", 1, both, (channels_last,), 0.9)
    for name, one_draw, exact in (("small", 0.25, 0.06), ("big", 0.55, 0.13)):
        for threads in (1, 2):
            yield Goal(f"sweep-{name}", threads, both, ("BackPACK DiagGGNMC",), one_draw)
            yield Goal(f"sweep-{name}", threads, both, ("BackPACK DiagHessian",), exact)


def _learned() -> Iterable[Goal]:
    for threads in (1, 2):
        for job in ("lstm-1e5", "lstm-1e6"):
            yield Goal(job, threads, "l2lnp", ("torch.compile", "JAX", "PyTorch"), 0.4)
            yield Goal(job, threads, "l2lnp", ("floor",), 1.3)
        first_order = "meta-first-order", threads, "l2lnp", ("PyTorch", "PyTorch, surrogate")
        yield Goal(*first_order, 0.4)
        yield Goal(*first_order, 0.1, "added")
        yield Goal("meta-exact", threads, "l2lnp, with h", ("PyTorch",), 1.0)


_BASIS = Goal("basis-big", 1, "l2lnp: g, refresh, rotations", ("l2lnp: g",), 1.15)
GOALS = (*_sweeps(), *_learned(), _BASIS)
MEMORY_JOBS = ("meta-first-order", "meta-exact")  # whose memory is measured


def named_in_goals(job: str) -> set[str]:
    """Return the contenders that a goal of ``job`` compares."""
    return {name for goal in GOALS if goal.job == job for name in (goal.contender, *goal.against)}
