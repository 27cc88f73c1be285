"""The page of a comparison, in Markdown: settings, tables, paired tests, figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np

from l2lnp.benchmarks.report import MOST_DISTURBED
from l2lnp.experiments.comparison import LAST_STEPS, Comparison
from l2lnp.experiments.statistics import Paired, best_baseline, column, mean_and_deviation, others, paired


def page(comparison: Comparison) -> str:
    """Return the whole page."""
    about = comparison.about
    clock = about["clock"]
    title = " ".join(about["title"].split())  # a heading is one line
    parts = [f"# {title}", f"```sh\n{about['command']}\n```", _settings(about)]
    parts += ["## Mean training loss over the first n steps", _mean_losses(comparison), _tuned_for(about)]
    parts += _worth_of_h(comparison)
    parts += [f"## At the end ({about['horizons'][-1]:,} steps)", _end(comparison)]
    if others(comparison):
        parts += [f"## {about['reference']} against each, seed by seed", _tests(comparison), _TEST_NOTE]
    parts += [f"## Time to reach a loss ({_CLOCK[clock]})", _reached(comparison, clock), _REACHED_NOTE]
    parts += [_disturbance(comparison)]
    parts += ["## Figures", _FIGURES, "## Contenders", _contenders(about)]
    return "\n\n".join(part for part in parts if part) + "\n"


_CLOCK = {"wall": "wall time", "cpu": "CPU time of the one process"}
_TEST_NOTE = (
    "Ratio: the reference's mean over the contender's, so less than 1 is for the reference. Difference: "
    "contender minus reference, with the standard error of its mean. p: paired t test, and Wilcoxon's signed "
    "rank test; two-sided, not corrected for their number."
)
_REACHED_NOTE = (
    f"The first step at which the mean of {LAST_STEPS} losses was at most that: median over seeds of its "
    "number and of the time up to it. In brackets how many seeds got there, where not all did. Hand-designed "
    "optimizers are those tuned for the whole length."
)
_FIGURES = (
    "\n\n".join(
        f"![{text}]({stem}.png)"
        for stem, text in (
            ("loss_iterations", "Training loss over iterations"),
            ("loss_time", "Training loss over time"),
            ("error_iterations", "Error over iterations"),
        )
    )
    + "\n\nLines are means over seeds, bands go from the lowest to the highest seed."
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _settings(about: dict[str, Any]) -> str:
    seeds = about["seeds"]
    tuning = ", ".join(map(str, about["tuning_seeds"]))
    tuned = (
        f" Hand-designed optimizers were tuned on the seeds {tuning}, which are not reported."
        if tuning
        else ""
    )
    backend = about.get("backend", "numpy")  # which pages made before it was asked for do not say
    where = "" if backend == "numpy" else f", backend {backend}"
    return (
        f"Data {about['data']}, network {about['network']}, batch {about['batch_size']}{where}; "
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), for each of them the same initial weights and "
        f"mini-batches for every contender. Values are means ± deviations over seeds.{tuned}"
    )


def _mean_losses(comparison: Comparison) -> str:
    about = comparison.about
    horizons, contenders = about["horizons"], about["contenders"]
    means = {(name, n): column(comparison, name, f"mean_loss_{n}") for name in contenders for n in horizons}
    best = {n: best_baseline(about, n) for n in horizons}
    rows = [
        [name, *(_bold(_spread(means[name, n]), best[n] == name) for n in horizons)] for name in contenders
    ]
    baselines = [name for name, contender in contenders.items() if "tuned" in contender]
    for name, contender in contenders.items():
        if contender["learned"] and baselines:
            lowest = {n: _lowest({other: means[other, n] for other in baselines}) for n in horizons}
            for what, chosen in (("best baseline", best), ("lowest here", lowest)):
                ratios = [_ratio(means[name, n], means[chosen[n], n]) for n in horizons]
                rows.append([f"{name} / {what}", *ratios])
    return table(["", *(f"n = {n:,}" for n in horizons)], rows)


def _lowest(values: Mapping[str, np.ndarray]) -> str:
    return min(values, key=lambda name: float(values[name].mean()))


def _ratio(values: np.ndarray, others: np.ndarray) -> str:
    (mean, _), (other, _) = mean_and_deviation(values), mean_and_deviation(others)
    return f"{mean / other:.3f}" if isfinite(mean) and isfinite(other) else "-"


def _tuned_for(about: dict[str, Any]) -> str:
    if not any("tuned" in contender for contender in about["contenders"].values()):
        return ""
    rows = []
    for name, contender in about["contenders"].items():
        if "tuned" in contender:
            cells = []
            for n in about["horizons"]:
                found = dict(contender["tuned"][str(n)])
                score = f"{found.pop('loss_on_tuning_seeds'):.4g}"
                seeds = found.pop("tuning_seeds", about["tuning_seeds"])
                if seeds != about["tuning_seeds"]:  # tuned before, for another comparison
                    score += f" on {', '.join(map(str, seeds))}"
                cells.append(f"{', '.join(f'{value:.3g}' for value in found.values())} ({score})")
            rows.append([name, *cells])
    return (
        "Hand-designed optimizers ran once for each n, tuned for it. Bold: the best baseline, which is the "
        "best of them on the tuning seeds; *lowest here*: the one that turned out lowest on the seeds above. "
        "Learning rates (for sou: and epsilon), and mean losses on the tuning seeds:\n\n"
        + table(["", *(f"n = {n:,}" for n in about["horizons"])], rows)
    )


def _worth_of_h(comparison: Comparison) -> list[str]:
    """Return a section on contenders that differ from the reference in h alone; nothing if there are none."""
    about = comparison.about
    horizons, reference = about["horizons"], about["reference"]
    changed = {
        name: contender["h"]
        for name, contender in about["contenders"].items()
        if contender["h"] != "as it is"
    }
    if not changed:
        return []
    rows = []
    for name, change in changed.items():
        cells = []
        for n in horizons:
            own, other = (column(comparison, who, f"mean_loss_{n}") for who in (reference, name))
            test = paired(own, other)
            share, error = 100 / own.mean() * np.array([test.difference, test.standard_error])
            cells.append("diverged" if isnan(share) else f"{share:+.1f} ± {error:.1f} %")
        rows.append([f"h {change}", *cells])
    note = (
        f"How much higher the mean loss is than that of {reference} when its h is taken away (zero) or given "
        "to other coordinates of the same tensor (shuffled); mean over seeds ± standard error."
    )
    return ["## What h is worth", note, table(["", *(f"n = {n:,}" for n in horizons)], rows)]


def _end(comparison: Comparison) -> str:
    steps, rows = comparison.about["horizons"][-1], []
    for name in comparison.about["contenders"]:
        loss, errors, wall, cpu, restarts = (
            column(comparison, name, measure)
            for measure in ("final_loss", "final_error", "wall_s", "cpu_s", "restarts")
        )
        diverged = int((restarts > 0).sum())
        rows.append(
            [
                *(name, _spread(loss), _percent(errors)),
                *(f"{1000 * np.median(t) / steps:.2f}" for t in (wall, cpu)),
                f"{diverged} of {len(restarts)}",
            ]
        )
    split = comparison.about["split"]
    head = f"loss (mean of {LAST_STEPS} steps)", f"{split} error", "ms a step", "CPU ms a step"
    return table(["", *head, "runs with numbers not finite"], rows)


def _tests(comparison: Comparison) -> str:
    about = comparison.about
    horizons, split = about["horizons"], about["split"]
    measures = {f"mean_loss_{n}": f"mean loss, n = {n:,}" for n in horizons}
    measures |= {"final_loss": "final loss", "final_error": f"final {split} error"}
    rows = []
    for measure, what in measures.items():
        reference = column(comparison, about["reference"], measure)
        rows += [
            [what, name, *_test_cells(paired(reference, column(comparison, name, measure)))]
            for name in others(comparison)
        ]
    return table(["", "against", "ratio", "difference", "p (t)", "p (Wilcoxon)"], rows)


def _test_cells(test: Paired) -> list[str]:
    if isnan(test.difference):
        return ["-", "diverged", "-", "-"]
    return [
        f"{test.ratio:.3f}",
        f"{test.difference:+.4g} ± {test.standard_error:.2g}",
        *(f"{p:.2g}" for p in (test.p_t, test.p_wilcoxon)),
    ]


def _reached(comparison: Comparison, clock: str) -> str:
    about, shown = comparison.about, []
    for level in about["levels"]:
        cells = [_reached_cell(comparison, name, level, clock) for name in about["contenders"]]
        if any(cell != "-" for cell in cells):
            shown.append((level, cells))
    rows = [[name, *(cells[i] for _, cells in shown)] for i, name in enumerate(about["contenders"])]
    return table(["", *(f"{level:g}" for level, _ in shown)], rows)


def _reached_cell(comparison: Comparison, name: str, level: float, clock: str) -> str:
    steps, seconds = (column(comparison, name, f"{what}_to_{level:g}") for what in ("steps", f"{clock}_s"))
    got = np.isfinite(steps)
    if not got.any():
        return "-"
    count = "" if got.all() else f" ({got.sum()} of {len(got)})"
    return f"{np.median(steps[got]):.0f}: {np.median(seconds[got]):.3g} s{count}"


def _disturbance(comparison: Comparison) -> str:
    """Return a warning where other processes took much of the time."""
    shares = [row["cpu_s"] / row["wall_s"] for row in comparison.seeds if row["wall_s"]]  # 0: gave up at once
    share = float(np.median(shares or [1.0]))
    if share > 1 - MOST_DISTURBED:
        return ""
    return (
        f"The machine did other things meanwhile: a run had {100 * share:.0f} % of a core (median), so wall "
        "times say little here; CPU times are not disturbed."
    )


def _contenders(about: dict[str, Any]) -> str:
    lines = []
    for name, contender in about["contenders"].items():
        told = {
            key: value
            for key, value in contender.items()
            if key not in ("learned", "tuned", "provenance") and (key, value) != ("h", "as it is")
        }
        text = ", ".join(f"{key} {value}" for key, value in told.items())
        lines.append(f"* {name}: {text}" + (f"; {p}" if (p := contender.get("provenance")) else ""))
    return "\n".join(lines)


def _spread(values: np.ndarray) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.4f} ± {deviation:.4f}" if isfinite(mean) else "diverged"


def _percent(values: np.ndarray) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{100 * mean:.2f} ± {100 * deviation:.2f} %" if isfinite(mean) else "diverged"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text
