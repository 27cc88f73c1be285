"""The pictures of a run: drawn for every kind of metrics, and showing what they should."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from l2lnp.meta.folder import MetaFolder
from l2lnp.runs import curves
from l2lnp.runs.metrics import Line

LINES = [Line(step, 2.0 * 0.9**step, 0.5 if step % 10 == 0 else None, step) for step in range(1, 51)]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        LINES,
        LINES[:1],
        [Line(1, None, None, 0.0), Line(2, float("nan"), 0.0, 1.0)],
        [Line(step, 0.0, 0.0, 1.0) for step in range(1, 9)],
    ],
    ids=["none", "usual", "one", "not finite", "zeros"],
)
def test_curves_are_drawn_for_any_metrics(tmp_path, lines):
    curves.draw_curves(tmp_path / "curves.png", lines, "a run")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 840)
        assert len(picture.convert("L").getcolors()) > 5


def test_the_curves_show_the_metrics(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(curves, "write_figure", lambda path, figure: figures.append(figure))
    curves.draw_curves(tmp_path / "curves.png", LINES, "a run")
    (figure,) = figures
    assert isinstance(figure, Figure)
    loss, error = figure.axes
    assert loss.get_yscale() == "log"
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(x.step, x.train_loss) for x in LINES])
    # a straight line on the logarithmic axis stays where it was when it is smoothed
    middle, mean = loss.lines[1].get_xydata().T
    np.testing.assert_allclose(mean, 2.0 * 0.9**middle)
    np.testing.assert_allclose(error.lines[0].get_xydata(), [(step, 0.5) for step in (10, 20, 30, 40, 50)])


def test_dollars_in_names_are_no_formulas(tmp_path):
    curves.draw_curves(tmp_path / "curves.png", LINES, "a$_$b")
    curves.draw_confusion(tmp_path / "confusion.png", np.eye(2, dtype=int), ["a$_$", "$$"], "a$_$b")
    MetaFolder(tmp_path).draw([{"episode": 1, "mean_loss": 1.0, "validation": None}], "slstm on a$_$b.toml")


def test_the_confusion_matrix_is_drawn_with_its_counts(tmp_path, monkeypatch):
    figures = []
    write = curves.write_figure
    monkeypatch.setattr(
        curves, "write_figure", lambda path, figure: (figures.append(figure), write(path, figure))
    )
    confusion = np.array([[5, 0], [2, 0]])
    curves.draw_confusion(tmp_path / "confusion.png", confusion, ["cat", "dog"], "a split")
    curves.draw_confusion(tmp_path / "names.png", confusion, ["日本", "été"], "names without a picture")
    (axes,) = figures[0].axes
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((0, 0), "5"), ((0, 1), "2")}
    assert (tmp_path / "confusion.png").stat().st_size > 1000
