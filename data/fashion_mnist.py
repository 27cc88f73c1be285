"""Fashion-MNIST: 60,000 + 10,000 pictures of clothes of 28x28 grey pixels, in MNIST's file format.

Xiao, Rasul, Vollgraf: Fashion-MNIST (2017). MIT licence.
"""

from __future__ import annotations

from pathlib import Path

from l2lnp.data.dataset import Arrays
from l2lnp.data.hdf5 import Description
from l2lnp.data.mnist import read_idx_folder

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PROVENANCE = "Fashion-MNIST, Xiao, Rasul and Vollgraf (2017), from the official idx files; MIT licence"


def read_fashion_mnist(folder: Path) -> tuple[Description, Arrays]:
    """Return the data set in the four official files in ``folder``, plain or gzipped.

    Raises
    ------
    InputError
        If a file is missing or damaged, or holds something else than 28x28 pictures of 10 classes.
    """
    return Description("fashion-mnist", CLASS_NAMES, (28, 28, 1), PROVENANCE), read_idx_folder(folder)
