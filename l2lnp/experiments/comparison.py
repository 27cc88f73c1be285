"""A paired comparison: for each seed all contenders begin with the same weights, on the same mini-batches."""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import Entrant, find_baseline
from l2lnp.experiments.job import Job, Result, data_fingerprint
from l2lnp.experiments.running import Runner
from l2lnp.experiments.tuned import Tuned
from l2lnp.experiments.tuning import check_reported
from l2lnp.kernels import numba_version
from l2lnp.runs.resolving import resolve
from l2lnp.version import VERSION, commit

HORIZONS = (100, 200, 500, 1000, 2000)
LEVELS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
LAST_STEPS = 20  # of a run: their mean is its final loss; a level is reached by such a mean
_POINTS = 100  # of a curve in the files

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is compared on what.

    Parameters
    ----------
    common
        Settings of all runs: data, data_dir, network, batch_size, dtype.
    horizons
        Numbers of steps whose mean loss is reported, the last one being the length of the runs. Each
        contender runs once for each, tuned for it or told it, unless that would be the beginning of its
        longer run.
    """

    title: str
    common: Mapping[str, Any]
    horizons: tuple[int, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    eval_every_steps: int
    split: str
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        check_reported(self.seeds, self.tuning_seeds)
        if len(set(self.seeds)) < 2:
            raise InputError("a comparison needs two seeds or more, for its spread")

    @property
    def steps(self) -> int:
        """Steps of the whole runs."""
        return self.horizons[-1]


class Comparison(NamedTuple):
    """Everything that tables and figures are made of; `l2lnp.experiments.results` keeps it in files.

    ``about`` is the plan with the contenders, and the clock to be shown (``"wall"``, or ``"cpu"``: of the one
    process, which others do not disturb); ``seeds`` has a row for each contender and seed, ``curves`` one
    for each window of steps in it, ``errors`` one for each measurement of the error.
    """

    about: dict[str, Any]
    seeds: list[Row]
    curves: list[Row]
    errors: list[Row]


def horizons_up_to(steps: int, asked: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the numbers of steps ``asked`` for (None: those of `HORIZONS` as far as they go), and ``steps``.

    Raises
    ------
    InputError
        If a number is no positive one, or more than ``steps``.
    """
    if asked is None:
        asked = [n for n in HORIZONS if n < steps]
    for n in asked:
        if not 1 <= n <= steps:
            raise InputError(f"mean losses are over one step or more, up to the {steps} of the runs, not {n}")
    return tuple(sorted({*asked, steps}))


def tuned_entrant(name: str, by_horizon: Mapping[int, Tuned]) -> Entrant:
    """Return the hand-designed contender ``name`` with its best settings for each number of steps."""
    baseline = find_baseline(name)
    given: dict[int, dict[str, Any]] = {}
    for n, tuned in by_horizon.items():
        own = {**baseline.settings, **tuned.given()["optimizer_settings"]}
        given[n] = {**tuned.given(), "optimizer": baseline.optimizer, "optimizer_settings": own}
    about = {
        "optimizer": baseline.optimizer,
        **baseline.settings,
        "tuned": {
            str(n): {**t.settings, "loss_on_tuning_seeds": t.loss, "tuning_seeds": list(t.seeds)}
            for n, t in by_horizon.items()
        },
    }
    return Entrant(name, given, learned=False, about=about)


def check_names(names: Sequence[str], reference: str) -> None:
    """Raise `InputError` if names of contenders repeat, or the reference is none of them."""
    if len(set(names)) < len(names):
        raise InputError(f"each contender needs a name of its own, not {', '.join(names)}")
    if reference not in names:
        raise InputError(f"the reference '{reference}' is none of the contenders: {', '.join(names)}")


def check_entrants(plan: Plan, entrants: Sequence[Entrant]) -> None:
    """Raise `InputError` if one of the contenders could not begin: before others are tuned, not after."""
    for entrant in entrants:
        _job(plan, entrant, plan.seeds[0], plan.steps).begin()


def compare(plan: Plan, entrants: Sequence[Entrant], reference: str, runner: Runner) -> Comparison:
    """Run every contender for every seed and number of steps, and gather what was measured.

    Raises
    ------
    InputError
        If names repeat, the reference is none of them, or settings do not go together.
    """
    names = [entrant.name for entrant in entrants]
    check_names(names, reference)
    asked = [(e, seed, n) for e in entrants for seed in plan.seeds for n in plan.horizons]
    results = runner.run([_job(plan, *one) for one in asked], "comparing")
    by = {(e.name, seed, n): result for (e, seed, n), result in zip(asked, results, strict=True)}
    seeds, curves, errors = [], [], []
    for name in names:
        for seed in plan.seeds:
            whole = by[name, seed, plan.steps]
            labels = {"contender": name, "seed": seed}
            means = {f"mean_loss_{n}": by[name, seed, n].mean_loss for n in plan.horizons}
            seeds.append({**labels, **means, **_end(whole), **_reached(whole, plan.levels)})
            curves += [{**labels, **point} for point in _windows(whole)]
            errors += [
                {**labels, "step": step, "error": error}
                for step, error in zip(whole.evaluated_at, whole.errors.tolist(), strict=True)
            ]
    return Comparison(_about(plan, entrants, reference), seeds, curves, errors)


