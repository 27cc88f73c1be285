"""Fashion-MNIST: 60,000 + 10,000 pictures of clothes of 28x28 grey pixels, in MNIST's file format.

Xiao, Rasul, Vollgraf: Fashion-MNIST (2017). MIT licence.
"""

from __future__ import annotations

from pathlib import Path

from l2lnp.data.dataset import Arrays
from l2lnp.data.hdf5 import Description
from l2lnp.data.mnist import idx_downloads, read_idx_folder

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
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
DOWNLOADS = idx_downloads(MIRRORS, SHA256)
PROVENANCE = "Fashion-MNIST, Xiao, Rasul and Vollgraf (2017), from the official idx files; MIT licence"


def read_fashion_mnist(folder: Path) -> tuple[Description, Arrays]:
    """Return the data set in the four official files in ``folder``, plain or gzipped.

    Raises
    ------
    InputError
        If a file is missing or damaged, or holds something else than 28x28 pictures of 10 classes.
    """
    return Description("fashion-mnist", CLASS_NAMES, (28, 28, 1), PROVENANCE), read_idx_folder(folder)
