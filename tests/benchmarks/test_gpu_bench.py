"""The benchmark on a GPU, over the stand-in and with the opponents on the CPU; tiny sizes throughout."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from stand_in.graphs import DEVICE

from l2lnp.benchmarks import gpu_jobs, gpu_limits, gpu_measuring, gpu_report, jobs
from l2lnp.benchmarks.measuring import checked
from l2lnp.benchmarks.opponents import ON_A_GPU as OPPONENTS
from l2lnp.benchmarks.opponents import opponents_of
from l2lnp.cli import commands
from l2lnp.errors import InputError
from l2lnp.execution import Execution

TINY = {
    "sweep-small": (partial(jobs.sweep, "small", Execution(), 4), gpu_jobs.sweep),
    "sweep-big": (partial(jobs.sweep, "big", Execution(), 2), gpu_jobs.sweep),
    "lstm-1e6": (partial(jobs.lstm_step, 300, Execution()), gpu_jobs.lstm_step),
    "training-step": (partial(gpu_jobs.slstm_step, 4), gpu_jobs.training_step),
    "meta-first-order": (partial(jobs.meta, False, Execution(), 2, 4), gpu_jobs.meta_gradient),
}
FRAMEWORKS = {"torch": "torch", "torch-compile": "torch", "jax": "jax"}


@pytest.mark.parametrize("name", sorted(set(TINY) - {"training-step", "meta-first-order"}))
def test_ours_give_the_numbers_of_the_cpu(cupy, name):
    make, ours = TINY[name]
    job = make()
    contenders = ours(cupy, job)
    errors = checked(job, contenders)
    assert contenders[0].name.startswith("l2lnp")
    assert errors[0]


def test_training_steps_give_the_numbers_of_the_cpu_and_a_graph_takes_few_launches(cupy, monkeypatch):
    monkeypatch.setattr(gpu_jobs, "STEPS", 2)
    make, ours = TINY["training-step"]
    job = make()
    contenders = ours(cupy, job)
    assert all(checked(job, contenders))
    _, graph = contenders
    assert graph.name.endswith("one graph")
    before = DEVICE.n_launches
    graph.run()
    assert DEVICE.n_launches - before <= 2 * 12 + 12  # two steps; the state to fixed places and back


@pytest.mark.slow
def test_a_meta_gradient_is_that_of_the_cpu_and_one_graph_in_which_nothing_waits(cupy):
    make, ours = TINY["meta-first-order"]
    job = make()
    contenders, done = ours(cupy, job), []
    assert [c.name for c in contenders] == [
        *("l2lnp", "l2lnp, with h"),
        *("l2lnp, one graph", "l2lnp, with h, one graph"),
    ]
    for contender in contenders:
        launches, readings = DEVICE.n_launches, DEVICE.n_readings
        a_phi = contender.run()
        assert DEVICE.n_readings == readings
        assert (DEVICE.n_launches == launches + 1) == contender.name.endswith("one graph")
        done.append(replace(contender, run=partial(dict, a_phi)))
    without_h, _, as_graph, _ = checked(job, done)
    assert without_h
    assert as_graph


def test_other_numbers_are_not_timed(cupy):
    job = TINY["training-step"][0]()
    wrong = gpu_jobs.DeviceContender("wrong", lambda: 1.01 * job.reference()["u"], lambda u: {"u": u})
    with pytest.raises(InputError, match="wrong is off by 1"):
        checked(job, [wrong])


@pytest.mark.parametrize("opponent", OPPONENTS)
@pytest.mark.parametrize("name", TINY)
@pytest.mark.filterwarnings("ignore")  # the frameworks' own
def test_opponents_give_the_numbers_of_the_cpu(monkeypatch, name, opponent):
    pytest.importorskip(
        FRAMEWORKS[opponent], reason=f"{FRAMEWORKS[opponent]}, of the extra 'peers', is missing"
    )
    if opponent == "torch-compile":
        pytest.skip("compiling takes longer than the everyday suite allows; bench checks it before timing")
    monkeypatch.setenv("L2LNP_OPPONENTS_ON_CPU", "1")
    job = TINY[name][0]()
    contenders = opponents_of(job, opponent, on_gpu=True)
    for error, contender in zip(checked(job, contenders), contenders, strict=True):
        assert error
        assert contender.versions


@pytest.mark.parametrize("opponent", ["torch", "jax"])
@pytest.mark.filterwarnings("ignore")
def test_frameworks_that_see_no_gpu_are_told(monkeypatch, opponent):
    pytest.importorskip(FRAMEWORKS[opponent])
    monkeypatch.delenv("L2LNP_OPPONENTS_ON_CPU", raising=False)
    with pytest.raises(InputError, match="sees no GPU"):
        opponents_of(TINY["sweep-small"][0](), opponent, on_gpu=True)


def test_times_are_of_one_job(cupy, monkeypatch):
    contenders = [gpu_jobs.DeviceContender("a", int, per_call=5), gpu_jobs.DeviceContender("b", int)]
    waited = []
    contenders[1] = gpu_jobs.DeviceContender("b", lambda: 7, wait=waited.append)
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda start, end: 10.0)
    assert gpu_measuring.times_ms(cupy, contenders, 2) == [[1.0, 1.0], [1.0, 1.0]]
    assert set(waited) == {7}


def rows(**medians):
    return [
        {"job": "lstm-1e6", "contender": name, "threads": 0, "median_ms": ms, "lower_ms": ms, "upper_ms": ms}
        for name, ms in medians.items()
    ]


def test_goals_are_reached_or_not_or_not_measured():
    table = gpu_report.goals([*rows(**{"l2lnp, one graph": 3.0, "floor": 1.0, "JAX": 20.0})], 80e9)
    assert table[2].endswith("| <= 2 | 3 | **not reached** |")
    assert table[3].endswith("| <= 0.3 | 0.15 | reached |")
    assert sum(line.endswith("| not measured |") for line in table) == 3
    assert "80 GB | stated | 77 million" in table[-1]


def test_goals_speak_of_jobs_there_are():
    for goal in gpu_report.GOALS:
        assert goal.job in gpu_jobs.JOBS


def test_the_command_writes_a_page_by_date_and_card(cupy, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_jobs, "JOBS", {"lstm-1e6": TINY["lstm-1e6"]})
    limits = partial(gpu_limits.measure_gpu_limits, n_bytes=64, size=4)
    monkeypatch.setattr(gpu_measuring, "measure_gpu_limits", limits)
    options = ["bench", "--backend", "cupy", "--repetitions", "2", "--results", str(tmp_path / "gpu")]
    ended = CliRunner().invoke(commands, options)
    assert ended.exit_code == 0, ended.output
    (page,) = (tmp_path / "gpu").glob("*-stand-in.md")
    text, results = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert text in ended.output
    assert text.startswith("# Benchmark on stand-in, ")
    assert {"l2lnp", "cupy", "numpy"} <= set(results["versions"])
    assert [r["contender"] for r in results["rows"]] == ["l2lnp", "l2lnp, one graph", "floor"]
    assert all(np.isfinite(r["median_ms"]) for r in results["rows"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "cupy", "--against", "backpack"], "unknown opponent on a GPU 'backpack'"),
        (["--backend", "cupy", "--curves", "x"], "--curves does not apply"),
        (["--results", "x"], "--results is for --backend cupy"),
        (["--backend", "cupy", "--results", __file__], "cannot make .*test_gpu_bench.py"),
    ],
)
@pytest.mark.usefixtures("cupy")
def test_bad_input_is_one_sentence(options, message):
    ended = CliRunner().invoke(commands, ["bench", *options])
    assert isinstance(ended.exception, InputError)
    assert re.search(message, str(ended.exception))
