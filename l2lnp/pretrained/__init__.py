"""Learned optimizers as HDF5 files: those that come with the package, and your own (``docs/runs.md``).

A file has one group ``phi`` with the weights, ``phi/<layer index or kind>/<part>/<w or b>``;
what else is needed to use them stands in the group's attributes. A run's ``checkpoint.h5``
has the same group and can be read here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from l2lnp.errors import InputError, unknown_name
from l2lnp.optimizers import OPTIMIZERS, default_settings
from l2lnp.optimizers.features import FEATURES
from l2lnp.sealed import read_sealed, read_tree, write_sealed, write_tree
from l2lnp.tree import Layout

FORMAT_VERSION = 1
RANDOM = "random"  # in place of a name or file: random weights, which have learned nothing
RELATED = {"lstm": "fully_connected"}  # whose LSTM serves a kind of layer that has none: both are matrices

_SUFFIXES = (".h5", ".hdf5")
_OWN = ("format_version", "optimizer", "curvature", "provenance")  # all other attributes are settings


@dataclass(frozen=True)
class LearnedOptimizer:
    """An optimizer's meta-parameters phi, and what is needed to use them."""

    name: str  # of the optimizer: "slstm"
    settings: Mapping[str, Any]  # of the optimizer: features, sizes, ...
    curvature: str | None  # the mode that gave h, where the optimizer reads h
    phi: Mapping[str, np.ndarray]
    provenance: str

    def fitted(self, template: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the weights named in ``template``, in its types: those that one network needs.

        A kind of layer that the optimizer has never met gets the LSTM of the most similar one (`RELATED`).

        Raises
        ------
        InputError
            If one is missing or of another shape.
        """
        found = {}
        for key, wanted in template.items():
            needed, _, path = key.partition("/")
            group = self._group(needed)
            own = f"{group}/{path}"
            if group not in self._groups:
                raise InputError(
                    f"this network needs an LSTM '{needed}', but the learned optimizer has only: "
                    f"{', '.join(self._groups)}; take one with an LSTM for each kind of layer, such as slstm"
                )
            if own not in self.phi:
                raise InputError(f"the learned optimizer lacks {own}: its file is not whole, take another")
            if self.phi[own].shape != wanted.shape:
                raise InputError(
                    f"the learned optimizer's {own} is {self.phi[own].shape}, where {wanted.shape} is needed"
                )
            found[key] = self.phi[own].astype(wanted.dtype)
        return found

    @property
    def _groups(self) -> list[str]:
        return sorted({key.partition("/")[0] for key in self.phi})

    def _group(self, needed: str) -> str:
        return needed if needed in self._groups else RELATED.get(needed, needed)

    def for_each_layer(self, layout: Layout) -> LearnedOptimizer:
        """Return it with an LSTM of its own for each layer, copied from that of the layer's kind.

        A kind that it has never met gets the LSTM of the most similar one (`RELATED`).
        """
        of_kinds = dict.fromkeys((str(t.layer), t.kind) for t in layout.tensors)
        phi = {
            f"{layer}/{key.partition('/')[2]}": value
            for layer, kind in of_kinds
            for key, value in self.phi.items()
            if key.partition("/")[0] == self._group(kind)
        }
        return replace(self, settings={**self.settings, "per": "layer"}, phi=phi)

    def reading(self, features: Sequence[str]) -> LearnedOptimizer:
        """Return it reading ``features``: one that is new to it has the weight zero, and changes nothing.

        Raises
        ------
        InputError
            If one that it has learned to read is left out.
        """
        known, stop = {}, 0
        for name in {**default_settings(self.name), **self.settings}["features"]:
            known[name] = slice(stop, stop := stop + FEATURES[name].n_rows)
        if left_out := [name for name in known if name not in features]:
            raise InputError(
                f"the learned optimizer reads {', '.join(left_out)}: name them among its features"
            )

        def with_columns(w: np.ndarray) -> np.ndarray:
            unread = {name: np.zeros((len(w), FEATURES[name].n_rows), w.dtype) for name in features}
            of_features = [w[:, known[name]] if name in known else unread[name] for name in features]
            return np.concatenate([*of_features, w[:, stop:]], axis=1)

        phi = {key: with_columns(w) if key.endswith("lstm1/w") else w for key, w in self.phi.items()}
        return replace(self, settings={**self.settings, "features": list(features)}, phi=phi)


def pretrained_names() -> list[str]:
    """Return the names of the learned optimizers that come with the package."""
    return sorted(file.name[:-3] for file in resources.files(__name__).iterdir() if file.name.endswith(".h5"))


def load_learned_optimizer(name_or_path: str) -> LearnedOptimizer:
    """Return the learned optimizer of that name, or in that file, checkpoint or run folder.

    Raises
    ------
    InputError
        If there is none, the file is damaged, or what it holds learns nothing.
    """
    path = find_learned_file(name_or_path)
    learned = read_sealed(path, "learned optimizer", lambda file: read_phi(file["phi"]))
    if learned.name not in OPTIMIZERS:
        raise InputError(f"{path}: {unknown_name('optimizer', learned.name, OPTIMIZERS)}")
    if not OPTIMIZERS[learned.name].learned:
        raise InputError(
            f"{path} holds {learned.name}, which learns nothing: "
            "give the file of a learned optimizer, or of a run with one, such as slstm"
        )
    return learned


def find_learned_file(name_or_path: str) -> Path:
    """Return the file that a learned optimizer's name, file, or run folder stands for, in this order."""
    if name_or_path in pretrained_names():
        return Path(str(resources.files(__name__) / f"{name_or_path}.h5"))
    path = Path(name_or_path)
    if path.is_dir():
        own = path / "learned.h5"  # of meta-training
        return own if own.exists() else path / "checkpoint.h5"
    if name_or_path.endswith(_SUFFIXES):
        return path
    raise unknown_name("learned optimizer", name_or_path, [*pretrained_names(), "or a file FILE.h5"])


def save_learned_optimizer(path: Path, learned: LearnedOptimizer) -> None:
    """Write ``learned`` to the file ``path``, in one step."""
    write_sealed(path, lambda file: write_phi(file.create_group("phi"), learned))


def write_phi(group: h5py.Group, learned: LearnedOptimizer) -> None:
    """Write weights and attributes into the group ``phi``."""
    write_tree(group, learned.phi)
    for name, value in learned.settings.items():
        group.attrs[name] = value
    group.attrs["format_version"] = FORMAT_VERSION
    group.attrs["optimizer"] = learned.name
    group.attrs["curvature"] = learned.curvature or ""
    group.attrs["provenance"] = learned.provenance


def read_phi(group: h5py.Group) -> LearnedOptimizer:
    """Return what `write_phi` wrote."""
    version = int(group.attrs["format_version"])
    if version != FORMAT_VERSION:
        raise InputError(
            f"its format version {version} is not {FORMAT_VERSION}: it is from another version of l2lnp"
        )
    phi = read_tree(group)
    for key, value in phi.items():
        if not np.isfinite(value).all():
            raise InputError(f"its {key} is not finite: take an earlier copy of the file")
    return LearnedOptimizer(
        name=str(group.attrs["optimizer"]),
        settings={name: _plain(value) for name, value in group.attrs.items() if name not in _OWN},
        curvature=str(group.attrs["curvature"]) or None,
        phi=phi,
        provenance=str(group.attrs["provenance"]),
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
