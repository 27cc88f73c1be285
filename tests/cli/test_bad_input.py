"""Bad input: one sentence on the error stream, exit code 2, nothing written."""

import errno
import os
import shutil
import sys

import h5py
import numpy as np
import pytest

from l2lnp.runs import training

from .command_line import SHORT, files_in, l2lnp

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to be in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run, to be copied."""
    from runs.short_runs import begin_short, go

    run = begin_short(tmp_path_factory.mktemp("runs") / "run", steps=6)
    go(run)
    return run.folder.path


def refused(capsys, *arguments):
    ended = l2lnp(capsys, *arguments)
    assert ended.code == 2, ended
    assert ended.err.startswith("l2lnp: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    return ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train'"),
        (["train", "--stesp", "3"], "No such option '--stesp'"),
        (
            ["train", "--lr", "0.1"],
            "No such option '--lr': it is called --learning-rate here; see",
        ),
        (["gradcheck", "--lr", "0.1"], "No such option '--lr'. (Did you mean one of: '--help', '--layer'?)"),
        (["train", "--steps", "many"], "'many' is not a valid integer"),
        (["train", "--steps", "-3"], "--steps must be positive, not -3"),
        (["train", "--epochs", "2", "--steps", "3"], "--epochs and --steps both say how long the run is"),
        (["train", "--epochs", "0"], "--epochs must be more than 0, and no more than"),
        (["train", "--epochs", "nan"], "--epochs must be more than 0, and no more than"),
        (["train", "--resume", "run", "--epochs", "2"], "leave out --out, --config and --epochs"),
        (["train", "surplus"], "Got unexpected extra argument (surplus)"),
        (
            ["train", "--weight-decay", "0.0", "--optimizer-setting", "weight_decay=0.5"],
            "--weight-decay 0.0 and --optimizer-setting weight_decay=0.5 contradict each other",
        ),
        (["train", "--weight-decay", "nan"], "weight_decay must be"),
        (["train", "--network", "net\udcff.toml"], "'net\\udcff.toml' is not in UTF-8: rename the file"),
        (["train", "--data", "digit"], "unknown data set 'digit': did you mean 'digits'"),
        (["train", "--data", "mnist"], "--data-dir"),
        (["train", "--data", "none.h5"], "none.h5"),
        (["train", "--data-dir", "."], "--data-dir does not apply to digits: name the data set with --data"),
        (["bench", "--jobs", "nosuch"], "unknown job 'nosuch'; known: sweep-small, "),
        (["train", "--network", "smal"], "unknown network 'smal': did you mean 'small'"),
        (["train", "--network", "none.toml"], "cannot read"),
        (["train", "--optimizer", "slsmt"], "unknown optimizer 'slsmt': did you mean 'slstm'"),
        (["train", "--curvature", "hescale"], "unknown curvature mode 'hescale': did you mean 'hesscale'"),
        (["train", "--curvature", "exact", "--network", "row-lstm"], "exact"),
        (["train", "--curvature", "exact", "--second-derivatives"], "supported for hesscale, exact_head"),
        (["train", "--learning-rate", "0.1"], "--learning-rate does not apply to slstm"),
        (["train", "--optimizer", "adam", "--frozen"], "--joint does not apply to adam"),
        (["train", "--frozen", "--pretrained", "random"], "--frozen needs a pretrained"),
        (["train", "--batch-size", "1295"], "a batch of 1295 cannot be drawn from the 1294 train samples"),
        (["train", "--crop-padding", "8"], "--crop-padding must be less than the sides of the pictures"),
        (["train", "--crop-padding", "99999999999"], "of digits, 8 x 8, not 99999999999"),
        (["train", "--optimizer", "sgd", "--learning-rate", "1e300"], "no number that float32 holds"),
        (["train", "--optimizer", "sgd", "--learning-rate", "1e-300"], "choose from 1.18e-38 to 3.4e+38"),
        (["train", "--joint", "--meta-learning-rate", "1e39"], "--meta-learning-rate 1e+39 is no number"),
        (["train", "--seed", "9" * 26], "--seed must be at most 9223372036854775807"),
        (["train", "--dtype", "float16"], "unknown dtype 'float16'"),
        (["train", "--backend", "cuda"], "unknown backend 'cuda'"),
        (["train", "--pretrained", "none.h5"], "cannot read none.h5: no such file"),
        (["train", "--config", "none.toml"], "cannot read none.toml: no such file"),
        (["train", "--optimizer-setting", "head"], "--optimizer-setting must be NAME=VALUE, not 'head'"),
        (
            ["train", "--optimizer-setting", "haed=linear"],
            "unknown setting of slstm 'haed': did you mean 'head'",
        ),
        (["train", "--optimizer-setting", "head=round"], "unknown head 'round'"),
        (["train", "--resume", "none"], "there is no run folder none"),
        (["train", "--resume", "none", "--out", "there"], "leave out --out"),
        (["evaluate", "none"], "there is no run folder none"),
        (["evaluate", "."], ". is no run folder: it has no config.toml"),
        (["predict", "none"], "Missing argument 'IMAGE...'"),
        (["predict", "none", "x.png"], "there is no run folder none"),
        (["export", "none"], "there is no run folder none"),
        (["gradcheck", "--layer", "conf"], "unknown layer 'conf': did you mean 'conv'"),
        (["gradcheck", "--dtype", "float16"], "unknown dtype 'float16'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_one_sentence_and_nothing_written(capsys, folder, arguments, message):
    assert message in refused(capsys, *arguments)
    assert not files_in(folder)


def test_a_network_that_does_not_fit_the_data(capsys, folder):
    (folder / "net.toml").write_text('[[layer]]\nkind = "conv"\nn_out = 4\nsize = 9\n')
    message = refused(capsys, "train", "--network", "net.toml")
    assert "net.toml, layer 1 (conv)" in message
    assert "9 x 9" in message
    assert "8 x 8" in message
    assert files_in(folder) == {(folder / "net.toml").relative_to(folder)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "pictures.h5"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "pictures.h5"),
        (lambda path: _edit(path, lambda file: file.attrs.__setitem__("mean", [np.nan])), "mean"),
        (lambda path: _edit(path, _nan_images), "images"),
        (lambda path: _edit(path, lambda file: file["train/labels"].__setitem__(0, 12)), "pictures.h5"),
    ],
    ids=["truncated", "no HDF5", "NaN in the mean", "NaN in the pictures", "a label too large"],
)
def test_damaged_data(capsys, folder, tmp_path, damage, message):
    from l2lnp import data

    path = tmp_path / "pictures.h5"
    shutil.copy(os.path.join(os.path.dirname(data.__file__), "digits.h5"), path)
    damage(path)
    assert message in refused(capsys, "train", "--data", path)
    assert not files_in(folder)


def _edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def _nan_images(file):
    images = file["train/images"][...].astype(np.float32)
    images[3, 2, 1] = np.nan
    del file["train/images"]
    file["train/images"] = images


def test_numbers_that_are_not_finite_at_the_first_batch(capsys, folder, monkeypatch):
    from l2lnp.data.dataset import Normalisation

    normalise = Normalisation.__call__
    monkeypatch.setattr(Normalisation, "__call__", lambda *a: normalise(*a) * np.float32(np.nan))
    assert "the loss of the first mini-batch is not finite" in refused(capsys, "train")
    assert not files_in(folder)


def test_cupy_where_there_is_none(capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    message = refused(capsys, "train", "--backend", "cupy")
    assert "needs CuPy, which is not installed" in message
    assert "--backend numpy" in message
    assert not files_in(folder)


@pytest.mark.parametrize("existing", ["folder", "file"])
def test_an_existing_folder_is_left_alone(capsys, folder, existing):
    (folder / "out").mkdir() if existing == "folder" else (folder / "out").write_text("mine")
    before = files_in(folder)
    assert "out exists already: choose another --out" in refused(capsys, "train", "--out", "out")
    assert files_in(folder) == before


def test_a_name_with_a_space_is_quoted_where_it_is_to_be_typed(capsys, folder):
    (folder / "o ut").mkdir()
    assert "go on with it by --resume 'o ut'\n" in refused(capsys, "train", "--out", "o ut")


def test_a_place_that_cannot_be_written(capsys, folder):
    (folder / "file").write_text("mine")
    assert "cannot make the run folder file/sub/out" in refused(capsys, "train", "--out", "file/sub/out")
    assert files_in(folder) == {(folder / "file").relative_to(folder)}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_at_the_start(capsys, folder, monkeypatch, code):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    message = refused(capsys, "train", "--out", "new/out")
    assert "cannot write new/out/config.toml" in message
    assert os.strerror(code).lower() in message.lower()
    assert not files_in(folder)


def test_a_disk_that_fills_up_leaves_a_run_that_can_go_on(capsys, folder, monkeypatch):
    whole = l2lnp(capsys, "train", *SHORT, "--out", "whole")
    assert whole.code == 0

    append = training.append_line

    def full_at_step_7(path, line):
        if line.step == 7:
            from l2lnp.files import cannot

            raise cannot("write", path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        append(path, line)

    monkeypatch.setattr(training, "append_line", full_at_step_7)
    message = refused(capsys, "train", *SHORT, "--out", "out", "--checkpoint-every", "1e-6")
    assert "cannot write out/metrics.jsonl: no space left on device" in message
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert l2lnp(capsys, "train", "--resume", "out").code == 0
    for name in ("whole", "out"):
        assert l2lnp(capsys, "export", name, "--out", f"{name}.npz").code == 0
    assert (folder / "whole.npz").read_bytes() == (folder / "out.npz").read_bytes()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _of_another_network(path):
    from runs.short_runs import begin_short

    other = begin_short(path.parents[2] / "other", network="big", steps=6)
    shutil.copy(other.folder.checkpoint, path)


@pytest.mark.parametrize("command", ["train --resume", "evaluate", "export"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "cannot read run/checkpoint.h5: no such file"),
        (_cut, "run/checkpoint.h5 is damaged or cut short"),
        (_flip, "run/checkpoint.h5 is damaged or cut short"),
        (lambda path: path.write_bytes(b"\x89HDF"), "run/checkpoint.h5 is no checkpoint"),
    ],
    ids=["missing", "truncated", "changed", "no HDF5"],
)
def test_damaged_checkpoints(capsys, folder, finished_run, command, damage, message):
    shutil.copytree(finished_run, folder / "run")
    damage(folder / "run" / "checkpoint.h5")
    before = {path: (folder / path).read_bytes() for path in files_in(folder) if (folder / path).is_file()}
    assert message in refused(capsys, *command.split(), "run")
    assert before == {path: (folder / path).read_bytes() for path in before}
    assert files_in(folder) == {*before, (folder / "run").relative_to(folder)}


@pytest.mark.parametrize("command", ["train --resume", "evaluate"])
def test_a_checkpoint_of_another_network(capsys, folder, finished_run, command):
    shutil.copytree(finished_run, folder / "run")
    _of_another_network(folder / "run" / "checkpoint.h5")
    message = refused(capsys, *command.split(), "run")
    assert "run/checkpoint.h5 is of another run than config.toml: its network is big, not small" in message


def test_changed_settings_of_a_run_that_goes_on(capsys, folder, finished_run):
    shutil.copytree(finished_run, folder / "run")
    message = refused(capsys, "train", "--resume", "run", "--seed", "3")
    assert "--seed 3 cannot be given to a run that goes on with 0: only --steps and --threads can" in message
    config = folder / "run" / "config.toml"
    config.write_text(config.read_text().replace("batch_size = 32", "batch_size = 16"))
    assert "its batch_size is 32, not 16" in refused(capsys, "train", "--resume", "run", "--steps", "9")


@pytest.mark.parametrize(
    "command", ["train --pretrained", "meta-train --tasks paper-digits --pretrained", "compare --learned"]
)
def test_a_run_whose_optimizer_learns_nothing_is_no_pretrained_one(capsys, folder, tmp_path, command):
    from runs.short_runs import begin_short

    begin_short(tmp_path / "run", optimizer="soap")
    file = ("x=" if "compare" in command else "") + str(tmp_path / "run" / "checkpoint.h5")
    assert "holds soap, which learns nothing" in refused(capsys, *command.split(), file)
    assert not files_in(folder)


def test_files_of_other_commands_are_not_overwritten(capsys, folder, finished_run):
    (folder / "mine").write_text("mine")
    assert "mine exists already" in refused(capsys, "export", finished_run, "--out", "mine")
    assert "mine exists already" in refused(capsys, "evaluate", finished_run, "--out", "mine")
    assert "unknown split 'tset': did you mean 'test'" in refused(
        capsys, "evaluate", finished_run, "--split", "tset"
    )
    assert "mine: it is damaged, or no picture" in refused(capsys, "predict", finished_run, "mine")
    assert (folder / "mine").read_text() == "mine"


def test_a_failure_that_is_no_bad_input_has_exit_code_1(capsys, folder, monkeypatch):
    from l2lnp.tasks.classification import Classification

    evaluate = Classification.evaluate

    def never_finite(task, theta, batch, wants_h):
        found = evaluate(task, theta, batch, wants_h)
        return found._replace(loss=float("nan")) if batch.step else found

    monkeypatch.setattr(Classification, "evaluate", never_finite)
    ended = l2lnp(capsys, "train", "--pretrained", "random", "--steps", "40", "--out", "out")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "10 restarts did not help" in ended.err
    assert (folder / "out" / "curves.png").exists()
