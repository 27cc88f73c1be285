"""Train random networks by learned optimizers, none of them tuned, and by Adam, re-tuned for each.

    python tests/benchmarks/robustness.py --data-dir DIR [--settings 100] [--out robustness]

MNIST, 150 steps. A setting draws a network (0 to 3 convolutions, channels, a hidden layer, max pooling or
strides, the activation), the mini-batch's size, the scale of the initial weights and that of the inputs.
All contenders begin with the same weights and get the same mini-batches; Adam's rate is found on another
seed by the search of `l2lnp tune`. Each setting adds a line to OUT/settings.csv, and what is already there
is not run again: for a new learned optimizer empty the column of the old one. Then OUT/robustness.md and
.png are written. Written for docs/results/robustness.
"""

from __future__ import annotations

import argparse
import csv
import io
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from l2lnp.data import Dataset, load_dataset
from l2lnp.errors import DivergedError
from l2lnp.experiments.tuning import search, values
from l2lnp.files import replace_file
from l2lnp.networks import NetworkFile
from l2lnp.randomness import generator
from l2lnp.runs.problem import pose
from l2lnp.runs.resolving import resolve

N_STEPS, REPORTED_SEED, TUNING_SEED = 150, 0, 1000
ADAM_FROM = {"learning_rate": 0.004}  # where its search begins
LEARNED = ("slstm", "lstm", "slstm-coordinates", "lstm-coordinates")


@dataclass(frozen=True)
class Setting:
    """A network and what else was drawn."""

    network: str  # in TOML
    description: str
    batch_size: int
    initial_scale: float
    input_scale: float


def draw(index: int) -> Setting:
    """Return setting number ``index``."""
    rng = generator(0, "robustness", index)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    n_convolutions = int(rng.integers(0, 4))
    activation = str(rng.choice(["relu", "leaky_relu", "tanh"]))
    pools = bool(rng.integers(0, 2))
    layers, words = [], []
    for _ in range(n_convolutions):
        n_out, size = round(8 * log_uniform(0.5, 4)), int(rng.choice([3, 5]))
        stride = 1 if pools else 2
        layers.append(f'kind = "conv"\nn_out = {n_out}\nsize = {size}\nstride = {stride}\npadding = "same"')
        layers.append(f'kind = "{activation}"')
        if pools:
            layers.append('kind = "max_pool"\nsize = 2')
        words.append(f"{size}x{size} {n_out}")
    layers.append('kind = "flatten"')
    n_hidden = int(rng.integers(0, 3)) if n_convolutions == 0 else int(rng.integers(0, 2))
    for _ in range(n_hidden):
        n_out = round(32 * log_uniform(0.5, 4))
        layers += [f'kind = "fully_connected"\nn_out = {n_out}', f'kind = "{activation}"']
        words.append(f"fc {n_out}")
    layers.append('kind = "fully_connected"\nn_out = "classes"')
    words.append(f"{activation}, {'max pool' if pools else 'strides'}" if n_convolutions else activation)
    return Setting(
        "\n".join(f"[[layer]]\n{layer}\n" for layer in layers),
        ", ".join(words),
        round(log_uniform(32, 512)),
        log_uniform(1 / 3, 3),
        log_uniform(0.1, 10),
    )


def mean_loss(dataset: Dataset, setting: Setting, seed: int, **given: Any) -> float:
    """Return the mean training loss over all steps; infinite if a number was not finite."""
    asked = {"data": dataset.name, "batch_size": setting.batch_size, "steps": N_STEPS, "seed": seed}
    settings = resolve({**asked, "threads": 1, **given})
    scaled = replace(dataset, deviation=dataset.deviation / np.float32(setting.input_scale))
    problem = pose(settings, NetworkFile("robustness", setting.network), scaled)
    training = problem.begin()
    training = training._replace(theta=training.theta * training.theta.dtype.type(setting.initial_scale))
    losses = []
    batches = problem.batches(0)
    for _ in range(N_STEPS):
        try:
            training, report = problem.learner.step(training, problem.task, next(batches))
        except DivergedError:
            return float("inf")
        losses.append(report.loss)
    return float("inf") if training.n_restarts else float(np.mean(losses))


def tuned_rate(dataset: Dataset, setting: Setting) -> float:
    """Return the learning rate of Adam with the lowest mean loss on the tuning seed."""
    asking = search(ADAM_FROM)
    wanted = next(asking)
    while True:
        scores = {
            point: mean_loss(dataset, setting, TUNING_SEED, optimizer="adam", **values(ADAM_FROM, point))
            for point in wanted
        }
        try:
            wanted = asking.send(scores)
        except StopIteration as end:
            return values(ADAM_FROM, end.value[0])["learning_rate"]


