"""Files of data sets made by hand: pictures, archives, idx files, CIFAR-10 batches."""

import io
import os
import struct
import tarfile

import numpy as np
from PIL import Image

from l2lnp.errors import InputError

# How many times as many damaged files the slow tests read; at 1 they take two minutes in all.
FUZZ = int(os.environ.get("L2LNP_FUZZ", "1"))


def picture(content_seed, size=(20, 16), mode="RGB"):
    """A smooth random picture of (width, height), which survives JPEG nearly unchanged."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    small = np.random.default_rng(content_seed).integers(0, 256, (3, 3, bands), np.uint8)
    planes = [Image.fromarray(small[..., i]).resize(size) for i in range(bands)]
    return Image.merge(mode, planes)


def encoded(image, kind="JPEG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}), **settings)
    return buffer.getvalue()


def jpeg(content_seed, size=(20, 16)):
    return encoded(picture(content_seed, size))


def write_tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar_bytes(files, mode="w", layout=tarfile.USTAR_FORMAT):
    """A tar archive of {name: content}; a content that is a TarInfo is that entry itself."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=layout) as archive:
        for name, content in files.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def special(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def cifar_batch(planes, labels):
    """A batch as the official ones are: protocol 2, byte strings, an array as Python 2's NumPy wrote it."""
    rows, minus_one = struct.pack("<H", len(planes)), b"J\xff\xff\xff\xff"
    out = [b"\x80\x02}q\x01(U\x04dataq\x02"]
    out += [b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"]
    out += [b"(K\x01M", rows, b"M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"]
    out += [b"(K\x03U\x01|NNN", minus_one, minus_one, b"K\x00tb"]
    out += [b"\x89T", struct.pack("<I", planes.size), planes.tobytes(), b"tbU\x06labelsq\x08]q\x09("]
    out += [b"K" + bytes([label]) for label in labels]
    return b"".join([*out, b"eu."])


def outcome(read, *arguments):
    """What ``read`` returns, or the error that one sentence explains."""
    try:
        return read(*arguments)
    except InputError as error:
        return error


def is_sentence(error):
    return isinstance(error, InputError) and 10 < len(str(error)) < 1000 and "\n" not in str(error)
