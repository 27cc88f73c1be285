"""The data sets that are known by name: what they are, and how to get and read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from l2lnp.data import cifar10, fashion_mnist, mnist
from l2lnp.data.addresses import Download
from l2lnp.data.dataset import Arrays
from l2lnp.data.folder import list_folder
from l2lnp.data.hdf5 import Description
from l2lnp.data.imagenet import list_imagenet
from l2lnp.data.pictures import PictureSet
from l2lnp.data.tiny_imagenet import list_tiny_imagenet

ReadArrays = Callable[[Path], tuple[Description, Arrays]]


@dataclass(frozen=True)
class Known:
    """A data set that is known by name."""

    contents: str
    licence: str
    read: ReadArrays | None = None  # a small set: all of it from the user's files
    downloads: tuple[Download, ...] = ()
    read_downloads: ReadArrays | None = None  # the same from the folder with the downloads, if it differs
    list_pictures: Callable[[Path], PictureSet] | None = None  # a set of picture files to be decoded
    size: int = 0  # to which pictures are decoded unless the user says another
    test_share: float = 0.0  # of each class, held out where there are no test pictures; the same
    origin: str = ""  # where the user gets the files, if they cannot be downloaded here


KNOWN = {
    "digits": Known("1,797 digits, 8x8 grey", "CC BY 4.0"),
    "mnist": Known(
        "60,000 + 10,000 digits, 28x28 grey",
        "CC BY-SA 3.0",
        read=mnist.read_mnist,
        downloads=mnist.DOWNLOADS,
    ),
    "fashion-mnist": Known(
        "60,000 + 10,000 clothes, 28x28 grey",
        "MIT",
        read=fashion_mnist.read_fashion_mnist,
        downloads=fashion_mnist.DOWNLOADS,
    ),
    "cifar-10": Known(
        "50,000 + 10,000 photos, 32x32 colour",
        "none stated; for research",
        read=cifar10.read_cifar10,
        downloads=cifar10.DOWNLOADS,
        read_downloads=cifar10.read_official,
    ),
    "imagenet": Known(
        "1,281,167 + 50,000 photos, any size, 1,000 classes",
        "non-commercial research",
        list_pictures=list_imagenet,
        size=224,
        origin="register at image-net.org and download ILSVRC2012",
    ),
    "tiny-imagenet": Known(
        "100,000 + 10,000 photos, 64x64 colour, 200 classes",
        "non-commercial research",
        list_pictures=list_tiny_imagenet,
        size=64,
        origin="download tiny-imagenet-200.zip from Stanford's course CS231n, which publishes no checksum",
    ),
    "folder": Known(
        "your own pictures, <class>/*.png or .jpg, or <split>/<class>/*",
        "yours",
        list_pictures=list_folder,
        size=64,
        test_share=0.2,
        origin="put your pictures into <class>/, or train/<class>/ and test/<class>/",
    ),
}
