"""Distributions of tasks for meta-training: each episode draws data, a network, a batch size and weights.

A distribution is a TOML file (``docs/meta_training.md``); some come with the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from l2lnp.backend import to_backend
from l2lnp.data import Dataset, load_dataset
from l2lnp.data.loading import SUFFIXES
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution
from l2lnp.files import read_text
from l2lnp.layers import Activation, Conv2D, Flatten, FullyConnected, Layer, MaxPool2D, SoftmaxCrossEntropy
from l2lnp.network import Sequential
from l2lnp.networks import NetworkFile, find_network, is_path
from l2lnp.randomness import generator
from l2lnp.runs.problem import fingerprint
from l2lnp.tasks.base import Optimizee
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.tasks.description import read_description
from l2lnp.tree import Layout

DISTRIBUTIONS = ("mixture", "deep-mixture", "wide-mixture", "paper-mnist", "paper-digits")


class Pictures(NamedTuple):
    """The pictures of one split of one data set, normalised and shrunk."""

    x: np.ndarray  # (C, H, W, N)
    labels: np.ndarray  # (N,)
    n_classes: int
    fingerprint: str  # of the data set


@dataclass(frozen=True)
class Episode:
    """One drawn task: what is trained, from where, and its mini-batches."""

    task: Optimizee
    theta: np.ndarray  # (P,), the initial weights
    pictures: Pictures
    batch_size: int
    seed: int
    index: int
    title: str

    def batches(self, xp: ModuleType = np) -> Iterator[Batch]:
        """Yield mini-batches of the library ``xp`` without end, drawn with replacement between steps."""
        step = 0
        while True:
            rng = generator(self.seed, "episode batches", self.index, step)
            chosen = rng.choice(len(self.pictures.labels), self.batch_size, replace=False)
            x, labels = self.pictures.x[..., chosen], self.pictures.labels[chosen]
            yield Batch(step, to_backend(xp, x), to_backend(xp, labels))
            step += 1


@dataclass(frozen=True)
class Distribution:
    """A distribution over tasks, with the pictures it draws from.

    ``validation`` tasks are drawn alike, on pictures that training never sees: those of each data set's
    validation split. No test picture is ever used. So that a run can go on in the same bytes, the
    distribution keeps the texts of ``networks`` that are files, by name, and the ``folder`` that
    names of data files start from.
    """

    source: str
    text: str
    data_dir: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    networks: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, name_or_path: str, data_dir: Path | None = None) -> Distribution:
        """Return the distribution called ``name_or_path``, or described in that TOML file.

        Raises
        ------
        InputError
            If there is none, or the file says something that cannot be.
        """
        if name_or_path.endswith(".toml"):
            found = cls(name_or_path, read_text(Path(name_or_path)), data_dir)
        elif name_or_path in DISTRIBUTIONS:
            text = (resources.files("l2lnp.tasks") / f"{name_or_path}.toml").read_text(encoding="utf-8")
            found = cls(name_or_path, text, data_dir)
        else:
            raise unknown_name("task distribution", name_or_path, [*DISTRIBUTIONS, "or a file FILE.toml"])
        names = [table.get("name", "") for table in found.description["network"]]
        with found._named():
            return replace(found, networks={name: read_text(Path(name)) for name in names if is_path(name)})

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """What the file says, checked."""
        return read_description(self.text, self.source)

    @cached_property
    def _pictures(self) -> dict[tuple[str, int, str], Pictures]:
        found = {}
        for table in self.description["data"]:
            name, shrink = table["name"], table.get("shrink", 1)
            is_file = name.endswith(SUFFIXES)
            dataset = load_dataset(str(self.folder / name) if is_file else name, self.data_dir)
            for split in ("train", "validation"):
                with self._named():
                    found[name, shrink, split] = _shrunk(dataset, split, shrink)
        return found

    @property
    def fingerprints(self) -> dict[str, str]:
        """Checksums of the data sets by name (`l2lnp.runs.problem.fingerprint`)."""
        return {name: pictures.fingerprint for (name, _, _), pictures in self._pictures.items()}

    @cached_property
    def layouts(self) -> list[Layout]:
        """A layout for each sequence of layers that may be drawn, whatever their sizes."""
        data, networks = (
            [table for table in self.description[part] if table.get("weight", 1)]
            for part in ("data", "network")
        )
        return [
            self._network(
                generator(0, "layouts"),
                {**network, "convolutions": [n], "hidden_units": [hidden]},
                self._pictures[table["name"], table.get("shrink", 1), "train"],
            ).layout
            for table, network in product(data, networks)
            for n in network.get("convolutions", [1])
            for hidden in network.get("hidden_units", [0])
        ]

    def _network(self, rng: np.random.Generator, table: Mapping[str, Any], pictures: Pictures) -> Sequential:
        name, shape = table.get("name"), pictures.x.shape[:3]
        with self._named():
            if name is None:
                return _draw_network(rng, table, pictures)
            text = self.networks.get(name)
            file = find_network(name, shape) if text is None else NetworkFile(name, text)
            return file.build(shape, pictures.n_classes)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Begin the sentence of an `InputError` with where the tasks are from."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def draw(
        self,
        seed: int,
        index: int,
        split: str = "train",
        curvature: str | None = "hesscale",
        execution: Execution | None = None,
        dtype: Any = np.float32,
    ) -> Episode:
        """Return episode number ``index``: a pure function of the arguments."""
        rng = generator(seed, f"{split} episode", index)
        data = _weighted(rng, self.description["data"])
        pictures = self._pictures[data["name"], data.get("shrink", 1), split]
        network = self._network(rng, _weighted(rng, self.description["network"]), pictures)
        sizes = [n for n in self.description["batch_sizes"] if n <= len(pictures.labels)]
        if not sizes:
            raise InputError(
                f"{self.source}: no batch size fits the {len(pictures.labels)} pictures drawn from"
            )
        batch_size = int(rng.choice(sizes))
        spread = self.description.get("initial_log_scale", 0.0)
        theta = network.init(rng, dtype) * np.exp(rng.uniform(-spread, spread)).astype(dtype)
        return Episode(
            Classification(network, curvature, execution or Execution(), seed),
            theta,
            pictures._replace(x=pictures.x.astype(dtype, copy=False)),
            batch_size,
            seed,
            index,
            f"{data['name']} {network.input_shape}, {network.layout.n_coordinates} parameters, "
            f"batch {batch_size}",
        )


def _weighted(rng: np.random.Generator, tables: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    weights = np.array([table.get("weight", 1) for table in tables], float)
    return tables[int(rng.choice(len(tables), p=weights / weights.sum()))]


def _shrunk(dataset: Dataset, name: str, factor: int) -> Pictures:
    """Return the pictures of the split called ``name``, each block of factor x factor pixels averaged."""
    split = dataset.split(name)
    x, labels = split.batch(np.arange(split.n_samples))
    c, h, w, n = x.shape
    if h % factor or w % factor:
        raise InputError(f"pictures of {h} x {w} cannot be shrunk {factor} times")
    x = x.reshape(c, h // factor, factor, w // factor, factor, n).mean((2, 4))
    return Pictures(x / x.std(), labels, len(dataset.class_names), fingerprint(dataset))


def _draw_network(rng: np.random.Generator, table: Mapping[str, Any], pictures: Pictures) -> Sequential:
    shape = pictures.x.shape[:3]
    low, high = table.get("channels", (4, 8))
    layers: list[Layer] = []
    for number in range(int(rng.choice(table.get("convolutions", [1])))):
        size = int(rng.choice(table.get("kernels", [3]))) if number == 0 else 3
        n_out = int(rng.integers(low, high + 1))
        layers += [Conv2D(shape[0], n_out, size, padding="same"), Activation("relu"), MaxPool2D(2)]
        rows, columns = shape[1] // 2, shape[2] // 2
        if not rows or not columns:
            raise InputError(
                f"convolution {number + 1} gets {shape[1]} x {shape[2]} pixels, too few for the max pooling "
                "after it: take fewer convolutions, or larger pictures"
            )
        shape = (n_out, rows, columns)
    layers.append(Flatten())
    n_in = int(np.prod(shape))
    hidden = int(rng.choice(table.get("hidden_units", [0])))
    if hidden:
        layers += [FullyConnected(n_in, hidden), Activation("relu")]
    layers.append(FullyConnected(hidden or n_in, pictures.n_classes))
    return Sequential(tuple(layers), SoftmaxCrossEntropy(), pictures.x.shape[:3])
