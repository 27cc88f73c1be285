"""``l2lnp train``: what it prints and writes, and that the written settings repeat the run."""

import json
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext

import h5py
import numpy as np
import pytest

from l2lnp.cli import main

from .command_line import SHORT, l2lnp


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def theta(run):
    with h5py.File(run / "checkpoint.h5") as file:
        return np.concatenate([file["theta"][layer][name][()].ravel() for layer in "04" for name in "wb"])


def test_the_first_command_learns_the_digits(capsys, folder):
    ended = l2lnp(capsys, "train", "--steps", "300")
    assert (ended.code, ended.err) == (0, "")
    run = folder / "runs" / "digits-small-slstm-1"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["test_error"] <= 0.05
    assert {path.name for path in run.iterdir()} == {
        *("config.toml", "environment.json", "metrics.jsonl", "checkpoint.h5", "curves.png"),
    }
    assert "written to runs/digits-small-slstm-1:" in ended.out
    assert f"test error     {100 * lines[-1]['test_error']:.2f} %" in ended.out
    assert all(path.name in ended.out for path in run.iterdir())


@pytest.mark.usefixtures("undrawn")
def test_the_length_may_be_given_in_epochs_and_is_written_in_steps(capsys, folder):
    short = ("--optimizer", "sgd", "--log-every", "5", "--eval-every", "50")
    in_epochs = l2lnp(capsys, "train", *short, "--epochs", "1.5", "--batch-size", "100", "--out", "a")
    assert (in_epochs.code, in_epochs.err) == (0, "")
    assert "of 8 x 8 x 1; batch 100, steps 20: 1.55 epochs\n" in in_epochs.out  # 1.5 x 1294 / 100 = 19.4
    in_steps = l2lnp(capsys, "train", *short, "--steps", "20", "--batch-size", "100", "--out", "b")
    assert in_steps.code == 0
    configs = [(folder / run / "config.toml").read_text() for run in "ab"]
    assert configs[0] == configs[1]
    np.testing.assert_array_equal(theta(folder / "a"), theta(folder / "b"))
    again = l2lnp(capsys, "train", "--config", "a/config.toml", "--epochs", "0.1", "--out", "c")
    assert "batch 100, steps 2: " in again.out


@pytest.mark.usefixtures("undrawn")
def test_plain_lines_where_the_output_is_no_terminal(capsys):
    ended = l2lnp(capsys, "train", *SHORT)
    steps = [line for line in ended.out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["5/12", "10/12", "12/12"]
    for word in ("loss", "test error", "steps/s", "left"):
        assert all(word in line for line in steps)
    assert "\r" not in ended.out
    assert "\x1b" not in ended.out


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--optimizer", "momentum", "--learning-rate", "0.05", "--optimizer-setting", "momentum=0.8"),
        ("--second-derivatives", "--unroll-length", "3", "--optimizer-setting", "head=linear"),
        (
            "--pretrained",
            "random",
            "--optimizer-setting",
            'features=["rnnprop"]',
            "--curvature",
            "gauss_newton",
            "--dtype",
            "float64",
        ),
    ],
)
def test_the_config_repeats_the_run(capsys, folder, options):
    assert l2lnp(capsys, "train", *SHORT, *options, "--out", "first").code == 0
    assert l2lnp(capsys, "train", "--config", "first/config.toml", "--out", "second").code == 0
    assert (folder / "first/config.toml").read_text() == (folder / "second/config.toml").read_text()
    np.testing.assert_array_equal(theta(folder / "first"), theta(folder / "second"))
    other = l2lnp(capsys, "train", "--config", "first/config.toml", "--seed", "1", "--out", "third")
    assert other.code == 0
    assert not np.array_equal(theta(folder / "first"), theta(folder / "third"))


@pytest.mark.usefixtures("undrawn")
def test_options_reach_the_optimizer(capsys, folder):
    options = ("--optimizer", "momentum", "--learning-rate", "1e-3", "--optimizer-setting", "momentum=0.8")
    l2lnp(capsys, "train", *SHORT, *options, "--out", "run")
    text = (folder / "run" / "config.toml").read_text()
    assert "learning_rate = 0.001\n" in text
    own = 'schedule = "constant"\nweight_decay = 0.0\nmomentum = 0.8\nbasis = "coordinates"\n'
    assert f"[optimizer_settings]\n{own}" in text
    with h5py.File(folder / "run" / "checkpoint.h5") as file:
        assert file["phi"].attrs["momentum"] == 0.8
        assert file["phi/learning_rate"][()] == np.float32(1e-3)


@pytest.mark.usefixtures("undrawn")
def test_options_about_the_basis_are_settings_of_the_optimizer(capsys, folder):
    options = ("--optimizer", "soap", "--basis-every", "3", "--basis-max-width", "20")
    l2lnp(capsys, "train", *SHORT, *options, "--out", "run")
    text = (folder / "run" / "config.toml").read_text()
    assert 'basis = "kronecker"\nbasis_every = 3\nbasis_max_width = 20\n' in text


