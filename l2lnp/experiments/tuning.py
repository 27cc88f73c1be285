"""Tune hand-designed optimizers: a pattern search on the grid 2^(k/2), by the mean loss over n steps.

The search begins around values from the literature with a spacing of factors 2, moves until no neighbour
is better, and does the same with factors sqrt(2). So every neighbour of the answer has been tried: it never
lies at the edge of what was tried.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import find_baseline
from l2lnp.experiments.job import Job, data_fingerprint, network_text
from l2lnp.experiments.running import Runner
from l2lnp.experiments.tuned import Tuned, TunedFile
from l2lnp.runs.resolving import resolve
from l2lnp.version import VERSION

FIRST_TUNING_SEED = 1000  # reported seeds are smaller

Point = tuple[int, ...]  # the exponents k of each tuned setting 2^(k/2)
Search = Generator[list[Point], Mapping[Point, float], tuple[Point, dict[Point, float]]]

_COARSE = {"learning_rate": 2, "epsilon": 4}  # spacings of k
_FINE = {"learning_rate": 1, "epsilon": 2}
_REACH = {"learning_rate": 2, "epsilon": 1}  # first points on either side
_FURTHEST = 24  # of k from the start: a factor of 4096


def tuning_seeds(n: int) -> tuple[int, ...]:
    """Return the seeds that are used for tuning, and are never reported."""
    return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + n))


def check_reported(seeds: Sequence[int], for_tuning: Iterable[int] = ()) -> None:
    """Raise `InputError` where a seed to be reported was, or may be, used for tuning."""
    used = set(for_tuning)
    for seed in seeds:
        if seed >= FIRST_TUNING_SEED or seed in used:
            raise InputError(
                f"seed {seed} is for tuning and cannot be reported: "
                f"report seeds below {FIRST_TUNING_SEED} on which nothing was tuned"
            )


def search(start: Mapping[str, float]) -> Search:
    """Yield lists of points whose scores are wanted; return the best point and all scores.

    Parameters
    ----------
    start
        The tuned settings' first values.

    Raises
    ------
    InputError
        If scores improve up to the furthest point, or no point has a finite one.
    """
    centre = tuple(round(2 * math.log2(value)) for value in start.values())
    coarse, fine = ([spacings[name] for name in start] for spacings in (_COARSE, _FINE))
    scores = dict((yield _box(centre, coarse, [_REACH[name] for name in start])))
    for spacing in (coarse, fine):
        while True:
            best = min(scores, key=lambda point: (scores[point], point))
            if max(abs(k - c) for k, c in zip(best, centre, strict=True)) > _FURTHEST:
                why = "nothing trains at all" if math.isinf(scores[best]) else "it gets better all the way"
                raise InputError(
                    f"no best value within a factor of {2 ** (_FURTHEST // 2)} of {start}: {why}"
                )
            wanted = [point for point in _box(best, spacing, [1] * len(best)) if point not in scores]
            if not wanted:
                break
            scores.update((yield wanted))
    return best, scores


def _box(centre: Point, spacing: Sequence[int], reach: Sequence[int]) -> list[Point]:
    """Return the points around ``centre``, up to ``reach`` spacings away in each setting."""
    sides = [range(k - r * s, k + r * s + 1, s) for k, s, r in zip(centre, spacing, reach, strict=True)]
    return list(product(*sides))


def values(names: Iterable[str], point: Point) -> dict[str, float]:
    """Return the settings that ``point`` stands for: 2^(k/2)."""
    return {name: float(f"{2 ** (k / 2):.6g}") for name, k in zip(names, point, strict=True)}


def question(common: Mapping[str, Any], name: str, n_steps: int) -> dict[str, Any]:
    """Return what the best settings of the contender ``name`` depend on.

    Parameters
    ----------
    common
        Settings of all runs: data, data_dir, network, batch_size.
    """
    baseline = find_baseline(name)
    text = network_text(common["data"], common.get("data_dir"), common["network"])
    return {
        "contender": name,
        "optimizer": baseline.optimizer,
        "optimizer_settings": dict(baseline.settings),
        "data": data_fingerprint(common["data"], common.get("data_dir")),
        "network": hashlib.sha256(text.encode()).hexdigest(),
        "batch_size": common["batch_size"],
        "horizon_steps": n_steps,
        "version": VERSION,
    }


def tune(
    common: Mapping[str, Any],
    questions: Sequence[tuple[str, int]],
    file: TunedFile,
    runner: Runner,
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, int], Tuned]:
    """Return the best settings for each (contender, number of steps): from ``file``, or found and put there.

    All searches go on side by side, so that one long run answers for several numbers of steps.

    Raises
    ------
    InputError
        If a number of steps is no positive one, settings do not go together, or a search finds nothing.
    """
    if any(n < 1 for _, n in questions):
        raise InputError("optimizers are tuned for the mean loss over one step or more")
    answers: dict[tuple[str, int], Tuned] = {}
    searches: dict[tuple[str, int], Search] = {}
    wanted: dict[tuple[str, int], list[Point]] = {}
    for asked in questions:
        found = file.find(question(common, *asked))
        if found is not None:
            answers[asked] = found
        else:
            searches[asked] = search(find_baseline(asked[0]).start)
            wanted[asked] = next(searches[asked])
    for (name, n), points in wanted.items():  # before others are tuned, not after
        _job(common, name, n, points[0], seeds[0]).begin()
    if wanted:
        say(f"not tuned yet: {_listed(wanted)}; tuning now on seeds {seeds[0]} to {seeds[-1]}")
    round_number = 0
    while wanted:
        round_number += 1
        scores = _scores(common, wanted, runner, seeds, f"tuning, round {round_number}")
        for asked in list(wanted):
            try:
                wanted[asked] = searches[asked].send(scores[asked])
            except StopIteration as end:
                del wanted[asked]
                answers[asked] = _answer(asked[0], end.value[0], end.value[1], seeds)
                file.add(question(common, *asked), answers[asked])
                say(f"{asked[0]} for {asked[1]} steps: {_told(answers[asked])}")
            except InputError as error:
                raise InputError(f"tuning {asked[0]} for {asked[1]} steps: {error}") from None
    return {asked: answers[asked] for asked in questions}


def _scores(
    common: Mapping[str, Any],
    wanted: Mapping[tuple[str, int], list[Point]],
    runner: Runner,
    seeds: Sequence[int],
    what: str,
) -> dict[tuple[str, int], dict[Point, float]]:
    """Return the mean loss over seeds for all points wanted."""
    points = [(asked, point) for asked, of_one in wanted.items() for point in of_one]
    jobs = [_job(common, *asked, point, seed) for asked, point in points for seed in seeds]
    losses = np.array([result.mean_loss for result in runner.run(jobs, what)]).reshape(-1, len(seeds))
    scores: dict[tuple[str, int], dict[Point, float]] = {asked: {} for asked in wanted}
    for (asked, point), row in zip(points, losses, strict=True):
        scores[asked][point] = float(row.mean())
    return scores


def _job(common: Mapping[str, Any], name: str, n_steps: int, point: Point, seed: int) -> Job:
    baseline = find_baseline(name)
    tuned = values(baseline.start, point)
    rate = tuned.pop("learning_rate")
    own = {**baseline.settings, **tuned}
    given = {"optimizer": baseline.optimizer, "learning_rate": rate, "optimizer_settings": own}
    return Job(resolve({**common, **given, "threads": 1, "steps": n_steps, "seed": seed}))


def _answer(name: str, best: Point, scores: Mapping[Point, float], seeds: Sequence[int]) -> Tuned:
    names = list(find_baseline(name).start)
    tried = tuple(
        {**values(names, point), "loss": score if math.isfinite(score) else None}
        for point, score in sorted(scores.items())
    )
    return Tuned(values(names, best), scores[best], tuple(seeds), tried)


def _told(tuned: Tuned) -> str:
    settings = ", ".join(f"{name} {value:.3g}" for name, value in tuned.settings.items())
    return f"{settings} (mean loss {tuned.loss:.4g}, {len(tuned.tried)} settings tried)"


def _listed(asked: Iterable[tuple[str, int]]) -> str:
    steps: dict[str, list[str]] = {}
    for name, n in asked:
        steps.setdefault(name, []).append(str(n))
    return "; ".join(f"{name} for {', '.join(numbers)} steps" for name, numbers in steps.items())
