"""``l2lnp train --backend cupy`` and what follows it, over the stand-in: the files of a run on the CPU."""

import json
import sys
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from stand_in.module import make

from l2lnp.pretrained import load_learned_optimizer

from .command_line import SHORT, l2lnp

pytestmark = pytest.mark.usefixtures("cupy", "undrawn")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tensors(run):
    """Return every array in the checkpoint of a run."""
    found = {}
    with h5py.File(run / "checkpoint.h5") as file:
        file.visititems(lambda path, item: found.update({path: item[()]}) if hasattr(item, "shape") else None)
    return found


def train(capsys, out, *options):
    ended = l2lnp(capsys, "train", *SHORT, *options, "--out", out)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


@pytest.mark.parametrize(
    "options",
    [
        ("--pretrained", "random", "--unroll-length", "4"),
        ("--network", "row-lstm", "--optimizer", "lstm", "--basis", "coordinates", "--steps", "4"),
        ("--pretrained", "slstm-coordinates", "--second-derivatives"),
        ("--optimizer", "sou", "--curvature", "monte_carlo"),
        ("--optimizer", "adam"),
        ("--average", "--weight-decay", "0.5", "--curvature-every", "3", "--frozen"),
        ("--pretrained", "slstm-coordinates", "--frozen"),
    ],
)
def test_a_run_has_the_files_of_one_on_the_cpu(capsys, folder, options):
    train(capsys, "host", *options, "--dtype", "float64")
    said = train(capsys, "device", *options, "--dtype", "float64", "--backend", "cupy")
    assert "; cupy, float64" in said
    on_host, on_device = tensors(folder / "host"), tensors(folder / "device")
    assert set(on_host) == set(on_device)
    for path, value in on_host.items():
        if path.endswith(("/lstm", "/chunk")):  # a GPU keeps states in one chunk
            continue
        np.testing.assert_allclose(on_device[path], value, rtol=1e-6, atol=1e-8)
    environment = json.loads((folder / "device" / "environment.json").read_text())["sessions"][0]
    assert (environment["cupy"], environment["device"]) == ("14.2.0", "stand-in")


def test_a_run_goes_on_in_the_same_bytes_and_is_used_without_a_gpu(capsys, folder, monkeypatch):
    options = ("--pretrained", "random", "--backend", "cupy")
    train(capsys, "whole", *options, "--steps", "20")
    train(capsys, "parts", *options)
    assert l2lnp(capsys, "train", "--resume", "parts", "--steps", "20").code == 0
    whole, parts = tensors(folder / "whole"), tensors(folder / "parts")
    assert all(np.array_equal(whole[path], parts[path]) for path in whole)
    monkeypatch.delitem(sys.modules, "cupy")
    Image.new("L", (8, 8), 200).save("picture.png")
    for command in (("evaluate", "parts"), ("predict", "parts", "picture.png"), ("export", "parts")):
        assert l2lnp(capsys, *command).code == 0


def test_gradcheck(capsys):
    ended = l2lnp(capsys, "gradcheck", "--backend", "cupy", "--layer", "conv")
    assert (ended.code, "0 failed" in ended.out) == (0, True)


def test_auto_says_what_it_chose(capsys):
    said = l2lnp(capsys, "train", *SHORT, "--backend", "auto", "--out", "run").out
    assert "backend cupy, chosen by auto: CuPy 14.2.0 sees the GPU stand-in\n" in said


def test_too_little_memory_is_told_with_the_way_out(capsys, cupy, monkeypatch):
    def full(*args, **kwargs):
        raise cupy.cuda.memory.OutOfMemoryError(
            "Out of memory allocating 1,024 bytes (allocated so far: 512 bytes)."
        )

    monkeypatch.setattr("l2lnp.tasks.classification.Classification.evaluate", full)
    ended = l2lnp(capsys, "train", *SHORT, "--backend", "cupy", "--out", "run")
    assert ended.code == 2
    assert ended.err == (
        "l2lnp: not enough GPU memory: out of memory allocating 1,024 bytes (allocated so far: 512 bytes); "
        "this run needs about 2 MB: 1 MB for the parameters, 0 MB for a mini-batch; "
        "lower --batch-size, or what is kept of a learned optimizer's steps (--unroll-length, --truncation), "
        "or use --backend numpy\n"
    )
    assert not (Path("run")).exists()


def test_no_gpu_is_bad_input(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make(n_devices=0))
    ended = l2lnp(capsys, "train", "--backend", "cupy")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "found no GPU" in ended.err


@pytest.mark.slow
def test_meta_train_learns_what_it_learns_on_the_cpu(capsys, folder):
    for backend, basis in product(("numpy", "cupy"), ("coordinates", "kronecker")):
        options = ("--basis", basis, "--horizon", "10", "--truncation", "5", "--imitation", "0.4")
        options += ("--episodes", "3", "--validate-every", "3", "--validation-tasks", "1")
        options += ("--validation-steps", "5", "--backend", backend, "--out", f"{backend}-{basis}")
        ended = l2lnp(capsys, "meta-train", "--tasks", "paper-digits", *options)
        assert (ended.code, ended.err) == (0, "")
    for basis in ("coordinates", "kronecker"):
        on_host, on_device = (load_learned_optimizer(f"{b}-{basis}/learned.h5") for b in ("numpy", "cupy"))
        for path, value in on_host.phi.items():
            np.testing.assert_allclose(on_device.phi[path], value, rtol=0, atol=2e-3)


def test_compare_measures_on_the_device(capsys, folder):
    options = ("--steps", "4", "--seeds", "2", "--optimizers", "sgd", "--tuning-seeds", "1")
    for backend in ("numpy", "cupy"):
        ended = l2lnp(
            capsys,
            "compare",
            *options,
            "--backend",
            backend,
            "--workers",
            "1",
            "--cache",
            "cache",
            "--out",
            backend,
        )
        assert (ended.code, ended.err) == (0, "")
        assert (", backend cupy; 2 seeds" in ended.out) == (backend == "cupy")
    on_host, on_device = (
        np.genfromtxt(folder / b / "curves.csv", delimiter=",", names=True) for b in ("numpy", "cupy")
    )
    np.testing.assert_allclose(on_device["loss"], on_host["loss"], rtol=2e-3)


@pytest.mark.parametrize("pretrained", ["slstm", "slstm-coordinates"])
def test_steps_as_graphs_give_the_same_run_or_say_why_not(capsys, folder, monkeypatch, pretrained):
    options = ("--backend", "cupy", "--log-every", "1")
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")
    train(capsys, "one by one", *options, "--frozen", "--pretrained", pretrained)
    monkeypatch.delenv("L2LNP_CUDA_GRAPH")
    said = train(capsys, "graph", *options, "--frozen", "--pretrained", pretrained)
    assert "no CUDA graph" not in said
    lines = [
        [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("one by one", "graph")
    ]
    for ours, theirs in zip(*lines, strict=True):
        assert (ours["step"], ours["test_error"]) == (theirs["step"], theirs["test_error"])
        np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-4)
    said = train(capsys, "learned", *options, "--joint")
    assert said.count("no CUDA graph, steps are launched kernel by kernel: the optimizer is learned") == 1
