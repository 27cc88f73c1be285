"""Networks by name, or from a TOML file of one's own (``docs/network_files.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from l2lnp.errors import unknown_name
from l2lnp.files import read_text
from l2lnp.layers.base import Shape
from l2lnp.network import Sequential
from l2lnp.networks.reader import read_network

NETWORKS = ("small", "big", "row-lstm")

_VARIANTS: dict[
    tuple[object, ...], str
] = {  # networks of another size for some pictures, by (name, rows, columns)
    ("small", 8, 8): "small-digits",
    ("big", 8, 8): "big-digits",
}


@dataclass(frozen=True)
class NetworkFile:
    """A network's description as it was read: ``text`` in TOML, and where it came from."""

    source: str
    text: str

    def build(self, input_shape: Shape, n_classes: int) -> Sequential:
        """Return the network for inputs (C, H, W) and ``n_classes`` classes."""
        return read_network(self.text, self.source, input_shape, n_classes)


def find_network(name_or_path: str | Path, input_shape: Shape) -> NetworkFile:
    """Return the network called ``name_or_path``, or described in that TOML file.

    Raises
    ------
    InputError
        If there is no such name, or the file cannot be read.
    """
    name = str(name_or_path)
    if is_path(name):
        return NetworkFile(name, read_text(Path(name)).removeprefix("\ufeff"))
    if name not in NETWORKS:
        raise unknown_name("network", name, [*NETWORKS, "or a file FILE.toml"])
    variant = _VARIANTS.get((name, *input_shape[1:]), name)
    text = (resources.files(__name__) / f"{variant}.toml").read_text(encoding="utf-8")
    return NetworkFile(f"network {name}", text)


def is_path(name_or_path: str) -> bool:
    """Return whether a network is asked for as a file rather than by name."""
    return name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path
