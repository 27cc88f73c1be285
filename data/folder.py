"""A user's own pictures: ``<split>/<class>/*.png`` or ``.jpg``, in a folder, a tar or a zip.

The splits are ``train`` and ``test``; where there is no ``test``, ``val`` (``valid``,
``validation``) takes its place. Without folders of splits, ``<class>/*.png``, all are training pictures.
Labels are the places of the class names in their sorted order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from l2lnp.data.pictures import Pictures, PictureSet, picture_set
from l2lnp.data.places import Entry, walk
from l2lnp.errors import InputError

_SPLIT, _FILE = r"(train|test|val|valid|validation)/", r"([^/]+)/[^/]+\.(?:png|jpe?g)"
_IN_SPLIT = re.compile(rf"(?:[^/]+/)??{_SPLIT}{_FILE}", re.IGNORECASE)
_IN_CLASS = re.compile(rf"([^/]+/)??(?!{_SPLIT}){_FILE}", re.IGNORECASE)
_STAND_INS = ("val", "valid", "validation")


def list_folder(path: Path) -> PictureSet:
    """Return the pictures in the folder, tar or zip ``path``.

    Raises
    ------
    InputError
        If there are no training pictures, or test pictures of a class without any.
    """
    splits: dict[str, Pictures] = {}
    left_out = []
    for entry in walk(path):
        if match := _IN_SPLIT.fullmatch(entry.name):
            splits.setdefault(match[1].lower(), Pictures()).add(entry, match[2])
        else:
            left_out.append(entry)
    layout = "<split>/<class>/"
    if not splits:
        splits["train"], left_out = _without_splits(path, left_out)
        layout = "<class>/"
    train = splits.pop("train", Pictures())
    used = next((name for name in ("test", *_STAND_INS) if name in splits), "test")
    test = splits.pop(used, Pictures())
    unknown = sorted(set(test.class_ids) - set(train.class_ids))
    if len(train) and unknown:
        raise InputError(f"{path}: {used} has pictures of '{unknown[0]}', a class without training pictures")
    own_name = path.resolve().name
    if not own_name or not own_name.isprintable():
        own_name = "folder"  # of the root, or one whose name cannot be shown
    provenance = f"own pictures, from the folder {own_name}"
    own_layouts = "<class>/*.png or .jpg, or train/<class>/*"
    pictures = picture_set("folder", {}, provenance, train, test, str(path), own_layouts)
    pictures.name = own_name
    if left_out:
        files, be = ("file", "is") if len(left_out) == 1 else ("files", "are")
        pictures.notes.append(
            f"{len(left_out)} {files} that {be} no .png or .jpg in {layout} {be} left out, "
            f"the first: {left_out[0].name!r}"
        )
    if used != "test":
        pictures.notes.append(f"the pictures in {used} become the group test")
    pictures.notes += [f"the pictures in {name} are not used" for name in splits]
    if empty := _empty_folders(path):
        pictures.notes.append(f"{len(empty)} empty folders are no classes, the first: {empty[0]!r}")
    return pictures


def _empty_folders(path: Path) -> list[str]:
    """Return the folders in ``path``, if it is one, that nothing is in."""
    return sorted(
        os.path.relpath(folder, path) for folder, inner, files in os.walk(path) if not (inner or files)
    )


def _without_splits(path: Path, entries: Sequence[Entry]) -> tuple[Pictures, list[Entry]]:
    """Return the pictures in ``<class>/``, perhaps all in one folder more, and the entries left out."""
    pictures, parents, left_out = Pictures(), set(), []
    for entry in entries:
        if match := _IN_CLASS.fullmatch(entry.name):
            pictures.add(entry, match[3])
            parents.add(match[1] or "")
        else:
            left_out.append(entry)
    if len(parents) > 1:
        named = ", ".join(str(path / parent) for parent in sorted(parents)[:3])
        raise InputError(f"the folders of classes lie in {named}: name these train and test")
    return pictures, left_out
