"""Runs: what they write, and that an interrupted one ends as if it had never stopped."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from l2lnp.checkpoint import load_checkpoint
from l2lnp.data import load_dataset
from l2lnp.errors import InputError
from l2lnp.pretrained import load_learned_optimizer
from l2lnp.runs.folder import RunFolder, free_name
from l2lnp.runs.metrics import Line, read_metrics
from l2lnp.runs.problem import pose
from l2lnp.runs.resolving import resolve
from l2lnp.runs.run import changed, resume

from .short_runs import begin_short, go, measured

VARIANTS = {
    "slstm": {"unroll_length_steps": 5},
    "slstm, frozen": {},
    "slstm from nothing": {"pretrained": "random"},
    "exact meta-gradient": {
        "second_derivatives": True,
        "curvature": "gauss_newton",
        "unroll_length_steps": 3,
    },
    "random curvature": {"curvature": "monte_carlo", "unroll_length_steps": 4},
    "lstm, float64": {"optimizer": "lstm", "dtype": "float64"},
    "adam": {"optimizer": "adam"},
    "sou, row-lstm": {"optimizer": "sou", "network": "row-lstm"},
    "streamed, augmented": {"optimizer": "adam", "memory_limit_mb": 0, "flip": True, "crop_padding": 1},
    "h held": {"unroll_length_steps": 4, "optimizer_settings": {"curvature_every": 3}},
    "averaged": {"average": True, "unroll_length_steps": 4},
    "soap": {"optimizer": "soap", "optimizer_settings": {"basis_every": 3}},
    "slstm in the basis": {
        "unroll_length_steps": 5,
        "optimizer_settings": {"basis": "kronecker", "basis_every": 4, "step_unit": "weights"},
    },
    "few lines": {"log_every_steps": 5, "optimizer": "momentum"},
}


def same_end(folder, other):
    """Whether two runs ended in the same bytes, and measured the same on the way."""
    a, b = folder.load_checkpoint(), other.load_checkpoint()
    assert a.step == b.step
    assert a.theta.tobytes() == b.theta.tobytes()
    assert np.asarray(a.boundary.average).tobytes() == np.asarray(b.boundary.average).tobytes()
    assert measured(folder) == measured(other)
    for tree, twin in ((a.boundary.state, b.boundary.state), (a.boundary.meta, b.boundary.meta)):
        assert set(tree) == set(twin)
        assert all(np.asarray(tree[key]).tobytes() == np.asarray(twin[key]).tobytes() for key in tree)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_run_interrupted_at_any_step_ends_as_one_that_never_was(tmp_path, settings):
    whole = begin_short(tmp_path / "whole", **settings)
    go(whole)
    run = begin_short(tmp_path / "cut", **settings)
    for stop_at in (4, 5, 6, 10, 21):  # in the first unroll, at its end, after it, ...
        outcome, _ = go(run, stop_at)
        assert outcome.interrupted
        assert outcome.step == stop_at == run.folder.load_checkpoint().step
        run = resume(run.folder, run.folder.read_settings())
        assert run.training.step <= stop_at
    assert not go(run)[0].interrupted
    same_end(whole.folder, run.folder)


def test_h_held_for_one_step_changes_no_byte(tmp_path):
    ends = []
    for k in (None, 1, 3):
        own = {"basis": "coordinates"} | ({"curvature_every": k} if k else {})
        run = begin_short(tmp_path / f"{k}", optimizer_settings=own)
        go(run)
        ends.append(run.folder)
    same_end(ends[0], ends[1])
    assert ends[0].load_checkpoint().theta.tobytes() != ends[2].load_checkpoint().theta.tobytes()


def test_threads_change_no_byte_even_from_session_to_session(tmp_path):
    whole = begin_short(tmp_path / "whole", threads=1)
    go(whole)
    run = begin_short(tmp_path / "cut", threads=3)
    go(run, stop_at=12)
    run = resume(run.folder, changed(run.settings, {"threads": 2}))
    assert run.settings.threads == 2
    go(run)
    same_end(whole.folder, run.folder)


@pytest.mark.parametrize(
    "settings", [{"pretrained": "random"}, {"optimizer": "rmsprop"}], ids=["slstm", "rmsprop"]
)
def test_a_finished_run_can_be_given_more_steps(tmp_path, settings):
    settings = {**settings, "log_every_steps": 3}
    whole = begin_short(tmp_path / "whole", steps=31, **settings)
    go(whole)
    run = begin_short(tmp_path / "short", steps=17, **settings)
    go(run)
    assert measured(run.folder)[-1].step == 17  # a line that the whole run has not
    run = resume(run.folder, changed(run.settings, {"steps": 31}))
    go(run)
    same_end(whole.folder, run.folder)
    assert run.folder.read_settings().steps == 31


def test_lines_after_the_checkpoint_and_a_damaged_last_line_are_cut(tmp_path):
    whole = begin_short(tmp_path / "whole", unroll_length_steps=5)
    go(whole)
    run = begin_short(tmp_path / "killed", unroll_length_steps=5)
    go(run, stop_at=8)
    checkpoint = run.folder.checkpoint.read_bytes()
    go(resume(run.folder, run.settings), stop_at=16)
    run.folder.checkpoint.write_bytes(checkpoint)  # as if killed before the second one was written
    with open(run.folder.metrics, "ab") as file:
        file.write(b'{"step": 17, "train_l')
    run = resume(run.folder, run.settings)
    assert run.training.step == 5
    assert [line.step for line in run.lines] == [1, 2, 3, 4, 5]
    go(run)
    same_end(whole.folder, run.folder)


def test_metrics_have_a_line_each_logged_step_with_the_error_where_measured(tmp_path):
    run = begin_short(tmp_path / "run", log_every_steps=4)
    outcome, memory = go(run)
    lines = [json.loads(text) for text in run.folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 7, 8, 12, 14, 16, 20, 21, 23]
    assert [line["step"] for line in lines if line["test_error"] is not None] == [7, 14, 21, 23]
    assert all(set(line) == {"step", "train_loss", "test_error", "elapsed_s"} for line in lines)
    assert [p.step for p in memory.steps] == list(range(1, 24))
    assert outcome.lines[-1].test_error == memory.steps[-1].test_error
    times = [line["elapsed_s"] for line in lines]
    assert times == sorted(times)


def test_the_first_logged_loss_is_that_of_the_first_batch_at_the_initial_theta(tmp_path):
    run = begin_short(tmp_path / "run")
    first = run.problem.task.evaluate(run.training.theta, next(run.problem.batches(0)), wants_h=False)
    outcome, _ = go(run, stop_at=1)
    assert outcome.lines[0].train_loss == pytest.approx(first.loss, rel=1e-6)


def test_a_new_run_folder_can_be_gone_on_with_at_once(tmp_path):
    run = begin_short(tmp_path / "run")
    assert {path.name for path in run.folder.path.iterdir()} == {
        *("config.toml", "environment.json", "metrics.jsonl", "checkpoint.h5"),
    }
    assert list(tmp_path.iterdir()) == [run.folder.path]
    assert resume(run.folder, run.settings).training.step == 0
    sessions = json.loads(run.folder.environment.read_text())["sessions"]
    assert [s["step"] for s in sessions] == [0, 0]
    assert sessions[0]["numpy"] == np.__version__


def test_a_checkpoint_serves_as_pretrained_optimizer_of_another_network(tmp_path):
    run = begin_short(tmp_path / "run", pretrained="random", optimizer_settings={"per": "kind", "decay": 0.9})
    go(run)
    checkpoint = str(run.folder.checkpoint)
    assert load_learned_optimizer(str(run.folder.path)).name == "slstm"
    other = begin_short(tmp_path / "big", network="big", pretrained=checkpoint, joint=False)
    assert other.problem.optimizer.decay == 0.9
    for key, value in run.folder.load_checkpoint().boundary.phi.items():
        np.testing.assert_array_equal(other.training.phi[key], value)
    before = {key: value.copy() for key, value in other.training.phi.items()}
    go(other)
    for key, value in other.folder.load_checkpoint().boundary.phi.items():
        np.testing.assert_array_equal(before[key], value)


@pytest.fixture
def infinite_at_step(monkeypatch):
    """Return a function that makes the loss infinite at one step of all runs."""
    from l2lnp.tasks.classification import Classification

    evaluate = Classification.evaluate

    def make_infinite(step):
        def once_infinite(task, theta, batch, wants_h):
            found = evaluate(task, theta, batch, wants_h)
            return found._replace(loss=float("inf")) if batch.step == step else found

        monkeypatch.setattr(Classification, "evaluate", once_infinite)

    return make_infinite


def test_restarts_are_told_and_logged_as_null(tmp_path, infinite_at_step):
    infinite_at_step(8)
    run = begin_short(tmp_path / "run")
    outcome, memory = go(run)
    assert outcome.n_restarts == 1
    assert len(memory.messages) == 1
    assert "not finite" in memory.messages[0]
    assert json.loads(run.folder.metrics.read_text().splitlines()[8])["train_loss"] is None


@pytest.mark.parametrize("log_every_steps", [1, 3])
def test_a_run_that_ended_with_a_restart_can_be_given_more_steps(tmp_path, infinite_at_step, log_every_steps):
    infinite_at_step(16)
    settings = {"pretrained": "random", "log_every_steps": log_every_steps}
    whole = begin_short(tmp_path / "whole", steps=31, **settings)
    go(whole)
    run = begin_short(tmp_path / "short", steps=17, **settings)
    go(run)
    assert run.folder.load_checkpoint().boundary.step == 17  # the last line is kept, without its test error
    run = resume(run.folder, changed(run.settings, {"steps": 31}))
    go(run)
    same_end(whole.folder, run.folder)


def test_changes_other_than_steps_and_threads_are_refused(tmp_path):
    run = begin_short(tmp_path / "run")
    assert changed(run.settings, {"seed": 0, "data": "digits", "steps": 40}).steps == 40
    with pytest.raises(InputError, match="--batch-size 64 cannot be given to a run that goes on with 32"):
        changed(run.settings, {"batch_size": 64})
    go(run, stop_at=12)
    for steps in (9, 12):  # at 12 the run stands, but the error there was never measured
        with pytest.raises(InputError, match=f"--steps {steps} is not more than the 12 steps made in"):
            resume(run.folder, changed(run.settings, {"steps": steps}))


def test_parts_of_different_runs_are_refused(tmp_path):
    small = begin_short(tmp_path / "small")
    big = begin_short(tmp_path / "big", network="big")
    shutil.copy(big.folder.checkpoint, small.folder.checkpoint)
    with pytest.raises(InputError, match=r"another run than config.toml: its network is big, not small"):
        resume(small.folder, small.settings)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_changed_data_are_refused(tmp_path, split):
    run = begin_short(tmp_path / "run")
    checkpoint = load_checkpoint(run.folder.checkpoint)
    assert checkpoint.subject == run.problem.subject
    labels = run.problem.dataset.splits[split].labels
    labels[0] += 1
    from l2lnp.runs.problem import fingerprint

    assert fingerprint(run.problem.dataset) != checkpoint.subject.fingerprint


def test_data_of_one_class_are_refused():
    dataset = dataclasses.replace(load_dataset("digits"), class_names=["cat"])
    with pytest.raises(InputError, match="the pictures of digits are all of one class"):
        pose(resolve({}), dataset=dataset)


@pytest.mark.parametrize("lost", [2, 5])
def test_missing_metrics_are_noticed(tmp_path, lost):
    run = begin_short(tmp_path / "run", unroll_length_steps=5)
    go(run, stop_at=8)
    lines = run.folder.metrics.read_text().splitlines(keepends=True)
    run.folder.metrics.write_text("".join(lines[: lost - 1]))
    with pytest.raises(InputError, match=f"metrics.jsonl is not whole: the line of step {lost} is missing"):
        resume(run.folder, run.settings)
    run.folder.metrics.write_text("".join([*lines[:1], *lines[2:]]))
    with pytest.raises(InputError, match=r"the line of step 2 is missing, or not in its place"):
        resume(run.folder, run.settings)
    run.folder.metrics.write_text("".join([*lines[: lost - 1], "###\n", *lines[lost:]]))
    with pytest.raises(InputError, match=f"metrics.jsonl: line {lost} is damaged"):
        resume(run.folder, run.settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("step", value) for value in ("1.5", "true", '"1"', "-1", "null", "1e400")),
        *(("train_loss", value) for value in ('"2.3"', "[]", "NaN", "Infinity", "1e400", "9" * 400)),
        *(("test_error", value) for value in ("-0.1", "1.1", "{}", "false")),
        *(("elapsed_s", value) for value in ("null", "-1", "NaN")),
        pytest.param("train_loss", "[" * 100_000, id="deep"),
    ],
)
def test_impossible_numbers_in_metrics_are_damage(tmp_path, name, value):
    values = {"step": "1", "train_loss": "2.3", "test_error": "null", "elapsed_s": "0.1"}
    good, bad = (
        "{" + ", ".join(f'"{key}": {text}' for key, text in line.items()) + "}\n"
        for line in (values, values | {name: value})
    )
    (tmp_path / "metrics.jsonl").write_text(good)
    assert read_metrics(tmp_path / "metrics.jsonl") == [Line(1, 2.3, None, 0.1)]
    (tmp_path / "metrics.jsonl").write_text(good + bad + good)
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("text", ["{", "", "[]", '{"a": 1}', '{"sessions": 3}', "\0"])
def test_a_damaged_environment_is_noticed_before_anything_is_written(tmp_path, text):
    run = begin_short(tmp_path / "run", optimizer="sgd")
    run.folder.environment.write_text(text)
    before = {path: path.read_bytes() for path in run.folder.path.iterdir()}
    with pytest.raises(InputError, match=r"environment\.json is damaged: remove it, and the run goes on"):
        resume(run.folder, changed(run.settings, {"steps": 30}))
    assert {path: path.read_bytes() for path in run.folder.path.iterdir()} == before
    run.folder.environment.unlink()
    assert resume(run.folder, run.settings).training.step == 0


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    folder = begin_short(tmp_path / "run").folder
    with folder.lock(), pytest.raises(InputError, match="another process is training in"), folder.lock():
        pass
    with folder.lock():
        pass


def test_names_of_new_folders_count_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve({"network": "nets/own.toml", "optimizer": "adam"})
    assert str(free_name(settings)) == "runs/digits-own-adam-1"
    (tmp_path / "runs" / "digits-own-adam-1").mkdir(parents=True)
    assert str(free_name(settings)) == "runs/digits-own-adam-2"


def test_a_name_taken_meanwhile_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = begin_short(None).folder.path
    names = iter([taken, tmp_path / "runs" / "next"])
    monkeypatch.setattr("l2lnp.runs.run.free_name", lambda settings: next(names))
    assert begin_short(None).folder == RunFolder(tmp_path / "runs" / "next")
