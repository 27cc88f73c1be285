"""From a run's settings to what is trained and what trains it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from l2lnp.backend import Array, load_backend, to_backend, tree_to_backend
from l2lnp.checkpoint import Subject
from l2lnp.data import Dataset, load_dataset
from l2lnp.data.augmentation import Augmentation
from l2lnp.errors import InputError
from l2lnp.memory import needed
from l2lnp.meta.joint import JointLearner, Training
from l2lnp.networks import NetworkFile, find_network
from l2lnp.optimizers import OPTIMIZERS, make_optimizer
from l2lnp.optimizers.base import Optimizer, Phi
from l2lnp.pretrained import RANDOM, load_learned_optimizer
from l2lnp.randomness import generator
from l2lnp.runs.settings import TrainSettings
from l2lnp.tasks.classification import Batch, Classification


@dataclass(frozen=True)
class Problem:
    """Everything of a run that does not change while it goes on."""

    settings: TrainSettings
    dataset: Dataset
    subject: Subject
    task: Classification
    optimizer: Optimizer
    learner: JointLearner
    xp: ModuleType

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield the mini-batches of steps ``start_step``, ``start_step + 1``, ..."""
        s = self.settings
        split = self.dataset.split("train")
        changes = Augmentation(s.flip, s.crop_padding) if s.flip or s.crop_padding else None
        drawn = split.batches(s.seed, s.batch_size, start_step, self.xp, np.dtype(s.dtype), changes)
        return (Batch(step, x, labels) for step, (x, labels) in enumerate(drawn, start_step))

    def begin(self) -> Training:
        """Return the training before its first step.

        Raises
        ------
        InputError
            If loss, g or h of the first mini-batch cannot be had: the data, the network
            and the curvature mode do not go together.
        """
        s = self.settings
        theta = self.task.network.init(generator(s.seed, "theta"), np.dtype(s.dtype))
        training = self.learner.start(to_backend(self.xp, theta), self._phi())
        evaluation = self.task.evaluate(
            training.theta, next(self.batches(0)), wants_h=self.optimizer.uses_curvature
        )
        parts = {"loss": evaluation.loss, "gradient": evaluation.g, "curvature": evaluation.h}
        for name, value in parts.items():
            if value is not None and not np.isfinite(float(abs(value).max() if name != "loss" else value)):
                raise InputError(
                    f"the {name} of the first mini-batch is not finite: "
                    f"look for NaN or infinity in the data '{self.dataset.name}'"
                )
        return training

    def _phi(self) -> Phi:
        s = self.settings
        phi = self.optimizer.init_phi(generator(s.seed, "phi"), np.dtype(s.dtype))
        if s.pretrained not in (None, RANDOM):
            phi = load_learned_optimizer(s.pretrained).fitted(phi)
        return tree_to_backend(self.xp, phi)

    @contextmanager
    def noting_memory(self) -> Iterator[None]:
        """Add to a `MemoryError` how much the run needs."""
        s = self.settings
        try:
            yield
        except MemoryError as error:
            steps = s.unroll_length_steps if s.joint else None
            itemsize = np.dtype(s.dtype).itemsize
            memory = needed(self.task.network, self.optimizer, s.batch_size, steps, itemsize)
            error.add_note(f"this run needs {memory}")
            raise


def load_data(settings: TrainSettings) -> Dataset:
    """Return the data set of a run; raise `InputError` if it is not there or damaged."""
    folder = Path(settings.data_dir) if settings.data_dir else None
    return load_dataset(settings.data, folder, settings.memory_limit_mb << 20)


def pose(
    settings: TrainSettings, network_file: NetworkFile | None = None, dataset: Dataset | None = None
) -> Problem:
    """Load the data and build network, optimizer and learner.

    Parameters
    ----------
    network_file
        The network of a run that goes on; otherwise ``settings.network`` is looked up.
    dataset
        The data where they are loaded already.

    Raises
    ------
    InputError
        If a name is unknown, a file damaged, or something does not fit together.
    """
    xp = load_backend(settings.backend)
    if dataset is None:
        dataset = load_data(settings)
    for split in ("train", "test"):
        dataset.split(split)  # refuses one without pictures
    if len(dataset.class_names) < 2:
        raise InputError(
            f"the pictures of {dataset.name} are all of one class: there is nothing to tell apart"
        )
    _check_padding(settings.crop_padding, dataset)
    subject = describe(settings, dataset, network_file)
    task = Classification(subject.network(), settings.curvature, settings.execution, settings.seed)
    optimizer = _optimizer(settings, task)
    learner = JointLearner(
        optimizer,
        frozen=not settings.joint,
        n_steps=settings.steps,
        batch_size=settings.batch_size,
        n_samples=dataset.split("train").n_samples,
        average=settings.average,
        **_joint_settings(settings),
    )
    return Problem(settings, dataset, subject, task, optimizer, learner, xp)


def _check_padding(pixels: int, dataset: Dataset) -> None:
    rows, columns, _ = dataset.image_shape
    if pixels >= min(rows, columns):
        raise InputError(
            f"--crop-padding must be less than the sides of the pictures of {dataset.name}, "
            f"{rows} x {columns}, not {pixels}"
        )


def describe(settings: TrainSettings, dataset: Dataset, network_file: NetworkFile | None = None) -> Subject:
    """Return what is trained for ``dataset``: by the network asked for, or by ``network_file``."""
    rows, columns, channels = dataset.image_shape
    shape = (channels, rows, columns)
    return Subject(
        network_file=network_file or find_network(settings.network, shape),
        input_shape=shape,
        class_names=tuple(dataset.class_names),
        mean=tuple(float(v) for v in dataset.mean),
        deviation=tuple(float(v) for v in dataset.deviation),
        fingerprint=fingerprint(dataset),
    )


def fingerprint(dataset: Dataset) -> str:
    """Return a checksum by which a run knows its data again: of sizes, classes, mean and labels."""
    digest = hashlib.sha256(repr((dataset.image_shape, list(dataset.class_names))).encode())
    for values in (dataset.mean, dataset.deviation):
        digest.update(np.asarray(values, np.float64).tobytes())
    for name in ("train", "validation", "test"):
        digest.update(np.asarray(dataset.splits[name].labels, np.int64).tobytes())
    return digest.hexdigest()


def _optimizer(settings: TrainSettings, task: Classification) -> Optimizer:
    given = dict(settings.optimizer_settings)
    if not OPTIMIZERS[settings.optimizer].learned:
        given["learning_rate"] = settings.learning_rate
    return make_optimizer(settings.optimizer, task.layout, task.execution, **given)


def _joint_settings(settings: TrainSettings) -> dict[str, Any]:
    names = ("unroll_length_steps", "meta_learning_rate", "clip_norm", "second_derivatives")
    return {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}


def on_backend(training: Training, xp: ModuleType) -> Training:
    """Return ``training`` with its arrays moved from the host to ``xp``."""

    def moved(tree: dict[str, Array | int]) -> dict[str, Array | int]:
        return {k: v if isinstance(v, int) else to_backend(xp, v) for k, v in tree.items()}

    average = None if training.average is None else to_backend(xp, training.average)
    return training._replace(
        average=average,
        theta=to_backend(xp, training.theta),
        state=moved(training.state),
        phi=moved(training.phi),
        meta=moved(training.meta),
    )
