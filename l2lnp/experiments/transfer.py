"""Transfer: LSTMs learned on the layers of one network, taken to another by the kinds of layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import checksum
from l2lnp.experiments.job import loaded, network_text
from l2lnp.files import make_folder
from l2lnp.networks import NetworkFile
from l2lnp.pretrained import LearnedOptimizer, load_learned_optimizer, save_learned_optimizer
from l2lnp.tree import Layout


def layout_of(data: str, data_dir: str | None, network: str) -> Layout:
    """Return the layout of the network called ``network`` for these data."""
    dataset = loaded(data, data_dir)
    rows, columns, channels = dataset.image_shape
    file = NetworkFile(network, network_text(data, data_dir, network))
    return file.build((channels, rows, columns), len(dataset.class_names)).layout


def by_kind(learned: LearnedOptimizer, layout: Layout) -> LearnedOptimizer:
    """Return ``learned``, whose LSTMs belong to the layers of ``layout``, with one for each kind of layer.

    One that has an LSTM for each kind already is returned as it is.

    Raises
    ------
    InputError
        If it is for other layers, or several layers are of one kind: which LSTM should serve is not said.
    """
    if learned.settings.get("per") == "kind":
        return learned
    kinds = {str(index): kind for index, (kind, _) in layout.layers.items()}
    layers = {key.partition("/")[0] for key in learned.phi}
    if layers != set(kinds):
        raise InputError(
            f"the learned optimizer is for layers {', '.join(sorted(layers))}, not for those of the network "
            f"it should have been learned on ({', '.join(kinds)}): give that one by --learned-on"
        )
    if len(set(kinds.values())) < len(kinds):
        raise InputError(
            f"layers {', '.join(f'{i} ({kind})' for i, kind in kinds.items())} have LSTMs of their own, and "
            f"several are of one kind: only one for each kind can be taken to another network"
        )
    phi = {
        f"{kinds[layer]}/{rest}": value
        for (layer, _, rest), value in ((key.partition("/"), value) for key, value in learned.phi.items())
    }
    return replace(learned, phi=phi, settings={**learned.settings, "per": "kind"})


def file_by_kind(name_or_path: str, layout: Layout, folder: Path) -> str:
    """Return a file with the learned optimizer `by_kind`: written into ``folder`` where it is another one."""
    learned = load_learned_optimizer(name_or_path)
    mapped = by_kind(learned, layout)
    if mapped is learned:
        return name_or_path
    path = folder / f"by-kind-{checksum(name_or_path)[:16]}.h5"
    make_folder(folder)
    save_learned_optimizer(path, mapped)
    return str(path)
