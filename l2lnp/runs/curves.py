"""``curves.png``: the training loss on a logarithmic axis, and the test error below it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from l2lnp.files import replace_file
from l2lnp.runs.metrics import Line, losses, test_errors

BLUE, ORANGE, GREY = "#1f5fa8", "#c8551b", "#5a5a5a"

_MOST_NUMBERED = 30  # classes; with more of them numbers and names would overlap
_WINDOWS = 25  # the smooth curve averages over this part of the run


def draw_curves(path: Path, lines: Sequence[Line], title: str) -> None:
    """Draw the metrics of a run into the PNG file ``path``."""
    figure = Figure(figsize=(8, 5.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.subplots_adjust(left=0.105, right=0.975, bottom=0.09, top=0.94, hspace=0.09)
    top.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    _draw_loss(top, *losses(lines))
    _draw_error(bottom, *test_errors(lines))
    bottom.set_xlabel("step")
    for axes in (top, bottom):
        _tidy(axes)
    write_figure(path, figure)


def draw_confusion(path: Path, confusion: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw how often each class (row) was taken for each class (column) into the PNG file ``path``."""
    n = len(names)
    side = min(max(4.0, 1.5 + 0.5 * n), 12.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if n <= _MOST_NUMBERED:
        for row, column in np.argwhere(confusion > 0):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(
                column, row, str(confusion[row, column]), ha="center", va="center", color=color, fontsize=9
            )
        is_long = max(map(len, names)) > 2
        axes.set_xticks(range(n), names, rotation=90 if is_long else 0, parse_math=False)
        axes.set_yticks(range(n), names, parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.tick_params(length=0, colors=GREY)
    axes.spines[:].set_visible(False)
    write_figure(path, figure)


def write_figure(path: Path, figure: Figure) -> None:
    """Write ``figure`` to the PNG file ``path``, in one step."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # from the font: names in Chinese show as boxes
        figure.savefig(buffer, format="png", dpi=150)
    replace_file(path, buffer.getvalue())


def _draw_loss(axes: Axes, steps: list[int], values: list[float]) -> None:
    axes.set_ylabel("training loss")
    positive = np.asarray(values) > 0
    if not positive.any():
        return
    x, y = np.asarray(steps)[positive], np.asarray(values)[positive]
    axes.set_yscale("log")
    axes.plot(x, y, color=BLUE, alpha=0.25, linewidth=0.8, label="each mini-batch")
    width = max(1, len(x) // _WINDOWS)
    if width > 1:
        axes.plot(*_smooth(x, y, width), color=BLUE, linewidth=2, label=f"mean of {width}")
        axes.legend(frameon=False, loc="upper right", fontsize=9)


def _smooth(x: np.ndarray, y: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the geometric mean of each ``width`` neighbours, at their middle: the mean on a log axis."""
    kernel = np.full(width, 1 / width)
    return np.convolve(x, kernel, "valid"), np.exp(np.convolve(np.log(y), kernel, "valid"))


def _draw_error(axes: Axes, steps: list[int], values: list[float]) -> None:
    axes.set_ylabel("test error")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    if not values:
        return
    axes.plot(steps, values, color=ORANGE, linewidth=2, marker="o", markersize=4)
    axes.set_ylim(0, 1.25 * max(*values, 0.01))
    axes.annotate(
        f"{100 * values[-1]:.1f} %",
        (steps[-1], values[-1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        color=ORANGE,
        fontweight="bold",
    )


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=GREY, which="both")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.margins(x=0.01)
