"""``checkpoint.h5``: all that a run needs to go on in the same bytes, or to be used (``docs/runs.md``).

A run goes on from the beginning of the unroll it was in (the *boundary*), because the
unroll's tape is not stored. So a checkpoint holds theta twice: as it is, for use (or its
average, where one is kept), and as it was at the boundary, to go on from, with the average
there. phi and its Adam state change only at boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from l2lnp.backend import to_host, tree_to_host
from l2lnp.errors import InputError
from l2lnp.meta.joint import Training
from l2lnp.network import Sequential
from l2lnp.networks import NetworkFile
from l2lnp.pretrained import LearnedOptimizer, read_phi, write_phi
from l2lnp.sealed import read_sealed, read_tree, write_sealed, write_tree
from l2lnp.tree import Layout
from l2lnp.version import VERSION

FORMAT = "l2lnp checkpoint"
FORMAT_VERSION = 2  # 2: the state of learned optimizers lies in chunks


@dataclass(frozen=True)
class Subject:
    """What is trained: a network, and the data it is trained for."""

    network_file: NetworkFile
    input_shape: tuple[int, ...]  # (C, H, W)
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of the training pictures scaled to 0..1
    deviation: tuple[float, ...]
    fingerprint: str  # of the data

    def network(self) -> Sequential:
        """Return the network."""
        return self.network_file.build(self.input_shape, len(self.class_names))


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment."""

    config: str  # the run's settings in TOML
    seed: int
    subject: Subject
    step: int  # updates made so far
    theta: np.ndarray  # (P,) after them, for use
    boundary: Training  # where the running unroll began; its phi is also the present one
    optimizer: str
    optimizer_settings: Mapping[str, Any]
    curvature: str | None
    elapsed_s: float

    def learned_optimizer(self) -> LearnedOptimizer:
        """Return the optimizer with its present phi."""
        provenance = f"a run of l2lnp {VERSION}, step {self.step}, with the settings:\n{self.config}"
        phi = tree_to_host(self.boundary.phi)
        return LearnedOptimizer(self.optimizer, self.optimizer_settings, self.curvature, phi, provenance)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path`` in one step, in place of the one before."""
    write_sealed(path, lambda file: _fill(file, checkpoint))


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in ``path``, its arrays on the host.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no checkpoint.
    """
    return read_sealed(path, "checkpoint", _take)


def _fill(file: h5py.File, checkpoint: Checkpoint) -> None:
    subject, boundary = checkpoint.subject, checkpoint.boundary
    file.attrs.update(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        l2lnp_version=VERSION,
        config=checkpoint.config,
        step=checkpoint.step,
        elapsed_s=checkpoint.elapsed_s,
        network=subject.network_file.text,
        network_source=subject.network_file.source,
        input_shape=subject.input_shape,
        class_names="\n".join(subject.class_names),
        mean=subject.mean,
        deviation=subject.deviation,
        data_fingerprint=subject.fingerprint,
    )
    layout = subject.network().layout
    write_tree(file.create_group("theta"), named_tensors(layout, to_host(checkpoint.theta)))
    average = {} if boundary.average is None else {"average": boundary.average}
    write_tree(file.create_group("boundary"), {"theta": boundary.theta} | average)
    file["boundary"].attrs.update(step=boundary.step, n_restarts=boundary.n_restarts)
    write_tree(file.create_group("optimizer"), boundary.state)
    write_phi(file.create_group("phi"), checkpoint.learned_optimizer())
    write_tree(file.create_group("meta"), boundary.meta)
    # every draw is a function of seed and step: these two are the state of all generators
    file.create_group("random").attrs.update(seed=checkpoint.seed, step=boundary.step)


def _take(file: h5py.File) -> Checkpoint:
    a = file.attrs
    if a.get("format") != FORMAT:
        raise InputError("it is no checkpoint of a run")
    if int(a["format_version"]) != FORMAT_VERSION:
        raise InputError(
            f"its format version {a['format_version']} is not {FORMAT_VERSION}: "
            "it is from another version of l2lnp"
        )
    subject = Subject(
        network_file=NetworkFile(str(a["network_source"]), str(a["network"])),
        input_shape=tuple(a["input_shape"].tolist()),
        class_names=tuple(a["class_names"].split("\n")),
        mean=tuple(a["mean"].tolist()),
        deviation=tuple(a["deviation"].tolist()),
        fingerprint=str(a["data_fingerprint"]),
    )
    learned = read_phi(file["phi"])
    boundary = Training(
        step=int(file["boundary"].attrs["step"]),
        theta=file["boundary/theta"][()],
        state=read_tree(file["optimizer"]),
        phi=dict(learned.phi),
        meta=read_tree(file["meta"]),
        n_restarts=int(file["boundary"].attrs["n_restarts"]),
        average=file["boundary/average"][()] if "average" in file["boundary"] else None,
    )
    theta = _joined(subject.network().layout, read_tree(file["theta"]))
    for name, value in (("theta", boundary.theta), ("average", boundary.average)):
        if value is not None and value.shape != theta.shape:
            raise InputError(f"its boundary/{name} is {value.shape}, where the network needs {theta.shape}")
    return Checkpoint(
        config=str(a["config"]),
        seed=int(file["random"].attrs["seed"]),
        subject=subject,
        step=int(a["step"]),
        theta=theta,
        boundary=boundary,
        optimizer=learned.name,
        optimizer_settings=learned.settings,
        curvature=learned.curvature,
        elapsed_s=float(a["elapsed_s"]),
    )


def named_tensors(layout: Layout, theta: np.ndarray, separator: str = "/") -> dict[str, np.ndarray]:
    """Return the tensors in ``theta`` (P,) by layer and name: ``"0/w"``, ``"0/b"``, ..."""
    return {f"{t.layer}{separator}{t.name}": theta[t.coordinates].reshape(t.shape) for t in layout.tensors}


def _joined(layout: Layout, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    found = {key: tensor.shape for key, tensor in tensors.items()}
    wanted = {f"{t.layer}/{t.name}": t.shape for t in layout.tensors}
    if found != wanted:
        raise InputError(f"its theta is of another network: {found}, where the network has {wanted}")
    return np.concatenate([tensors[key].reshape(-1) for key in wanted])
