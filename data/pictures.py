"""Picture files with their classes, listed compactly enough for the 1.28 million of ILSVRC2012."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from l2lnp.data.places import Entry
from l2lnp.errors import InputError

_FIELDS = 5  # numbers of an entry: container, offset, stored, size, deflated


class _Numbering:
    """Numbers for names, in the order of their first mention."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


class Pictures:
    """Entries and the class of each, about 150 bytes a picture."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers = array("q")
        self._containers = _Numbering()
        self._class_of = array("q")
        self._classes = _Numbering()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Entry:
        container, offset, stored, size, deflated = self._numbers[_FIELDS * i : _FIELDS * (i + 1)]
        return Entry(self._names[i], self._containers.names[container], offset, stored, size, bool(deflated))

    def add(self, entry: Entry, class_id: str) -> None:
        """Append a picture of the class ``class_id``."""
        container = self._containers.number(entry.container)
        self._names.append(entry.name)
        self._numbers.extend((container, entry.offset, entry.stored, entry.size, entry.deflated))
        self._class_of.append(self._classes.number(class_id))

    @property
    def class_ids(self) -> list[str]:
        """The classes there are pictures of, sorted."""
        return sorted(self._classes.names)

    def labels(self, class_ids: Sequence[str]) -> np.ndarray:
        """Return the place of each picture's class in ``class_ids`` (N,), or -1."""
        places = {class_id: i for i, class_id in enumerate(class_ids)}
        numbers = np.array([places.get(class_id, -1) for class_id in self._classes.names], np.int64)
        return numbers[np.array(self._class_of, np.int64)] if len(self) else np.empty(0, np.int64)

    def of_classes(self, class_ids: Sequence[str]) -> Pictures:
        """Return the pictures of these classes alone."""
        return self._where(self.labels(class_ids) >= 0)

    def parted(self, share: float) -> tuple[Pictures, Pictures]:
        """Return all but ``share`` of each class's pictures, and these: one at least, if there are two.

        They are those whose names have the smallest SHA-256, whatever order the pictures came in.
        """
        is_taken = np.zeros(len(self), bool)
        labels = self.labels(self.class_ids)
        for label in range(len(self.class_ids)):
            members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: _sha256(self._names[i]))
            n = min(max(1, round(share * len(members))), len(members) - 1)
            is_taken[members[:n]] = True
        return self._where(~is_taken), self._where(is_taken)

    def _where(self, is_kept: np.ndarray) -> Pictures:
        kept = Pictures()
        for i in np.flatnonzero(is_kept).tolist():
            kept.add(self[i], self._classes.names[self._class_of[i]])
        return kept

    def digest(self) -> str:
        """Return a checksum of the list: of names, places, sizes and classes."""
        sha256 = hashlib.sha256("\n".join(self._names).encode("utf-8", "surrogateescape"))
        sha256.update(json.dumps([self._containers.names, self._classes.names]).encode())
        sha256.update(self._numbers.tobytes() + self._class_of.tobytes())
        return sha256.hexdigest()


def _sha256(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


@dataclass
class PictureSet:
    """A data set as its official files have it: undecoded pictures, in the splits train and test."""

    name: str
    class_ids: list[str]  # label i is of class_ids[i]
    class_names: list[str]
    provenance: str
    splits: dict[str, Pictures]
    notes: list[str] = field(default_factory=list)  # what the user should know

    def hold_out(self, share: float) -> None:
        """Make ``share`` of each class's training pictures the group ``test`` (`Pictures.parted`)."""
        train = self.splits["train"]
        kept, held_out = train.parted(share)
        self.splits = {"train": kept, "test": held_out}
        self.notes.append(
            f"there are no test pictures: {len(held_out)} of the {len(train)} training pictures become them, "
            f"{share:g} of each class (--test-share)"
        )


def picture_set(
    name: str,
    names: dict[str, str],
    provenance: str,
    train: Pictures,
    test: Pictures,
    source: str,
    layout: str,
) -> PictureSet:
    """Return the set whose classes are those of ``train``; test pictures of others are left out.

    Parameters
    ----------
    names
        What to call the classes, by their identifiers; those not in it are called by these.
    source
        Where the pictures come from, for messages.
    layout
        How training pictures are named, for the message where there are none.

    Raises
    ------
    InputError
        If there is no training picture.
    """
    if not len(train):
        raise InputError(f"{source} holds no training pictures in the layout of {name}: {layout}")
    class_ids = train.class_ids
    known = test.of_classes(class_ids)
    notes = []
    if len(known) < len(test):
        left_out = len(test) - len(known)
        notes.append(f"{left_out} test pictures of classes without training pictures are left out")
    class_names = [f"{i} {names[i]}" if i in names else i for i in class_ids]
    for class_name in class_names:
        if not class_name.isprintable():
            raise InputError(f"{source} has the class {class_name!r}, whose name cannot be shown")
    return PictureSet(name, class_ids, class_names, provenance, {"train": train, "test": known}, notes)
