"""A user's own pictures: ``<split>/<class>/*.png`` or ``.jpg``, in a folder, a tar or a zip.

The splits are ``train`` and ``test``; where there is no ``test``, ``val`` (``valid``,
``validation``) takes its place. Labels are the places of the class names in their sorted order.
"""

from __future__ import annotations

import re
from pathlib import Path

from l2lnp.data.pictures import Pictures, PictureSet, picture_set
from l2lnp.data.places import walk
from l2lnp.errors import InputError

_PICTURE = re.compile(
    r"(?:[^/]+/)??(train|test|val|valid|validation)/([^/]+)/[^/]+\.(?:png|jpe?g)", re.IGNORECASE
)
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
        if match := _PICTURE.fullmatch(entry.name):
            splits.setdefault(match[1].lower(), Pictures()).add(entry, match[2])
        else:
            left_out.append(entry.name)
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
    pictures = picture_set("folder", {}, provenance, train, test, str(path), "train/<class>/*.png or .jpg")
    pictures.name = own_name
    if left_out:
        files, be = ("file", "is") if len(left_out) == 1 else ("files", "are")
        pictures.notes.append(
            f"{len(left_out)} {files} that {be} no .png or .jpg in <split>/<class>/ {be} left out, "
            f"the first: {left_out[0]!r}"
        )
    if used != "test":
        pictures.notes.append(f"the pictures in {used} become the group test")
    pictures.notes += [f"the pictures in {name} are not used" for name in splits]
    return pictures
