"""ImageNet, ILSVRC2012: 1,281,167 + 50,000 photos in 1,000 classes, from the official files.

Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge (2015). For
non-commercial research. Read are folders and tar archives, also in each other:

* training: ``<wnid>/*.JPEG``, or the official ``ILSVRC2012_img_train.tar`` with ``<wnid>.tar`` in it;
* validation (the group ``test`` of the file): ``ILSVRC2012_val_<number>.JPEG`` with the development
  kit's ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat``, or sorted into ``val/<wnid>/``.

Labels are the places of the wnids in their sorted order.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from pathlib import Path

from l2lnp.data.pictures import Pictures, PictureSet, picture_set
from l2lnp.data.places import Entry, read_entry, walk
from l2lnp.data.tar import tar_members
from l2lnp.errors import InputError

PROVENANCE = "ImageNet ILSVRC2012 (Russakovsky et al. 2015), for non-commercial research"

_WNID = r"(n\d{8})"
_BY_CLASS = re.compile(rf"(?:^|.*/){_WNID}(?:\.tar)?/[^/]+\.JPEG")
_VALIDATION = re.compile(r"(?:^|.*/)ILSVRC2012_val_(\d{8})\.JPEG")
_IN_VALIDATION = re.compile(r"(?:^|.*/)(?:val|ILSVRC2012_img_val\.tar)/.*")
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_NAMES = "LOC_synset_mapping.txt"
_KIT = "ILSVRC2012_devkit_t12.tar.gz"
_FINE_GRAINED = "ILSVRC2012_img_train_t3.tar/"  # photos of dogs that the training archive has too
_MOST_KIT_BYTES = 1 << 25  # unpacked
_MAT_HEADER, _MAT_COMPRESSED = 128, 15


def list_imagenet(path: Path) -> PictureSet:
    """Return the pictures in the folder or tar archive ``path``.

    Raises
    ------
    InputError
        If there are none, or validation pictures without what says their classes.
    """
    train, test = Pictures(), Pictures()
    unsorted: list[tuple[int, Entry]] = []
    kit: dict[str, Entry] = {}
    for entry in walk(path):
        file_name = entry.name.rpartition("/")[2]
        numbered = _VALIDATION.fullmatch(entry.name)
        if file_name in (_TRUTH, _META, _NAMES, _KIT):
            kit[file_name] = entry
        elif _FINE_GRAINED in entry.name:
            continue
        elif by_class := _BY_CLASS.fullmatch(entry.name):
            is_test = numbered or _IN_VALIDATION.fullmatch(entry.name)
            (test if is_test else train).add(entry, by_class[1])
        elif numbered:
            unsorted.append((int(numbered[1]), entry))
    wnids, names = _classes(kit, path, needed=bool(unsorted))
    if unsorted:
        truth = _ground_truth(kit, path)
        for number, entry in unsorted:
            if not 0 < number <= len(truth) or truth[number - 1] not in wnids:
                raise InputError(f"{path}: {_TRUTH} and {_META} say no class for {entry.name}")
            test.add(entry, wnids[truth[number - 1]])
    layout = "train/<wnid>/*.JPEG or the official archives"
    return picture_set("imagenet", names, PROVENANCE, train, test, str(path), layout)


def _classes(kit: dict[str, Entry], path: Path, needed: bool) -> tuple[dict[int, str], dict[str, str]]:
    """Return wnids by the kit's class numbers, and what the classes are called by wnid."""
    names = names_by_wnid(read_entry(kit[_NAMES])) if _NAMES in kit else {}
    content = _kit_file(kit, _META)
    if content is None:
        if needed:
            raise InputError(f"{path} holds validation pictures but no {_META}: add the development kit")
        return {}, names
    wnids, words = read_meta(content, f"{path} ({_META})")
    return wnids, names or words


def _ground_truth(kit: dict[str, Entry], path: Path) -> list[int]:
    """Return the class number of each validation picture."""
    content = _kit_file(kit, _TRUTH)
    if content is None:
        raise InputError(f"{path} holds validation pictures but no {_TRUTH}: add the development kit")
    lines = content.split()
    if not all(line.isdigit() and len(line) < 6 for line in lines):
        raise InputError(f"{path}: {_TRUTH} holds something else than one class number a line")
    return [int(line) for line in lines]


def names_by_wnid(content: bytes) -> dict[str, str]:
    """Return names by wnid from lines ``<wnid> <name>``, parted by a space or a tab."""
    lines = content.decode("utf-8", "replace").splitlines()
    pairs = (line.replace("\t", " ").partition(" ") for line in lines)
    return {wnid: name.strip() for wnid, _, name in pairs}


def _kit_file(kit: dict[str, Entry], name: str) -> bytes | None:
    """Return a file of the development kit: unpacked, or out of its official archive."""
    if name in kit:
        return read_entry(kit[name])
    if _KIT not in kit:
        return None
    archive = gzip.GzipFile(fileobj=io.BytesIO(read_entry(kit[_KIT])))
    label = str(kit[_KIT].path)
    try:
        for member in tar_members(archive, label, _MOST_KIT_BYTES):
            if member.name.rpartition("/")[2] == name:
                archive.seek(member.offset)
                return archive.read(member.size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {label}: {error}") from None
    return None


def read_meta(content: bytes, label: str) -> tuple[dict[int, str], dict[str, str]]:
    """Return, from the kit's ``meta.mat``, wnids by class number and words by wnid.

    Raises
    ------
    InputError
        If it is damaged or holds something else.
    """
    import scipy.io  # here, for it takes long to load

    try:
        synsets = scipy.io.loadmat(io.BytesIO(_uncompressed(content)), squeeze_me=True)["synsets"]
        numbers = [int(number) for number in synsets["ILSVRC2012_ID"]]
        wnids = [str(wnid) for wnid in synsets["WNID"]]
        words = [str(text) for text in synsets["words"]]
    except Exception as error:  # scipy raises every type there is on damaged files
        raise InputError(f"{label} is damaged, or no list of synsets ({type(error).__name__})") from None
    if not all(re.fullmatch(_WNID, wnid) for wnid in wnids):
        raise InputError(f"{label} holds class identifiers that are no wnids")
    return dict(zip(numbers, wnids, strict=True)), dict(zip(wnids, words, strict=True))


def _uncompressed(content: bytes) -> bytes:
    """Unpack the packed elements of a MATLAB 5 file, in bounded memory: scipy itself would bound nothing."""
    parts, place = [content[:_MAT_HEADER]], _MAT_HEADER
    most_bytes = _MOST_KIT_BYTES
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, place)
        element = content[place : place + 8 + size]
        if kind == _MAT_COMPRESSED:
            element = zlib.decompressobj().decompress(element[8:], most_bytes)
        most_bytes = max(1, most_bytes - len(element))
        parts.append(element)
        place += 8 + size
    return b"".join(parts)
