"""Tiny ImageNet: 100,000 + 10,000 colour pictures of 64x64 in 200 classes, from the official layout.

Stanford CS231n (2015), cut from ImageNet: for non-commercial research. Read are the
folder, a tar or the official zip: ``train/<wnid>/images/*.JPEG``, and ``val/images``
with ``val_annotations.txt`` for the group ``test`` (the pictures in the official
``test`` have no labels). Labels are the places of the wnids in their sorted order.
"""

from __future__ import annotations

import re
from pathlib import Path

from l2lnp.data.imagenet import names_by_wnid
from l2lnp.data.pictures import Pictures, PictureSet, picture_set
from l2lnp.data.places import Entry, read_entry, walk
from l2lnp.errors import InputError

PROVENANCE = "Tiny ImageNet (Stanford CS231n, 2015), cut from ImageNet, for non-commercial research"

_TRAIN = re.compile(r"(?:^|.*/)train/(n\d{8})/images/[^/]+\.JPEG")
_TEST = re.compile(r"(?:^|.*/)val/images/([^/]+\.JPEG)")
_LISTS = re.compile(r"(?:^|.*/)(val/val_annotations\.txt|words\.txt)")


def list_tiny_imagenet(path: Path) -> PictureSet:
    """Return the pictures in the folder, tar or zip ``path``.

    Raises
    ------
    InputError
        If there are none, or validation pictures that ``val_annotations.txt`` does not name.
    """
    train, test = Pictures(), Pictures()
    validation: list[tuple[str, Entry]] = []
    lists: dict[str, Entry] = {}
    for entry in walk(path):
        if match := _TRAIN.fullmatch(entry.name):
            train.add(entry, match[1])
        elif match := _TEST.fullmatch(entry.name):
            validation.append((match[1], entry))
        elif match := _LISTS.fullmatch(entry.name):
            lists[match[1]] = entry
    wnids = _annotations(lists.get("val/val_annotations.txt"))
    for file_name, entry in validation:
        if file_name not in wnids:
            raise InputError(f"{path}: val_annotations.txt is missing, or says no class for {file_name}")
        test.add(entry, wnids[file_name])
    names = names_by_wnid(read_entry(lists["words.txt"])) if "words.txt" in lists else {}
    layout = "train/<wnid>/images/*.JPEG"
    return picture_set("tiny-imagenet", names, PROVENANCE, train, test, str(path), layout)


def _annotations(entry: Entry | None) -> dict[str, str]:
    """Return the wnid of each file from lines ``<file> <wnid> <box>``."""
    if entry is None:
        return {}
    lines = (line.split() for line in read_entry(entry).decode("utf-8", "replace").splitlines())
    return {fields[0]: fields[1] for fields in lines if len(fields) > 1}
