"""Tuning: the answer lies inside what was tried, on the grid, on seeds that are never reported."""

import json
import math
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import CONTENDERS
from l2lnp.experiments.running import Runner
from l2lnp.experiments.tuned import Tuned, TunedFile
from l2lnp.experiments.tuning import check_reported, question, search, tune, tuning_seeds, values

from .small_jobs import COMMON

RATE = {"learning_rate": 0.01}
RATE_AND_DAMPING = {"learning_rate": 0.02, "epsilon": 0.1}


def found(start, score):
    """Run a search for the lowest ``score`` of a point."""
    asking, told = search(start), None
    try:
        while True:
            told = {point: score(point) for point in (asking.send(told) if told else next(asking))}
    except StopIteration as end:
        return end.value


@given(st.integers(-33, 6), st.floats(0.1, 3))
def test_the_best_rate_is_found_wherever_it_lies(best, steepness):
    point, scores = found(RATE, lambda p: steepness * abs(p[0] - best))
    assert point == (best,)
    assert {(best - 1,), (best + 1,)} <= set(scores)


@given(st.integers(-25, -1), st.integers(-25, 5))
def test_the_best_rate_below_a_cliff_is_found(best, cliff):
    """Above the cliff everything diverges."""
    point, scores = found(RATE, lambda p: math.inf if p[0] > cliff else abs(p[0] - best) + 1.0)
    assert point == (min(best, cliff),)
    assert (point[0] + 1,) in scores


