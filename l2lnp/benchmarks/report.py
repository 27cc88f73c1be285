"""Tables of results, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l2lnp.benchmarks.goals import GOALS, Goal

Results = Mapping[str, Any]
MOST_DISTURBED = 0.1  # of its cores' time taken by others; beyond, wall times are not judged


def markdown(results: Results) -> str:
    """Return the whole report: machine, goals, and a table for each job."""
    parts = [
        "# Benchmark on the CPU",
        _machine(results),
        "## Goals",
        f"Where other processes used more than {100 * MOST_DISTURBED:.0f} % of the cores meanwhile, one "
        "thread is judged by processor time, and more threads are not judged.",
        _goals(results),
        "## Times",
        "Milliseconds; the ratio is the first contender's median over this one's. Shares of the machine's "
        "limits count the least that the job needs: matrix products; arrays written and read once.",
        *_jobs(results),
        "## Parts of a training step",
        _parts(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(results: Results) -> str:
    lines = [f"* measured: {results['started']}, load at the start {results['load']:.2f}"]
    lines += [f"* {name}: {value}" for name, value in results["machine"].items()]
    for process in results["processes"]:
        limits = process["limits"]
        lines.append(
            f"* {_threads(process['threads'])}: sgemm {limits['sgemm_flops_per_s'] / 1e9:.0f} Gflop/s, "
            f"copy {limits['copy_bytes_per_s'] / 1e9:.1f} GB/s; in one thread the LSTM's products at "
            f"{limits['gates_flops_per_s_of_one_thread'] / 1e9:.0f} Gflop/s, "
            f"tanh {limits['tanh_s_of_one_thread'] * 1e9:.3f} ns, "
            f"a light pass {limits['pass_s_of_one_thread'] * 1e9:.3f} ns an element"
        )
    return "\n".join(lines)


def _goals(results: Results) -> str:
    rows = rows_of(results)
    table = []
    for goal in GOALS:
        ratio = goal.ratio(rows)
        if ratio is not None:
            by_cpu = goal.ratio(rows, "cpu_s") if goal.of == "median_s" and goal.threads == 1 else None
            others = _others(rows, goal)
            table.append(
                (
                    goal.job,
                    str(goal.threads),
                    str(goal),
                    f"<= {goal.at_most:g}",
                    f"{ratio:.3g}",
                    "" if by_cpu is None else f"{by_cpu:.3g}",
                    "" if others is None else f"{100 * others:.0f} %",
                    _verdict(goal, ratio, by_cpu, others),
                )
            )
    head = ("job", "threads", "ratio", "goal", "measured", "in processor time", "others", "")
    return _table(head, table) if table else ""


def _others(rows: Sequence[Mapping[str, Any]], goal: Goal) -> float | None:
    """Return the share of the cores that other processes used; None for memory, or where unknown."""
    if goal.of != "median_s":
        return None
    return next(r.get("others") for r in rows if (r["job"], r["threads"]) == (goal.job, goal.threads))


def _verdict(goal: Goal, ratio: float, by_cpu: float | None, others: float | None) -> str:
    """Judge a ratio: where others disturbed the run by processor time, which is sound on one core only."""
    if others is not None and others > MOST_DISTURBED:
        if by_cpu is None:
            return "not judged"
        ratio = by_cpu
    return "reached" if ratio <= goal.at_most else "**not reached**"


def _jobs(results: Results) -> Iterable[str]:
    rows = rows_of(results)
    limits = {p["threads"]: p["limits"] for p in results["processes"]}
    for job, threads in dict.fromkeys((r["job"], r["threads"]) for r in rows):
        mine = [r for r in rows if (r["job"], r["threads"]) == (job, threads)]
        first = mine[0]["median_s"]
        others = mine[0].get("others")
        disturbed = "" if others is None else f"; other processes used {100 * others:.0f} % of its cores"
        yield f"### {job}, {_threads(threads)}\n\n{mine[0]['what']}{disturbed}\n\n" + _table(
            (
                "contender",
                "median",
                "quartiles",
                "processor time",
                "calls",
                "ratio",
                "of sgemm",
                "of copy",
                "memory, MB",
                "error",
            ),
            [_line(r, first, limits[threads]) for r in mine],
        )


def _line(row: Mapping[str, Any], first_s: float, limits: Mapping[str, float]) -> tuple[str, ...]:
    def share(of: str, limit: str) -> str:
        return f"{100 * row[of] / row['median_s'] / limits[limit]:.0f} %" if row[of] else ""

    return (
        row["contender"],
        f"{1e3 * row['median_s']:.2f}",
        f"{1e3 * row['lower_s']:.2f} - {1e3 * row['upper_s']:.2f}",
        f"{1e3 * row['cpu_s']:.2f}",
        str(row["n_calls"]),
        f"{first_s / row['median_s']:.2f}",
        share("flops", "sgemm_flops_per_s"),
        share("bytes", "copy_bytes_per_s"),
        f"{row['added'] / 1e6:.0f}" if "added" in row else "",
        ", ".join(f"{name} {error:.0e}" for name, error in row.get("errors", {}).items() if error),
    )


def _parts(results: Results) -> str:
    """Say whether sweep and update add up to the step, and what SLSTM costs over Adam."""
    found = {
        (r["threads"], r["contender"]): r["median_s"] for r in rows_of(results) if r["job"] == "training-step"
    }
    table = []
    for threads in dict.fromkeys(threads for threads, _ in found):
        whole = {name: found[threads, f"l2lnp, {name}: step"] for name in ("slstm", "adam")}
        for name, step in whole.items():
            parts = [found[threads, f"l2lnp, {name}: {part}"] for part in ("sweep", "update")]
            numbers = [f"{1e3 * s:.2f}" for s in (step, *parts)]
            table.append(
                (str(threads), name, *numbers, f"{sum(parts) / step:.2f}", f"{step / whole['adam']:.2f}")
            )
    head = ("threads", "optimizer", "step, ms", "sweep", "update", "parts / step", "step / Adam's step")
    return _table(head, table) if table else ""


def rows_of(results: Results) -> list[Mapping[str, Any]]:
    """Return the rows of all processes."""
    return [row for process in results["processes"] for row in process["rows"]]


def _threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))
