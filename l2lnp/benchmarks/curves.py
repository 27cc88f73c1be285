"""Cost as curves: time and memory against coordinates, batch size, unroll length; log-log, slopes stated."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2lnp.benchmarks.worker import ask
from l2lnp.files import replace_file
from l2lnp.runs.curves import BLUE, ORANGE, write_figure

COLUMNS = ("axis", "curve", "threads", "value", "median_s", "lower_s", "upper_s", "cpu_s", "n_calls", "added")
_STYLES = ((BLUE, "o"), (ORANGE, "s"))


class Axis(NamedTuple):
    """What is varied, and the curves (`l2lnp.benchmarks.measuring.CURVES`) that are drawn over it."""

    name: str
    values: tuple[int, ...]
    curves: tuple[str, ...]


AXES = (
    Axis("coordinates", (10**3, 10**4, 10**5, 10**6, 10**7), ("LSTM step",)),
    Axis("batch size", (1, 4, 16, 64, 256, 1024), ("g and h, SMALL", "g and h, BIG")),
    Axis("unroll length", (1, 2, 5, 10, 20, 50, 100, 200), ("first-order", "exact")),
)


def measure_curves(
    folder: Path,
    threads: Sequence[int],
    repetitions: int,
    say: Callable[[str], None],
    axes: Sequence[Axis] = AXES,
) -> None:
    """Measure all points, each in a process of its own; write ``curves.csv`` and a PNG for each axis."""
    points: list[dict[str, Any]] = []
    for axis in axes:
        for curve in axis.curves:
            for n in threads:
                say(f"{curve} over {axis.name}, threads {n}")
                for value in axis.values:
                    point = ask("measure_point", n, curve=curve, value=value, repetitions=repetitions)
                    points.append({"axis": axis.name, "curve": curve, "threads": n, "value": value, **point})
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "curves.csv", points)
    for axis in axes:
        draw(folder / f"{axis.name.replace(' ', '_')}.png", axis, points)


def draw(path: Path, axis: Axis, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw time and memory over one axis."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_quantity(left, axis, points, "median_s", 1.0, "seconds")
    _draw_quantity(right, axis, points, "added", 1e-6, "memory added, MB")
    write_figure(path, figure)


def _draw_quantity(
    axes: Axes, axis: Axis, points: Sequence[Mapping[str, Any]], quantity: str, unit: float, label: str
) -> None:
    axes.set(xscale="log", yscale="log", xlabel=axis.name, ylabel=label)
    for curve, (color, marker) in zip(axis.curves, _STYLES, strict=False):
        for threads in sorted({p["threads"] for p in points}):
            mine = [p for p in points if (p["axis"], p["curve"], p["threads"]) == (axis.name, curve, threads)]
            x = np.array([p["value"] for p in mine], float)
            y = unit * np.array([p[quantity] for p in mine], float)
            shown = y > 0
            axes.plot(
                *(x[shown], y[shown]),
                color=color,
                marker=marker,
                markersize=4,
                linestyle="-" if threads == 1 else "--",
                label=f"{curve}, {threads:g} thr., slope {slope(x, y):.2f}",
            )
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the exponent a of y ~ x^a in the upper half of the points, where constant costs are small."""
    upper = slice(len(x) // 2, None)
    x, y = x[upper], y[upper]
    return float(np.polyfit(np.log(x[y > 0]), np.log(y[y > 0]), 1)[0]) if (y > 0).sum() > 1 else float("nan")


def _write_csv(path: Path, points: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    replace_file(path, text.getvalue().encode())
