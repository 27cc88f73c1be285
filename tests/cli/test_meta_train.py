"""``l2lnp meta-train`` as a real process."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from l2lnp.checkpoint import load_checkpoint
from l2lnp.errors import InputError
from l2lnp.meta.folder import MetaFolder
from l2lnp.pretrained import load_learned_optimizer
from l2lnp.runs.folder import RunFolder

TINY = [
    *(
        "--tasks",
        "paper-digits",
        "--validate-every",
        "2",
        "--validation-tasks",
        "1",
        "--validation-steps",
        "5",
    ),
    *("--horizon", "10", "--truncation", "5", "--optimizer-setting", "n_units=[3, 3]"),
]


def l2lnp(*arguments, cwd):
    command = [sys.executable, "-m", "l2lnp", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


def test_the_result_can_train_a_network(tmp_path):
    result = l2lnp("meta-train", *TINY, "--episodes", "2", "--out", "meta", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "episode 2/2  validation loss" in result.stdout
    files = {file.name for file in (tmp_path / "meta").iterdir()}
    assert files == {"config.toml", "progress.h5", "metrics.jsonl", "learned.h5", "curves.png"}
    for learned, out in (("meta/learned.h5", "a"), ("meta", "b")):
        trained = l2lnp(
            "train", "--pretrained", learned, "--frozen", "--steps", "3", "--out", out, cwd=tmp_path
        )
        assert trained.returncode == 0, trained.stderr
    thetas = [load_checkpoint(tmp_path / out / "checkpoint.h5").theta for out in "ab"]
    np.testing.assert_array_equal(*thetas)
    with pytest.raises(InputError, match="is the folder of a meta-training run: go on with it by l2lnp meta"):
        RunFolder(tmp_path / "meta").read_settings()


def test_it_goes_on_from_a_learned_optimizer_and_its_settings(tmp_path):
    before = load_learned_optimizer("slstm-coordinates")
    features = [*before.settings["features"], "log_noise"]
    own = ["per=layer", f"features={json.dumps(features)}"]
    start = ["--pretrained", "slstm-coordinates", "--episodes", "1"]
    start += [word for setting in own for word in ("--optimizer-setting", setting)]
    tiny = ["--tasks", "paper-digits", "--horizon", "10", "--truncation", "5", "--validation-steps", "5"]
    result = l2lnp("meta-train", *start, *tiny, "--validation-tasks", "1", "--out", "meta", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    learned = load_learned_optimizer(str(tmp_path / "meta" / "learned.h5"))
    expected = {**before.settings, "per": "layer", "features": features}
    assert {name: learned.settings[name] for name in expected} == expected
    for layer, kind in (("0", "conv"), ("4", "fully_connected")):
        moved = np.abs(learned.phi[f"{layer}/lstm1/w"] - before.reading(features).phi[f"{kind}/lstm1/w"])
        assert 0 < moved.max() < 0.05  # a few small steps from where it began


def test_it_stops_early_where_validation_finds_nothing_better(tmp_path):
    nothing_is_learned = ["--meta-learning-rate", "1e-30", "--episodes", "50", "--patience", "2"]
    result = l2lnp("meta-train", *TINY, *nothing_is_learned, "--out", "meta", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "episode 6/50  validation loss" in result.stdout
    assert "after episode 2\nstopped early, after episode 6 of 50: " in result.stdout
    before = (tmp_path / "meta" / "progress.h5").read_bytes()
    again = l2lnp("meta-train", "--resume", "meta", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "stopped early, after episode 6 of 50" in again.stdout
    assert (tmp_path / "meta" / "progress.h5").read_bytes() == before


def test_interrupted_it_saves_and_goes_on(tmp_path):
    command = [sys.executable, "-m", "l2lnp", "meta-train", *TINY, "--episodes", "100000", "--out", "meta"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "meta" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: l2lnp meta-train --resume meta" in out
    assert all(
        (tmp_path / "meta" / name).exists()
        for name in re.findall(r"\w+\.\w+", out.partition("written to meta: ")[2].partition("\n")[0])
    )
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["episode"] for line in lines] == list(range(1, len(lines) + 1))


def test_killed_before_the_best_optimizer_was_written_it_is_when_the_run_goes_on(tmp_path):
    assert l2lnp("meta-train", *TINY, "--episodes", "2", "--out", "meta", cwd=tmp_path).returncode == 0
    learned, curves = tmp_path / "meta" / "learned.h5", tmp_path / "meta" / "curves.png"
    whole = load_learned_optimizer(str(learned))
    with MetaFolder(tmp_path / "meta").lock():
        refused = l2lnp("meta-train", "--resume", "meta", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("l2lnp: another process is meta-training in meta:")
    learned.unlink()
    curves.unlink()
    result = l2lnp("meta-train", "--resume", "meta", cwd=tmp_path)
    assert result.returncode == 0
    assert curves.exists()
    again = load_learned_optimizer(str(learned))
    assert again.provenance == whole.provenance
    np.testing.assert_equal(again.phi, whole.phi)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "mixtrue"], "did you mean 'mixture'"),
        (["--tasks", "paper-mnist"], "--data-dir"),
        (["--resume", "nowhere", "--seed", "7"], "takes the settings of the run: leave out --seed"),
        (["--basis", "kronecker", "--optimizer-setting", "basis=coordinates"], "contradict each other"),
        (["--basis", "kronecker", "--curvature", "efkac"], "unknown curvature mode 'efkac'"),
        (["--basis", "kronecker", "--curvature", "exact"], "does not apply to the curvature basis"),
        (["--basis-every", "5", "--optimizer-setting", "basis_every=6"], "contradict each other"),
        (["--tasks", "paper-digits", "--basis-every", "5"], "belongs to the curvature basis"),
        (
            ["--tasks", "paper-digits", "--basis-every", "0", "--basis", "kronecker"],
            "basis_every and basis_max_width must be positive",
        ),
        (["--resume", "nowhere"], "no folder of a meta-training run"),
        (["--tasks", "paper-digits", "--optimizer-setting", "n_unit=3"], "n_unit"),
        (["--horizon", "30"], "must be a multiple"),
        (["--episodes", "0"], "l2lnp: --episodes must be at least 1, not 0"),
        (["--patience", "0"], "l2lnp: --patience must be at least 1 validation, not 0"),
        (["--validation-tasks", "0"], "l2lnp: --validation-tasks must be at least 1, not 0"),
        (["--curvature-every", "3-1"], "l2lnp: --curvature-every must rise from 1 or more, not '3-1'"),
        (["--optimizer-setting", "decay=0.1", "--optimizer-setting", "decay=0.2"], "decay is given twice"),
        (["--optimizer", "lstm", "--curvature", "exact"], "--curvature does not apply to lstm"),
        (["--pretrained", "slstm-coordinate"], "did you mean 'slstm-coordinates'"),
        (["--pretrained", "lstm", "--optimizer", "slstm"], "holds lstm, not slstm"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, tmp_path):
    result = l2lnp("meta-train", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