@pytest.mark.usefixtures("undrawn")
def test_auto_says_which_backend_it_chose(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "backend numpy, chosen by auto" in l2lnp(capsys, "train", *SHORT, "--backend", "auto").out


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_says_so_and_can_be_given_more_steps(capsys, folder):
    l2lnp(capsys, "train", *SHORT, "--pretrained", "random", "--out", "run")
    (folder / "run" / "curves.png").write_bytes(b"of an earlier step")  # a kill came before it was drawn
    before = (folder / "run" / "checkpoint.h5").read_bytes()
    ended = l2lnp(capsys, "train", "--resume", "run")
    assert ended.code == 0
    assert "run is finished: all 12 steps are made" in ended.out
    assert (folder / "run" / "checkpoint.h5").read_bytes() == before
    assert (folder / "run" / "curves.png").read_bytes() == b""
    ended = l2lnp(capsys, "train", "--resume", "run", "--steps", "20", "--threads", "2")
    assert re.search(r"going on from step (8|9|10|11)\n", ended.out)
    l2lnp(capsys, "train", *SHORT, "--pretrained", "random", "--steps", "20", "--out", "whole")
    np.testing.assert_array_equal(theta(folder / "run"), theta(folder / "whole"))


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_run_is_gone_on_with_by_the_command_shown_but_not_ended_where_it_stands(
    capsys, folder, monkeypatch
):
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr("l2lnp.cli.train.caught_interrupts", lambda: nullcontext(lambda: next(asked)))
        ended = l2lnp(capsys, "train", *SHORT, "--optimizer", "sgd", "--out", "o ut")
    assert ended.code == 130
    step = re.search(r"interrupted after step (\d+) and saved", ended.out)[1]
    command = shlex.split(re.search(r"go on with: l2lnp (.*)", ended.out)[1])
    refused = l2lnp(capsys, *command, "--steps", step)
    assert refused.code == 2
    assert f"--steps {step} is not more than the {step} steps made" in refused.err
    assert "going on from step" in l2lnp(capsys, *command).out


@pytest.mark.usefixtures("undrawn")
def test_own_network_and_pretrained_checkpoint(capsys, folder):
    (folder / "net.toml").write_text(
        '[[layer]]\nkind = "rows"\n[[layer]]\nkind = "lstm"\nn_units = 4\n'
        '[[layer]]\nkind = "fully_connected"\nn_out = "classes"\n'
    )
    options = ("--network", "net.toml", "--optimizer-setting", "per=kind")
    assert l2lnp(capsys, "train", *SHORT, *options, "--out", "one").code == 0
    ended = l2lnp(
        capsys, "train", *SHORT, "--network", "row-lstm", "--frozen", "--pretrained", "one/checkpoint.h5"
    )
    assert ended.code == 0
    assert f"optimizer slstm ({folder / 'one' / 'checkpoint.h5'}), frozen" in ended.out
    (folder / "net.toml").unlink()  # the run does not need it any more
    assert l2lnp(capsys, "evaluate", "one").code == 0
    assert l2lnp(capsys, "train", "--resume", "one", "--steps", "15").code == 0


@pytest.mark.usefixtures("undrawn")
def test_mnist_is_learned_from_its_official_files(capsys, folder, data_dir):
    options = ("--steps", "150", "--batch-size", "64", "--eval-every", "150", "--out", "run")
    ended = l2lnp(capsys, "train", "--data", "mnist", "--data-dir", data_dir, *options)
    assert ended.code == 0
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([line["train_loss"] for line in lines[-20:]]) < 1.0  # 0.42 and 0.44 with two seeds
    assert lines[-1]["test_error"] < 0.3


@pytest.mark.usefixtures("undrawn")
def test_settings_and_networks_may_begin_with_a_byte_order_mark(capsys, folder):
    mark = b"\xef\xbb\xbf"
    head = '[[layer]]\nkind = "flatten"\n[[layer]]\nkind = "fully_connected"\nn_out = "classes"\n'
    (folder / "net.toml").write_bytes(mark + head.encode())
    (folder / "given.toml").write_bytes(mark + b'network = "net.toml"\noptimizer = "sgd"\nsteps = 2\n')
    ended = l2lnp(capsys, "train", "--config", "given.toml")
    assert (ended.code, ended.err) == (0, "")
    assert "network net: 650 parameters; optimizer sgd" in ended.out


@pytest.mark.usefixtures("undrawn")
def test_a_closed_output(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as end:
        main(["train", *SHORT, "--out", "run"])
    sys.stdout.close()
    assert end.value.code == 0
    assert (folder / "run" / "checkpoint.h5").exists()


def test_an_output_that_is_full_or_gone(folder):
    command = [sys.executable, "-m", "l2lnp", "gradcheck", "--layer", "relu"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "l2lnp: cannot write the output: No space left on device\n"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1