def measured_adam(dataset: Dataset, index: int) -> dict[str, str]:
    """Return the line of setting ``index``, its learned optimizers still to be measured."""
    setting = draw(index)
    rate = tuned_rate(dataset, setting)
    loss = mean_loss(dataset, setting, REPORTED_SEED, optimizer="adam", learning_rate=rate)
    return {
        "setting": str(index),
        "network": setting.description,
        "batch_size": str(setting.batch_size),
        "initial_scale": f"{setting.initial_scale:.3f}",
        "input_scale": f"{setting.input_scale:.3f}",
        "adam_rate": str(rate),
        "adam": f"{loss:.6g}",
        **dict.fromkeys(LEARNED, ""),
    }


def measured(dataset: Dataset, row: dict[str, str]) -> dict[str, str]:
    """Return the line with all learned optimizers."""
    setting = draw(int(row["setting"]))
    losses = {
        name: mean_loss(
            dataset, setting, REPORTED_SEED, pretrained=name, optimizer_settings={"weight_decay": 0.0}
        )
        for name in LEARNED
        if not row[name]
    }
    return row | {name: f"{loss:.6g}" for name, loss in losses.items()}


def page(rows: list[dict[str, str]], command: str) -> str:
    """Return the page."""
    ratios = {name: sorted(_ratios(rows, name)) for name in LEARNED}
    table = [
        "| | median | quartiles | worst | ahead of Adam in | diverged |",
        "|---|---|---|---|---|---|",
    ]
    for name, of_one in ratios.items():
        low, median, high = np.percentile(of_one, [25, 50, 75])
        ahead, diverged = np.mean(np.array(of_one) < 1), np.isinf(of_one).sum()
        table.append(
            f"| `{name}` | {median:.2f} | {low:.2f}-{high:.2f} | {of_one[-1]:.2f} | {100 * ahead:.0f} % "
            f"| {diverged} |"
        )
    worst = sorted(rows, key=lambda row: -float(row["slstm"]) / float(row["adam"]))[:5]
    listed = [
        "| network | batch | initial weights x | inputs x | Adam's rate | its loss | `slstm`'s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['network']} | {row['batch_size']} | {row['initial_scale']} | {row['input_scale']} "
            f"| {float(row['adam_rate']):.3g} | {float(row['adam']):.3f} | {float(row['slstm']):.3f} |"
            for row in worst
        ),
    ]
    return "\n".join(
        [
            "# Robustness: random networks, scales and batches",
            "",
            f"```sh\n{command}\n```",
            "",
            f"MNIST, {len(rows)} random settings, mean training loss over the first {N_STEPS} steps",
            "relative to that of Adam, whose rate was tuned for each setting on another seed.",
            "0-3 convolutions, 4-32 channels, kernels 3 or 5, max pooling or strides of 2,",
            "at most two hidden layers of 16-128 units,",
            "relu, leaky relu or tanh; batches of 32-512; initial weights x1/3-x3, inputs x0.1-x10.",
            "No learned optimizer was tuned, or told any of this.",
            "",
            *table,
            "",
            "![Ratios, sorted](robustness.png)",
            "",
            "The settings in which `slstm` does worst:",
            "",
            *listed,
            "",
            "All of them: [settings.csv](settings.csv).",
            "",
        ]
    )


def _ratios(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) / float(row["adam"]) for row in rows]


def draw_figure(rows: list[dict[str, str]], path: Path) -> None:
    """Draw the sorted ratios of each learned optimizer."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in LEARNED:
        axes.plot(sorted(_ratios(rows, name)), label=name)
    axes.axhline(1, color="grey", linewidth=1)
    axes.set(yscale="log", xlabel="setting, sorted for each", ylabel="mean loss / tuned Adam's")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure what is missing, then write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("robustness"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "settings.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    wanted = [
        i for i in range(asked.settings) if i >= len(rows) or not all(rows[i][name] for name in LEARNED)
    ]
    dataset = load_dataset("mnist", asked.data_dir) if wanted else None
    for index in wanted:
        assert dataset is not None
        if index == len(rows):
            rows.append(measured_adam(dataset, index))
        rows[index] = measured(dataset, rows[index])
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        replace_file(path, text.getvalue().encode())
        said = ", ".join(f"{k} {v}" for k, v in rows[index].items())
        print(f"setting {index + 1}/{asked.settings}: {said}", flush=True)
    command = shlex.join(["python", "tests/benchmarks/robustness.py", *sys.argv[1:]])
    (asked.out / "robustness.md").write_text(page(rows, command))
    draw_figure(rows, asked.out / "robustness.png")
    print(f"written to {asked.out}: robustness.md, robustness.png, settings.csv")


if __name__ == "__main__":
    main()
