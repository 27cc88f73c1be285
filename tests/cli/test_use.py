"""What is done with a trained network: evaluate, predict, export; and gradcheck."""

import numpy as np
import pytest
from PIL import Image

from l2lnp.checking import Check
from l2lnp.cli.evaluate import table

from .command_line import files_in, l2lnp


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from runs.short_runs import begin_short, go

    run = begin_short(tmp_path_factory.mktemp("runs") / "run", optimizer="adam", steps=80)
    go(run)
    return run


def test_evaluate_prints_loss_error_and_confusion(capsys, run, tmp_path):
    ended = l2lnp(capsys, "evaluate", run.folder.path, "--out", tmp_path / "confusion.png")
    assert (ended.code, ended.err) == (0, "")
    test = run.problem.dataset.split("test")
    measured = run.problem.task.measure(run.folder.load_checkpoint().theta, test)
    assert "digits, test split, 360 pictures; after step 80" in ended.out
    assert f"  loss   {measured.loss:.4g}\n" in ended.out
    assert f"  error  {100 * measured.error:.2f} %" in ended.out
    rows = [line.split()[1:] for line in ended.out.splitlines() if line[:1].isdigit()]
    printed = np.array([[0 if cell == "." else int(cell) for cell in row] for row in rows])
    np.testing.assert_array_equal(printed, measured.confusion)
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.format == "PNG"


def test_evaluate_another_split(capsys, run):
    assert (
        "validation split, 143 pictures"
        in l2lnp(capsys, "evaluate", run.folder.path, "--split", "validation").out
    )


def test_long_class_names_stand_beside_the_rows_alone():
    text = table(np.array([[10, 2], [0, 7]]), ["aeroplane", "automobile"])
    assert text == "true           0   1\n0 aeroplane   10   2\n1 automobile   .   7"


def test_predict_names_the_class_and_the_next_best(capsys, run, tmp_path):
    image = run.problem.dataset.split("test").images[0][..., 0]
    Image.fromarray(255 - image).resize((80, 80), Image.Resampling.NEAREST).save(tmp_path / "dark.png")
    Image.fromarray(image).save(tmp_path / "plain.png")
    ended = l2lnp(capsys, "predict", run.folder.path, tmp_path / "plain.png")
    x, _ = run.problem.dataset.split("test").batch(np.arange(1))
    best = run.problem.task.network.predict(run.folder.load_checkpoint().theta, x)[:, 0].argmax()
    first, second = ended.out.splitlines()
    assert first == "pictures made grey and 8 x 8 pixels"
    assert second.startswith(f"{tmp_path / 'plain.png'}: {best}  ({best} ")
    assert second.count("%") == 3
    inverted = l2lnp(capsys, "predict", run.folder.path, tmp_path / "dark.png", "--invert", "--top", "1").out
    assert inverted.splitlines()[0].endswith("pixels, inverted")
    assert f"dark.png: {best}  ({best} " in inverted
    assert inverted.count("%") == 1


def test_export_gives_theta_by_layer_and_name(capsys, run, tmp_path):
    ended = l2lnp(capsys, "export", run.folder.path, "--out", tmp_path / "theta.npz")
    assert ended.code == 0
    assert "1,370 parameters, float32" in ended.out
    with np.load(tmp_path / "theta.npz") as file:
        arrays = dict(file)
    assert list(arrays) == ["0.w", "0.b", "4.w", "4.b"]
    theta = run.folder.load_checkpoint().theta
    np.testing.assert_array_equal(np.concatenate([arrays[name].ravel() for name in arrays]), theta)
    x, _ = run.problem.dataset.split("test").batch(np.arange(5))
    z = run.problem.task.network.predict(theta, x)
    pooled = _small_network_by_hand(arrays, x)
    np.testing.assert_allclose(arrays["4.w"] @ pooled + arrays["4.b"][:, None], z, rtol=1e-4, atol=1e-4)
    assert files_in(tmp_path) == {(tmp_path / "theta.npz").relative_to(tmp_path)}


def _small_network_by_hand(arrays, x):
    """Convolution 3x3 with a border of zeros, relu and max pooling by nested loops."""
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    y = np.zeros((8, 8, 8, x.shape[-1]))
    for o in range(8):
        for r in range(8):
            for c in range(8):
                window = padded[r : r + 3, c : c + 3].reshape(9, -1)
                y[o, r, c] = arrays["0.w"][o] @ window + arrays["0.b"][o]
    return np.maximum(y, 0).reshape(8, 4, 2, 4, 2, -1).max((2, 4)).reshape(128, -1)


def test_gradcheck_prints_a_line_a_check(capsys):
    ended = l2lnp(capsys, "gradcheck", "--layer", "conv")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["layer", "pass", "error", "tolerance", "verdict"]
    assert all(line.startswith("conv ") and line.endswith(" ok") for line in lines[1:-1])
    assert lines[-1] == f"{len(lines) - 2} checks, 0 failed"


def test_gradcheck_fails_with_a_check(capsys, monkeypatch):
    checks = [Check("backward", "own", 1e-3, 1e-6), Check("curvature", "own", float("nan"), 1e-6)]
    monkeypatch.setattr("l2lnp.checking.gradcheck_all", lambda *arguments: iter(checks))
    ended = l2lnp(capsys, "gradcheck")
    assert ended.code == 1
    assert ended.out.count("FAILED") == 2
    assert ended.out.endswith("2 checks, 2 failed\n")
