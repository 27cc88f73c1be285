"""Real processes, stopped by Ctrl-C, SIGTERM and kill -9: gone on with, they end in the same bytes."""

import json
import random
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from .command_line import l2lnp, start

pytestmark = pytest.mark.usefixtures("undrawn")

OPTIONS = ("--steps", "80", "--batch-size", "32", "--eval-every", "40", "--threads", "2")
OFTEN = ("--checkpoint-every", "0.03")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that was never interrupted, in a process of its own like the others."""
    path = tmp_path_factory.mktemp("whole") / "run"
    process = start("train", *OPTIONS, "--out", path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return path


def lines(run):
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def contents(run):
    """All arrays in the checkpoint, beside phi's and the files' attributes."""
    found = {}
    with h5py.File(run / "checkpoint.h5") as file:
        file.visititems(
            lambda key, item: found.update({key: item[()]} if isinstance(item, h5py.Dataset) else {})
        )
    return {key: np.asarray(value).tobytes() for key, value in found.items()}


def assert_same_end(run, whole):
    assert contents(run) == contents(whole)
    timeless = [[{**line, "elapsed_s": None} for line in lines(r)] for r in (run, whole)]
    assert timeless[0] == timeless[1]


def wait_for_lines(process, run, n):
    """Wait until the run has logged ``n`` steps."""
    deadline = time.monotonic() + 60
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= n):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_saves_and_goes_on_exactly(tmp_path, whole, capsys, number):
    run = tmp_path / "run"
    process = start("train", *OPTIONS, "--out", run)
    wait_for_lines(process, run, 33)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err == ""
    n_logged = len(lines(run))
    assert 33 <= n_logged < 80
    assert f"interrupted after step {n_logged} and saved" in out
    assert f"l2lnp train --resume {run}" in out
    with h5py.File(run / "checkpoint.h5") as file:
        assert file.attrs["step"] == n_logged
    assert (run / "curves.png").exists()
    ended = l2lnp(capsys, "train", "--resume", run)
    assert ended.code == 0
    assert_same_end(run, whole)


def test_a_run_killed_again_and_again_goes_on_exactly(tmp_path, whole, capsys):
    run, rng = tmp_path / "run", random.Random(0)
    arguments = ("train", *OPTIONS, *OFTEN, "--out", run)
    for n in (1, 30, 60):
        process = start(*arguments)
        wait_for_lines(process, run, n)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
        arguments = ("train", "--resume", run)
    assert l2lnp(capsys, *arguments).code == 0
    assert_same_end(run, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


DYING = """
import os, signal
from l2lnp.cli import main
original, calls = os.{place}, iter(range(1, 10**6))

def dying(*arguments, **options):
    if next(calls) == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

os.{place} = dying
main({arguments})
"""


@pytest.mark.parametrize(
    ("place", "nth"),
    [("rename", 1), ("replace", 2), ("replace", 6), ("fsync", 3), ("fsync", 14), ("fsync", 15)],
)
def test_a_kill_in_the_middle_of_writing_loses_nothing(tmp_path, whole, capsys, place, nth):
    run = tmp_path / "run"
    arguments = ["train", *OPTIONS, "--checkpoint-every", "1e-9", "--out", str(run)]
    code = DYING.format(place=place, nth=nth, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert run.exists() == (place != "rename" and nth > 4)  # before that the folder is still being made
    arguments = ["--resume", run] if run.exists() else [*OPTIONS, "--out", run]
    assert l2lnp(capsys, "train", *arguments).code == 0
    assert_same_end(run, whole)


def test_ctrl_c_before_the_first_step_leaves_nothing_or_a_run_to_go_on_with(tmp_path, whole, capsys):
    run = tmp_path / "run"
    process = start("train", *OPTIONS, "--out", run)
    while not list(tmp_path.iterdir()):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert l2lnp(capsys, "train", "--resume", run).code == 0
    assert_same_end(run, whole)


def test_a_second_process_in_the_same_folder_is_refused(tmp_path, capsys):
    run = tmp_path / "run"
    process = start("train", *OPTIONS, "--steps", "5000", "--out", run)
    wait_for_lines(process, run, 2)
    ended = l2lnp(capsys, "train", "--resume", run)
    process.kill()
    process.communicate(timeout=30)
    assert ended.code == 2
    assert "another process is training in" in ended.err
