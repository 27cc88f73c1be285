"""The benchmark itself: turns, checks before timing, goals, tables, curves; tiny sizes throughout."""

import csv
import json
import re
from functools import partial
from time import perf_counter

import numpy as np
import pytest
from click.testing import CliRunner

from l2lnp.benchmarks import curves, jobs, measuring, report, timing
from l2lnp.benchmarks.goals import GOALS, Goal
from l2lnp.benchmarks.machine import lstm_floor_s, measure_limits
from l2lnp.benchmarks.measuring import checked, contenders_of
from l2lnp.benchmarks.opponents import OPPONENTS
from l2lnp.benchmarks.timing import Call, Neighbours, Times, time_alone, time_in_turns
from l2lnp.benchmarks.worker import ask
from l2lnp.cli import commands
from l2lnp.errors import InputError
from l2lnp.execution import Execution

TINY = {
    "sweep-small": partial(jobs.sweep, "small", batch_size=32),
    "sweep-big": partial(jobs.sweep, "big", batch_size=32),
    "lstm": partial(jobs.lstm_step, 300),
    "meta-first-order": partial(jobs.meta, False, n_steps=2, batch_size=4),
    "meta-exact": partial(jobs.meta, True, n_steps=2, batch_size=4),
    "training-step": partial(jobs.training_step, batch_size=4),
    "basis-big": partial(jobs.curvature_basis, "big", batch_size=4),
    "meta-training": partial(jobs.meta_training_step, n_steps=2, batch_size=4),
}
FRAMEWORKS = {"torch": "torch", "torch-compile": "torch", "backpack": "backpack", "jax": "jax"}


def rows(**medians):
    times = [Times(median, median, median, median, 3) for median in medians.values()]
    return [
        {"job": "j", "what": "a job", "threads": 1, "contender": name, "flops": 1e9, "bytes": None}
        | time._asdict()
        for name, time in zip(medians, times, strict=True)
    ]


def test_contenders_take_turns_and_short_calls_are_warmed_up(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "_SETTLE_S", 0.0)
    times = time_in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 2)
    assert calls == ["a", "b", *"aabb" * 2]
    assert [t.n_calls for t in times] == [2, 2]
    monkeypatch.setattr(timing, "_SETTLE_S", 0.02)
    calls.clear()
    time_in_turns([lambda: calls.append(perf_counter())], 1)
    _, *warm_up, counted = calls
    assert counted - warm_up[0] >= 0.02


def test_long_calls_join_every_fourth_turn_unless_asked_for(monkeypatch):
    monkeypatch.setattr(timing, "_timed", lambda run: Call(run(), 0.0))  # a run says how long it took
    runs = [lambda: 1.0, lambda: 3.5, lambda: 3.5, lambda: 2.5]
    assert [t.n_calls for t in time_in_turns(runs, 8, in_every_turn=[2])] == [8, 2, 8, 8]


def test_times_are_medians_and_quartiles():
    calls = [Call(wall_s, 0.5 * wall_s) for wall_s in (1.0, 2.0, 3.0, 4.0, 100.0)]
    assert Times.of(calls) == (3.0, 2.0, 4.0, 1.5, 5)


def test_alone_three_calls_are_counted_even_without_a_budget():
    assert time_alone(lambda: None, 10, budget_s=0.0).n_calls == 3
    assert time_alone(lambda: None, 10, budget_s=60.0).n_calls == 10


def test_the_share_of_neighbours_is_a_share():
    share = Neighbours().share()
    assert share is None or share >= 0


@pytest.mark.parametrize("name", TINY)
def test_all_contenders_of_ours_run_and_agree_with_the_reference(name):
    job = TINY[name](Execution())
    errors = checked(job, job.contenders)
    assert len(errors) == len(job.contenders)
    assert set(job.tolerances) <= set(job.reference())


