"""Choose the weight decay of a learned optimizer by cross-validation; no test picture is touched.

    python tests/benchmarks/weight_decay.py [--data mnist --data-dir DIR] [--network big] [--steps 1000] ...

The pictures of the splits train and validation are dealt to five folds. For each fold the network is
trained on the others and measured on it, with seeds of its own: errors are means over all folds, with
their standard error. Written for docs/results/generalization.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from l2lnp.data import Dataset, load_dataset
from l2lnp.data.dataset import MemorySplit, Normalisation
from l2lnp.runs.problem import pose
from l2lnp.runs.resolving import resolve

N_FOLDS = 5


def fold(dataset: Dataset, k: int, n_train: int | None, n_validation: int | None) -> Dataset:
    """Return ``dataset`` with fold ``k`` for validation, and the others for training."""
    parts = [dataset.splits[name] for name in ("train", "validation")]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    folds = np.array_split(np.random.default_rng(7).permutation(len(labels)), N_FOLDS)
    rows = {
        "train": np.concatenate([part for i, part in enumerate(folds) if i != k])[:n_train],
        "validation": folds[k][:n_validation],
    }
    normalise = Normalisation(dataset.mean, dataset.deviation)
    splits = {
        name: MemorySplit(name, images[np.sort(i)], labels[np.sort(i)], normalise) for name, i in rows.items()
    }
    return replace(dataset, splits={**splits, "test": splits["validation"]})


def trained(dataset: Dataset, **given: object) -> tuple[float, float, float]:
    """Return the mean training loss, and the validation error of theta and of its average."""
    problem = pose(resolve({"threads": 1, "average": True, **given}), dataset=dataset)
    training, batches, losses = problem.begin(), problem.batches(0), []
    while training.step < problem.settings.steps:
        training, report = problem.learner.step(training, problem.task, next(batches))
        losses.append(report.loss)
    split = dataset.split("validation")
    errors = [problem.task.measure(theta, split).error for theta in (training.theta, training.average)]
    return float(np.mean(losses)), *errors


def main() -> None:
    """Print a line for each decay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--network", default="small")
    parser.add_argument("--pretrained", default="slstm")
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--decays", default="0,0.1,0.2,0.3,0.5")
    parser.add_argument("--folds", type=int, default=N_FOLDS, help="how many of the five are tried")
    parser.add_argument("--seeds", default="20,30", help="the seed of fold k is each of these + k")
    parser.add_argument("--n-train", type=int, help="train on so many pictures only")
    parser.add_argument("--n-validation", type=int, default=5000, help="at most, of a fold")
    asked = parser.parse_args()
    dataset = load_dataset(asked.data, asked.data_dir)
    runs = [(k, int(seed) + k) for k in range(asked.folds) for seed in asked.seeds.split(",")]
    for decay in map(float, asked.decays.split(",")):
        found = np.array(
            [
                trained(
                    fold(dataset, k, asked.n_train, asked.n_validation),
                    network=asked.network,
                    pretrained=asked.pretrained,
                    joint=asked.joint,
                    steps=asked.steps,
                    seed=seed,
                    optimizer_settings={"weight_decay": decay},
                )
                for k, seed in runs
            ]
        )
        loss, error, averaged = found.mean(0)
        print(
            f"decay {decay:g}: mean training loss {loss:.4f}, validation error {100 * error:.2f} % "
            f"± {100 * found[:, 1].std() / len(found) ** 0.5:.2f}, of the average {100 * averaged:.2f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