def _job(plan: Plan, entrant: Entrant, seed: int, n_steps: int) -> Job:
    given = {**plan.common, **entrant.by_horizon[n_steps], "threads": 1, "steps": n_steps, "seed": seed}
    every = plan.eval_every_steps
    at = tuple(dict.fromkeys([*range(every, n_steps + 1, every), n_steps])) if n_steps == plan.steps else ()
    return Job(resolve(given), at, plan.split, entrant.h)


def _end(result: Result) -> Row:
    return {
        "final_loss": float(result.losses[-LAST_STEPS:].mean()),
        "final_error": float(result.errors[-1]),
        "restarts": result.n_restarts,
        "wall_s": float(result.wall_s[-1]),
        "cpu_s": float(result.cpu_s[-1]),
    }


def _reached(result: Result, levels: Iterable[float]) -> Row:
    """Return when the mean of the last 20 losses first was at most each level, in steps and in seconds."""
    width = min(LAST_STEPS, len(result.losses))
    sums = np.convolve(np.where(np.isfinite(result.losses), result.losses, 1e30), np.ones(width), "valid")
    row: Row = {}
    for level in levels:
        below = np.flatnonzero(sums / width <= level)
        step = int(below[0]) + width if len(below) else None
        row[f"steps_to_{level:g}"] = step
        row[f"wall_s_to_{level:g}"] = float(result.wall_s[step - 1]) if step else None
        row[f"cpu_s_to_{level:g}"] = float(result.cpu_s[step - 1]) if step else None
    return row


def _windows(result: Result) -> list[Row]:
    """Return the curve of the loss as means over neighbouring steps, each at its last step."""
    steps = len(result.losses)
    edges = np.unique(np.linspace(0, steps, min(steps, _POINTS) + 1).round().astype(int)).tolist()
    return [
        {
            "step": end,
            "loss": float(result.losses[start:end].mean()),
            "wall_s": float(result.wall_s[end - 1]),
            "cpu_s": float(result.cpu_s[end - 1]),
        }
        for start, end in pairwise(edges)
    ]


def _about(plan: Plan, entrants: Sequence[Entrant], reference: str) -> dict[str, Any]:
    common = plan.common
    return {
        "title": plan.title,
        **this_command(),
        "data": Path(common["data"]).stem,
        "data_fingerprint": data_fingerprint(common["data"], common.get("data_dir")),
        "network": Path(common["network"]).stem,
        "batch_size": common["batch_size"],
        "backend": common.get("backend", "numpy"),
        "horizons": list(plan.horizons),
        "seeds": list(plan.seeds),
        "tuning_seeds": list(plan.tuning_seeds),
        "split": plan.split,
        "levels": list(plan.levels),
        "reference": reference,
        "clock": "wall",
        "contenders": {e.name: {"learned": e.learned, "h": e.h, **e.about} for e in entrants},
        "environment": {
            "l2lnp": VERSION,
            "commit": commit() or "not known",
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "numba": numba_version() or "none",
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def this_command() -> dict[str, str]:
    """Return the command line of this process: as it can be repeated elsewhere, and a checksum of the whole.

    Of a path the former has only the last part, by which two files may look the same.
    """
    digest = hashlib.sha256("\0".join(sys.argv[1:]).encode()).hexdigest()
    return {"command": command_without_places(sys.argv), "command_sha256": digest}


def command_without_places(arguments: Sequence[str]) -> str:
    """Return a command line as it can be repeated elsewhere: of full paths only the last part is kept.

    >>> command_without_places(["/lib/l2lnp/__main__.py", "compare"])
    'l2lnp compare'
    >>> command_without_places(["/bin/l2lnp", "compare", "--learned", "a=/home/me/a.h5:joint"])
    'l2lnp compare --learned a=a.h5:joint'
    """
    program, *words = arguments
    program = Path(program).name.replace("__main__.py", "l2lnp")
    words = [re.sub(r"(?<![^=])(?:[A-Za-z]:)?[/\\](?:[^/\\=]+[/\\])+", "", word) for word in words]
    return shlex.join([program, *words])
