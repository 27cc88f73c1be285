"""The figures of a comparison: loss over iterations, loss over time, error over iterations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from l2lnp.experiments.comparison import Comparison, Row
from l2lnp.files import replace_file

_LEARNED = ("#1f5fa8", "#3aa0c9", "#6a3d9a", "#12807a", "#8a8a00", "#b0479a")
_HAND_DESIGNED = ("#c8551b", "#e0a030", "#7f7f7f", "#b33a3a", "#a08060", "#5a8a3a", "#404040")


def draw_figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Draw all figures into ``folder``, each as PNG and SVG, and return their files."""
    clock, written = comparison.about["clock"], []
    for stem, x, what, label in (
        ("loss_iterations", "step", "loss", "iteration"),
        ("loss_time", f"{clock}_s", "loss", f"seconds of {clock.replace('cpu', 'CPU')} time"),
        ("error_iterations", "step", "error", "iteration"),
    ):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        axes = figure.subplots()
        rows = comparison.curves if what == "loss" else comparison.errors
        for name, color in _colors(comparison).items():
            _draw_one(
                axes, name, color, [row for row in rows if row["contender"] == name], x, what, comparison
            )
        axes.set_xlabel(label)
        title = comparison.about["title"]
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
        _tidy(axes, what, comparison.about["split"])
        written += _write(folder / stem, figure)
    return written


def _draw_one(
    axes: Axes, name: str, color: str, rows: Sequence[Row], x: str, what: str, comparison: Comparison
) -> None:
    """Draw the mean over seeds, and lowest and highest seed as a band, while all seeds are finite."""
    n_seeds = len(comparison.about["seeds"])
    xs, ys = (np.array([row[key] for row in rows], float).reshape(n_seeds, -1) for key in (x, what))
    n = int(np.argmin([*np.isfinite(ys).all(0), False]))
    xs, ys = xs.mean(0)[:n], ys[:, :n]
    is_reference = name == comparison.about["reference"]
    learned = comparison.about["contenders"][name]["learned"]
    label = name if n == len(rows) // n_seeds else f"{name} (diverged)"
    style = "-" if learned else "--"
    if n == 0:
        axes.plot([], [], style, color=color, label=label)
        return
    axes.plot(xs, ys.mean(0), style, color=color, linewidth=2.2 if is_reference else 1.4, label=label)
    axes.fill_between(xs, ys.min(0), ys.max(0), color=color, alpha=0.12, linewidth=0)


def _colors(comparison: Comparison) -> dict[str, str]:
    """Return a colour for each contender: one family for the learned ones, another for the others."""
    about = comparison.about
    names = sorted(about["contenders"], key=lambda name: name != about["reference"])
    found: dict[str, str] = {}
    for learned, palette in ((True, _LEARNED), (False, _HAND_DESIGNED)):
        group = [name for name in names if about["contenders"][name]["learned"] == learned]
        found.update({name: palette[i % len(palette)] for i, name in enumerate(group)})
    return found


def _tidy(axes: Axes, what: str, split: str) -> None:
    if what == "loss":
        axes.set_yscale("log")
        axes.set_ylabel("training loss")
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"{split} error")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, ncols=2)


def _write(path: Path, figure: Figure) -> list[Path]:
    """Write ``figure`` beside ``path`` as PNG and SVG; the same numbers give the same bytes."""
    written = []
    with mpl.rc_context({"svg.hashsalt": "l2lnp", "svg.fonttype": "none"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
            written.append(path.with_suffix(f".{kind}"))
            replace_file(written[-1], buffer.getvalue())
    return written
