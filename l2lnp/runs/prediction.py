"""Classify picture files by the network of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from l2lnp.checkpoint import Subject
from l2lnp.data.dataset import Normalisation
from l2lnp.data.decoding import fitted, opened
from l2lnp.errors import InputError
from l2lnp.layers import SoftmaxCrossEntropy
from l2lnp.runs.folder import RunFolder


class Scored(NamedTuple):
    """A class and its probability; for a network with squared error its output, which aims at 1."""

    name: str
    score: float


class Predictions(NamedTuple):
    """For each picture all classes, the likeliest first; and the form the pictures were brought to."""

    classes: list[list[Scored]]
    image_shape: tuple[int, int, int]  # (H, W, C)


def classify(path: Path, images: Sequence[Path], invert: bool = False) -> Predictions:
    """Return what the network in the run folder ``path`` makes of picture files.

    Raises
    ------
    InputError
        If the folder is no whole run, or a file is no picture or a very large one.
    """
    checkpoint = RunFolder(path).load_checkpoint()
    subject = checkpoint.subject
    network = subject.network()
    channels, rows, columns = subject.input_shape
    pictures = np.stack([read_picture(image, (rows, columns, channels)) for image in images])
    normalise = Normalisation(np.array(subject.mean), np.array(subject.deviation))
    x = normalise(255 - pictures if invert else pictures, np, checkpoint.theta.dtype)
    scores = network.predict(checkpoint.theta, x)  # (classes, N)
    if isinstance(network.loss, SoftmaxCrossEntropy):
        scores = softmax(scores, axis=0)
    return Predictions([_ranked(subject, column) for column in scores.T], (rows, columns, channels))


def read_picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the picture in the file ``path`` as ``shape`` (H, W, C), uint8, as it would be imported."""
    try:
        if path.exists() and not path.is_file():
            raise InputError("is a folder, a pipe or a device: name a file")
        with opened(path) as picture:
            return fitted(picture, shape)
    except InputError as error:
        raise InputError(f"cannot read the picture {path}: it {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is damaged, or no picture"
        )
        raise InputError(f"cannot read the picture {path}: {reason}") from error


def _ranked(subject: Subject, scores: np.ndarray) -> list[Scored]:
    order = np.argsort(-scores, kind="stable")
    return [Scored(subject.class_names[i], float(scores[i])) for i in order]