def test_other_numbers_are_not_timed():
    job = TINY["sweep-small"](Execution())
    g = job.reference()["g"]
    wrong = jobs.Contender("wrong", lambda: g * 1.001, lambda g: {"g": g})
    with pytest.raises(InputError, match="wrong is off by 1"):
        checked(job, [wrong])
    with pytest.raises(InputError, match="not the same computation"):
        checked(job, [jobs.Contender("nan", lambda: g * np.nan, lambda g: {"g": g})])


@pytest.mark.parametrize("opponent", OPPONENTS)
@pytest.mark.parametrize("name", TINY)
@pytest.mark.filterwarnings("ignore")  # the frameworks' own
def test_opponents_compute_the_same_numbers(name, opponent):
    pytest.importorskip(
        FRAMEWORKS[opponent], reason=f"{FRAMEWORKS[opponent]}, of the extra 'peers', is missing"
    )
    if opponent == "torch-compile":
        pytest.skip("compiling takes longer than the everyday suite allows; bench checks it before timing")
    job = TINY[name](Execution())
    checked(job, contenders_of(job, [opponent]))


def test_flops_of_the_sweeps_are_those_counted_by_hand():
    conv, fc = 2 * 16 * 25 * 24 * 24, 2 * 2304 * 10
    network = TINY["sweep-small"](Execution()).problem.network
    assert jobs.sweep_flops(network) == (2 * conv + 3 * fc, 3 * conv + 5 * fc)


def test_jobs_are_called_what_they_are_listed_as():
    for name in set(jobs.JOBS) - {"lstm-1e6"}:
        assert jobs.JOBS[name](Execution()).name == name


def test_goals_speak_of_contenders_there_are():
    names = {
        job.name: {c.name for c in job.contenders} for job in (make(Execution()) for make in TINY.values())
    }
    for goal in GOALS:
        assert goal.job in jobs.JOBS
        assert goal.contender in names["lstm-3e2" if goal.job.startswith("lstm") else goal.job]


def test_a_goal_is_held_against_the_best_opponent():
    goal = Goal("j", 1, "ours", ("fast", "slow", "absent"), 0.5)
    assert goal.ratio(rows(ours=1.0, fast=2.0, slow=9.0)) == 0.5
    assert goal.ratio(rows(ours=1.0)) is None
    assert Goal("j", 2, "ours", ("fast",), 0.5).ratio(rows(ours=1.0, fast=2.0)) is None
    memory = [row | {"added": added} for row, added in zip(rows(ours=1.0, fast=2.0), (30, 10), strict=True)]
    assert Goal("j", 1, "ours", ("fast",), 0.1, "added").ratio(memory) == 3.0


def test_the_report_names_goals_and_shares_of_the_limits():
    limits = measure_limits(size=64)._asdict() | {"sgemm_flops_per_s": 1e10}
    both = [row | {"job": "sweep-small"} for row in rows(**{"l2lnp: g and h": 0.5, "PyTorch: g": 1.0})]
    results = {
        "started": "today",
        "load": 0.1,
        "machine": {"processor": "one"},
        "processes": [{"threads": 1, "limits": limits, "rows": both}],
    }
    text = report.markdown(results)
    assert "against PyTorch: g | <= 0.65 | 0.5 | 0.5 |  | reached |" in text
    assert "| PyTorch: g | 1000.00 | 1000.00 - 1000.00 | 1000.00 | 3 | 0.50 | 10 % |" in text