@given(st.integers(-20, 0), st.integers(-16, 2))
def test_rate_and_damping_are_found_together_though_they_depend_on_each_other(rate, damping):
    damping = -7 + 2 * round((damping + 7) / 2)  # on the grid of dampings
    point, scores = found(
        RATE_AND_DAMPING, lambda p: (p[0] - rate - p[1] + damping) ** 2 + (p[1] - damping) ** 2
    )
    assert point == (rate, damping)
    around = {(rate + i, damping + 2 * j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert around <= set(scores)


def test_a_search_that_gets_better_all_the_way_ends_in_a_sentence():
    with pytest.raises(InputError, match="gets better all the way"):
        found(RATE, lambda p: -p[0])


def test_nothing_trains_at_all_is_said():
    with pytest.raises(InputError, match="nothing trains at all"):
        found(RATE, lambda p: math.inf)


def test_values_are_on_the_grid():
    assert values(RATE, (-2,)) == {"learning_rate": 0.5}
    assert values(RATE_AND_DAMPING, (-1, 3)) == {"learning_rate": 0.707107, "epsilon": 2.82843}


def test_seeds_for_tuning_are_never_reported():
    check_reported(range(10), tuning_seeds(3))
    for seeds, used in (((5, 1001), ()), ((0, 1, 2), (2, 1000))):
        with pytest.raises(InputError, match="is for tuning and cannot be reported"):
            check_reported(seeds, used)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Adam and momentum tuned for 5 and 12 steps, and what was said and run."""
    folder = tmp_path_factory.mktemp("tuned")
    said, progress = [], []
    file = TunedFile(folder / "deep" / "tuned.json")
    asked = [(name, n) for name in ("adam", "momentum") for n in (5, 12)]
    answers = tune(
        COMMON, asked, file, Runner(folder / "cache", 1, progress.append), tuning_seeds(2), said.append
    )
    return folder, file, asked, answers, said


def test_real_runs_are_tuned_on_the_tuning_seeds(tuned):
    _, file, asked, answers, said = tuned
    assert list(answers) == asked
    for (name, n), answer in answers.items():
        assert answer.seeds == (1000, 1001)
        tried = {entry["learning_rate"]: entry["loss"] for entry in answer.tried}
        rate = answer.settings["learning_rate"]
        assert tried[rate] == answer.loss == min(tried.values())
        assert min(tried) < rate < max(tried)
        assert any(f"{name} for {n} steps" in text for text in said)
    assert said[0].startswith("not tuned yet: adam for 5, 12 steps; momentum for 5, 12 steps")
    assert len(json.loads(file.path.read_text())["entries"]) == 4


def test_the_loss_is_that_of_runs_on_those_seeds(tuned):
    from l2lnp.experiments.job import run_job

    from .small_jobs import job

    answer = tuned[3]["adam", 12]
    rate = answer.settings["learning_rate"]
    runs = [run_job(job(12, optimizer="adam", learning_rate=rate, seed=seed)) for seed in answer.seeds]
    assert answer.loss == pytest.approx(sum(run.mean_loss for run in runs) / 2, rel=1e-12)


def test_what_is_in_the_file_is_not_tuned_again(tuned, monkeypatch):
    folder, file, asked, answers, _ = tuned
    monkeypatch.setattr(Runner, "run", lambda *_: pytest.fail("tuned again"))
    said = []
    assert tune(COMMON, asked, TunedFile(file.path), Runner(folder), tuning_seeds(2), said.append) == answers
    assert said == []


@pytest.mark.parametrize("change", [{"batch_size": 17}, {"network": "big"}])
def test_answers_are_for_one_network_and_batch_size(tuned, change):
    _, file, _, _, _ = tuned
    assert file.find(question(COMMON, "adam", 5)) is not None
    assert file.find(question({**COMMON, **change}, "adam", 5)) is None
    assert file.find(question(COMMON, "adam", 6)) is None
    assert file.find(question(COMMON, "rmsprop", 5)) is None


def test_a_better_answer_replaces_the_old_one(tmp_path):
    file = TunedFile(tmp_path / "tuned.json")
    for loss in (2.0, 1.0):
        file.add({"contender": "adam"}, Tuned({"learning_rate": loss}, loss, (1000,), ()))
    assert file.find({"contender": "adam"}).loss == 1.0
    assert len(json.loads(file.path.read_text())["entries"]) == 1


def add_answers(path, contender):
    for n in range(20):
        TunedFile(path).add({"contender": contender, "horizon_steps": n}, Tuned(RATE, 1.0, (1000,), ()))


def test_processes_that_add_at_once_lose_no_answer(tmp_path):
    path, context = tmp_path / "tuned.json", get_context("spawn")
    processes = [context.Process(target=add_answers, args=(path, name)) for name in ("adam", "sgd")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(json.loads(path.read_text())["entries"]) == 40


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 1}', '{"format": 1, "entries": [3]}', '{"format": 9}']
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "tuned.json").write_text(content)
    with pytest.raises(InputError, match=r"tuned.json"):
        TunedFile(tmp_path / "tuned.json").find({})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("question", None),
        ("answer", None),
        *(
            ("settings", {**RATE_AND_DAMPING, "learning_rate": rate})
            for rate in (0, -1, math.nan, math.inf, "x")
        ),
        ("settings", {"epsilon": 0.1}),
        ("settings", RATE),  # sou has an epsilon, too
        ("settings", 5),
        ("loss", None),
        ("loss", math.nan),
        ("seeds", 5),
        ("seeds", ["x"]),
        ("tried", None),
    ],
)
def test_a_damaged_entry_is_no_answer(tmp_path, key, value):
    file, asked = TunedFile(tmp_path / "tuned.json"), {"contender": "sou"}
    file.add(asked, Tuned(RATE_AND_DAMPING, 1.0, (1000,), ()))
    assert file.find(asked) is not None
    content = json.loads(file.path.read_text())
    (entry,) = content["entries"]
    (entry if key in entry else entry["answer"])[key] = value
    file.path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"tuned.json is damaged"):
        file.find(asked)


def test_what_cannot_be_tuned_is_refused_before_anything_is_said(tmp_path):
    said, file = [], TunedFile(tmp_path / "tuned.json")
    with pytest.raises(InputError, match="one step or more"):
        tune(COMMON, [("adam", 0)], file, Runner(tmp_path), tuning_seeds(1), said.append)
    assert said == []


def test_every_contender_is_a_question_of_its_own():
    assert len({json.dumps(question(COMMON, name, 5)) for name in CONTENDERS}) == len(CONTENDERS)
