"""The report of a benchmark on a GPU: goals, times, and what it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2lnp.benchmarks.goals import Goal
from l2lnp.files import replace_file
from l2lnp.memory import default_slstm, largest_network

_FRAMEWORKS = ("PyTorch", "torch.compile", "JAX")
_GRADIENTS = ("PyTorch: g", "PyTorch channels-last: g")
_H200_BYTES = 141e9  # for which "the largest network" is stated where no card is at hand

GOALS = (
    Goal("lstm-1e6", 0, "l2lnp, one graph", ("floor",), 2.0, "median_ms"),
    Goal("lstm-1e6", 0, "l2lnp, one graph", _FRAMEWORKS, 0.3, "median_ms"),
    Goal("sweep-big", 0, "l2lnp: g and h", _GRADIENTS, 1.0, "median_ms"),
    Goal("training-step", 0, "l2lnp, slstm: step, one graph", ("JAX, slstm: step",), 0.5, "median_ms"),
    Goal("meta-first-order", 0, "l2lnp, one graph", ("PyTorch, surrogate", *_FRAMEWORKS), 0.5, "median_ms"),
)


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of `l2lnp.benchmarks.gpu_measuring.measure_on_gpu`."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    limits = results["limits"]
    lines = [
        f"# Benchmark on {results['card']}, {results['started']}",
        "",
        f"{versions}; CUDA {results['cuda']}, driver {results['driver']}; copies at "
        f"{limits['copy_bytes_per_s'] / 1e9:.0f} GB/s, float32 products at "
        f"{limits['flops_per_s'] / 1e12:.1f} Tflop/s; {results['repetitions']} measurements each. "
        "Float32, TF32 off in all.",
        "",
        *goals(results["rows"], results.get("memory_bytes", _H200_BYTES)),
        "",
        "| job | contender | median ms | quartiles | error |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['job']} | {row['contender']} | {row['median_ms']:.4f} "
        f"| {row['lower_ms']:.4f} - {row['upper_ms']:.4f} "
        f"| {', '.join(f'{name} {e:.0e}' for name, e in row.get('errors', {}).items())} |"
        for row in results["rows"]
    ]
    return "\n".join([*lines, ""])


def goals(rows: Any = (), memory_bytes: float = _H200_BYTES) -> list[str]:
    """Return the lines of the table of goals: reached, not reached, or not measured."""
    lines = ["| job | ratio | goal | measured | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        ratio = goal.ratio(rows)
        verdict = (
            "not measured" if ratio is None else "reached" if ratio <= goal.at_most else "**not reached**"
        )
        measured = "" if ratio is None else f"{ratio:.3g}"
        lines.append(f"| {goal.job} | {goal} | <= {goal.at_most:g} | {measured} | {verdict} |")
    most = largest_network(memory_bytes, default_slstm())
    return [
        *lines,
        f"| memory | parameters of the largest network trainable by frozen SLSTM in "
        f"{memory_bytes / 1e9:.0f} GB | stated | {most / 1e6:.0f} million, by the model "
        "| `pytest -m gpu` checks the model |",
    ]


def write(results: Mapping[str, Any], folder: Path) -> Path:
    """Write tables and numbers to a page named by date and card in ``folder``, which is there; return it."""
    card = "-".join(str(results["card"]).lower().split())
    page = folder / f"{results['started'][:10]}-{card}.md"
    replace_file(page.with_suffix(".json"), (json.dumps(results, indent=1) + "\n").encode())
    replace_file(page, markdown(results).encode())
    return page