def test_tables_have_as_many_cells_in_every_line():
    limits = measure_limits(size=64)._asdict()
    results = {
        "started": "today",
        "load": 0.1,
        "machine": {},
        "processes": [{"threads": 1, "limits": limits, "rows": rows(ours=1.0, theirs=2.0)}],
    }
    tables = [part for part in report.markdown(results).split("\n\n") if part.startswith("|")]
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("threads", "others", "verdict"),
    [(1, 0.05, "**not reached**"), (1, 0.6, "reached"), (2, 0.05, "reached"), (2, 0.6, "not judged")],
)
def test_disturbed_runs_are_judged_by_processor_time_or_not_at_all(threads, others, verdict):
    # in wall time 0.7 with one thread (goal 0.65) and 0.9 with two (goal 1.0); in processor time 0.5
    walls, cpus = (0.7 if threads == 1 else 0.9, 1.0), (0.5, 1.0)
    both = [
        row | {"job": "sweep-small", "threads": threads, "median_s": wall, "cpu_s": cpu, "others": others}
        for row, wall, cpu in zip(
            rows(**{"l2lnp: g and h": 1.0, "PyTorch: g": 1.0}), walls, cpus, strict=True
        )
    ]
    limits = measure_limits(size=64)._asdict()
    process = {"threads": threads, "limits": limits, "rows": both}
    text = report.markdown({"started": "", "load": 0.0, "machine": {}, "processes": [process]})
    (line,) = (line for line in text.splitlines() if "against PyTorch: g |" in line)
    assert line.endswith(f"| {verdict} |")


def test_the_floor_halves_with_a_second_thread():
    limits = measure_limits(size=64)
    assert lstm_floor_s(limits, 1000, 2) == pytest.approx(lstm_floor_s(limits, 1000, 1) / 2)
    assert lstm_floor_s(limits, 1000, 1) > 0


def test_slopes_are_exponents():
    x = np.array([1.0, 10.0, 100.0, 1000.0])
    assert curves.slope(x, 3 * x**2) == pytest.approx(2)


def test_curves_are_measured_and_drawn(tmp_path):
    axis = curves.Axis("coordinates", (300, 600), ("LSTM step",))
    curves.measure_curves(tmp_path, [1], 3, lambda _: None, [axis])
    points = list(csv.DictReader((tmp_path / "curves.csv").read_text().splitlines()))
    assert [p["value"] for p in points] == ["300", "600"]
    assert all(float(p["median_s"]) > 0 for p in points)
    assert (tmp_path / "coordinates.png").read_bytes().startswith(b"\x89PNG")


def test_memory_is_what_a_fresh_process_adds():
    found = ask("measure_memory", 1, job="training-step", contender="l2lnp, slstm: step", against=[])
    assert 1e6 < found["added"] < 1e9


def test_errors_of_the_other_process_are_told():
    with pytest.raises(InputError, match="ended with code 1"):
        ask("measure_memory", 1, job="no such job", contender="", against=[])


def test_the_command_writes_results_and_tables(tmp_path):
    out, table = tmp_path / "results.json", tmp_path / "results.md"
    options = ["--jobs", "training-step", "--threads", "1", "--repetitions", "2"]
    ended = CliRunner().invoke(commands, ["bench", *options, "--json", str(out), "--markdown", str(table)])
    assert ended.exit_code == 0, ended.output
    results = json.loads(out.read_text())
    assert {row["contender"] for row in report.rows_of(results)} >= {
        "l2lnp, slstm: step",
        "l2lnp, adam: step",
    }
    assert "parts / step" in table.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "swep-small"], "did you mean 'sweep-small'"),
        (["--against", "pytorch"], "unknown opponent 'pytorch'"),
        (["--threads", "4096"], "this process may use"),
        (["--threads", "two"], "numbers separated by commas"),
        (["--jobs", ","], "names separated by commas are wanted, one or more, not ','"),
        (["--json", "."], ". is a folder"),
        (["--markdown", "none/x.md"], "there is no folder none"),
    ],
)
def test_bad_input_is_one_sentence(options, message):
    ended = CliRunner().invoke(commands, ["bench", *options])
    assert isinstance(ended.exception, InputError)
    assert message in str(ended.exception)


def test_the_help_lists_all_jobs_and_opponents():
    text = CliRunner().invoke(commands, ["bench", "--help"]).output
    words = re.sub(r"[,.]", " ", re.sub(r"-\s+", "-", text)).split()
    assert set(jobs.JOBS) | set(OPPONENTS) <= set(words)


def test_points_of_curves_are_jobs():
    assert {curve for axis in curves.AXES for curve in axis.curves} == set(measuring.CURVES)
