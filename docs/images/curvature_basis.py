"""Draw the Fisher matrix of a small convolution before and after it is turned into the curvature basis.

    python docs/images/curvature_basis.py [FILE.png]

A convolution 3x3 of 4 channels, tanh, average pooling and a fully connected layer have been trained on the
bundled digits by 30 steps of Adam. Shown is F_ij / sqrt(F_ii F_jj), in absolute values, of the empirical
Fisher matrix F = mean of g_n g_n^T of the convolution's 36 weights over the first 500 training pictures:
what a rule that treats every coordinate by itself does not see.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from l2lnp import basis
from l2lnp.data import load_dataset
from l2lnp.layers import Activation, AvgPool2D, Conv2D, Flatten, FullyConnected, SoftmaxCrossEntropy
from l2lnp.meta.joint import JointLearner
from l2lnp.network import Sequential
from l2lnp.optimizers import make_optimizer
from l2lnp.runs.curves import write_figure
from l2lnp.tasks.classification import Batch, Classification

NETWORK = Sequential(
    (Conv2D(1, 4, 3), Activation("tanh"), AvgPool2D(2), Flatten(), FullyConnected(36, 10)),
    SoftmaxCrossEntropy(),
    (1, 8, 8),
)
CONV = NETWORK.layout.tensors[0].coordinates


def trained(n_steps: int = 30) -> np.ndarray:
    """Return theta after some steps of Adam."""
    learner = JointLearner(make_optimizer("adam", NETWORK.layout, learning_rate=0.01), frozen=True)
    rng = np.random.default_rng(0)
    training = learner.start(NETWORK.init(rng), learner.optimizer.init_phi(rng))
    task, drawn = Classification(NETWORK), load_dataset("digits").split("train").batches(0, 128)
    for step, (x, labels) in zip(range(n_steps), drawn, strict=False):
        training, _ = learner.step(training, task, Batch(step, x, labels))
    return training.theta


def fisher_matrices(theta: np.ndarray, n_samples: int = 500) -> list[np.ndarray]:
    """Return the Fisher matrix of the convolution in coordinates, and in the basis of the same pictures."""
    x, labels = next(iter(load_dataset("digits").split("train").in_order(n_samples, np, theta.dtype)))
    (_, g, _), moments = NETWORK.evaluate_with_moments(theta, x, labels, 1000, None)
    references = basis.references(NETWORK.layout, g)
    axes = {key: basis.eigenvectors(m, references[key])[0] for key, m in moments.items()}
    plain, turned = [], []
    for n in range(n_samples):
        of_sample = NETWORK.evaluate(theta, x[..., n : n + 1], labels[n : n + 1], None).g
        plain.append(of_sample[CONV])
        turned.append(basis.rotate(NETWORK.layout, axes, of_sample, basis.Execution())[CONV])
    return [np.asarray(rows, float).T @ np.asarray(rows, float) / n_samples for rows in (plain, turned)]


def correlations(fisher: np.ndarray) -> np.ndarray:
    """Return abs(F_ij) / sqrt(F_ii F_jj)."""
    scale = np.sqrt(np.diag(fisher)) + 1e-30
    return abs(fisher) / np.outer(scale, scale)


def mean_off_diagonal(matrix: np.ndarray) -> float:
    """Return the root mean square of the entries beside the diagonal."""
    beside = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(np.sqrt((beside**2).mean()))


def draw(path: Path) -> list[float]:
    """Write the picture; return the mean correlation between two coordinates, before and after."""
    found = [correlations(fisher) for fisher in fisher_matrices(trained())]
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    for axes, name, matrix in zip(figure.subplots(1, 2), ("coordinates", "the basis"), found, strict=True):
        image = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
        axes.set_title(f"in {name}: {mean_off_diagonal(matrix):.2f} beside the diagonal", fontsize=10)
        axes.set(xticks=range(0, 36, 9), yticks=range(0, 36, 9))
    figure.colorbar(image, ax=figure.axes, label="abs(F_ij) / sqrt(F_ii F_jj)", shrink=0.8)
    write_figure(path, figure)
    return [mean_off_diagonal(matrix) for matrix in found]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")
    before, after = draw(target)
    print(f"written to {target}: root mean square beside the diagonal {before:.2f} before, {after:.2f} after")
