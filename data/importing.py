"""Decode the pictures of a data set into an HDF5 file: in parallel, in constant memory, resumable.

All work happens in a hidden folder beside the file: ``images.h5``, which has room for
every picture from the beginning, and ``journal.json``, which says how far it is filled.
Pictures are written before the journal says so, and nothing but their bytes changes in
``images.h5``; so an import that was stopped in any way goes on where the journal says.
The pictures are put in a random order (by seed 0), so that neighbours in the file are
of different classes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from l2lnp.data.disk_room import check_room
from l2lnp.data.hdf5 import (
    FORMAT_VERSION,
    SPLITS,
    Description,
    as_text,
    compress_file,
    create_file,
    examine,
    most_bytes,
    publish,
    seal,
)
from l2lnp.data.pictures import PictureSet
from l2lnp.data.workers import Decoded, Job, decode_all
from l2lnp.errors import InputError
from l2lnp.files import cannot, refuse_existing, replace_file, sync
from l2lnp.lock import locked

_JOB_PICTURES = 32
_PIECES_WORTH_A_PROCESS = 16
_CHECKPOINT_BYTES = 1 << 26  # of pictures, after which the journal is written


@dataclass(frozen=True)
class Settings:
    """How pictures become a file."""

    image_shape: tuple[int, int, int]  # (H, W, C)
    skip_bad: bool = False  # leave out pictures that cannot be decoded, instead of stopping
    compress: bool = False
    n_workers: int = 1


@dataclass
class Progress:
    """How far an import has come: the contents of the journal."""

    fingerprint: str  # of the pictures and their size
    tried: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bad: list[str] = field(default_factory=list)  # what was skipped, and why
    finishing: bool = False  # the structure of images.h5 is being changed: nothing can go on from there


Report = Callable[[int, int], None]  # is told how many pictures are done, of how many


def import_pictures(
    pictures: PictureSet,
    out: Path,
    settings: Settings,
    report: Report,
    waiting: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write the file ``out``, and return what was skipped; ``waiting`` is called if another process does it.

    Raises
    ------
    InputError
        If ``out`` exists, the disk is too small, or a picture is bad and not to be skipped.
    """
    refuse_existing(out)
    work = out.with_name(f".{out.name}.importing")
    with locked(work / "lock", waiting):
        refuse_existing(out)  # whoever held the lock may have written it
        try:
            importing = _Importing(pictures, work, out, settings, report)
            importing.run()
            importing.finish()
        except OSError as error:
            raise cannot("write", out, error) from error
    shutil.rmtree(work, ignore_errors=True)
    return importing.progress.bad


class _Importing:
    def __init__(
        self, pictures: PictureSet, work: Path, out: Path, settings: Settings, report: Report
    ) -> None:
        self._pictures, self._out, self._settings, self._report = pictures, out, settings, report
        self._file_path, self._journal = work / "images.h5", work / "journal.json"
        self._sizes = {split: len(pictures.splits[split]) for split in SPLITS}
        self._labels = {split: pictures.splits[split].labels(pictures.class_ids) for split in SPLITS}
        self.progress = self._begin_or_go_on()

    def _begin_or_go_on(self) -> Progress:
        fingerprint = self._fingerprint()
        progress = self._stopped_at()
        if progress is not None and progress.fingerprint == fingerprint and not progress.finishing:
            return progress
        description = self._description(self._pictures.provenance)
        if self._settings.compress:  # the packed file is written beside the whole one
            both = sum(most_bytes(description, self._sizes, compress) for compress in (False, True))
            check_room(self._out, self._file_path, both)
        create_file(self._file_path, self._out, description, self._sizes)
        progress = Progress(fingerprint)
        self._write_journal(progress)
        return progress

    def _stopped_at(self) -> Progress | None:
        """Return what the journal says, or None where it or ``images.h5`` is missing or damaged."""
        try:
            progress = Progress(**json.loads(self._journal.read_text()))
            with h5py.File(self._file_path, "r") as file:
                for split in SPLITS:
                    room = min(len(file[split][kind]) for kind in ("images", "labels"))
                    if not 0 <= progress.written[split] <= progress.tried[split] <= room:
                        return None
        except Exception:  # JSON and the HDF5 library raise nearly every type there is on damaged files
            return None
        return progress

    def _fingerprint(self) -> str:
        parts = [FORMAT_VERSION, self._pictures.name, self._pictures.class_names, self._settings.image_shape]
        parts += [self._pictures.splits[split].digest() for split in SPLITS]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _description(self, provenance: str) -> Description:
        names = tuple(self._pictures.class_names)
        return Description(self._pictures.name, names, self._settings.image_shape, provenance)

    def run(self) -> None:
        """Decode and write what is not yet written."""
        pieces = list(self._pieces())
        since_checkpoint = 0
        n_workers = min(self._settings.n_workers, 1 + len(pieces) // _PIECES_WORTH_A_PROCESS)
        outcomes = decode_all((self._job(*piece) for piece in pieces), n_workers)
        with h5py.File(self._file_path, "r+") as file:
            for (split, rows), decoded in zip(pieces, outcomes, strict=True):
                self._write(file[split], split, rows, decoded)
                since_checkpoint += decoded.images.nbytes
                if since_checkpoint >= _CHECKPOINT_BYTES:
                    self._checkpoint(file)
                    since_checkpoint = 0
                self._report(sum(self.progress.tried.values()), sum(self._sizes.values()))
            self._checkpoint(file)

    def _pieces(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the pictures still to be tried, few at a time: their split and places in its list."""
        for split in SPLITS:
            order = np.random.default_rng(0).permutation(self._sizes[split])
            for start in range(self.progress.tried[split], len(order), _JOB_PICTURES):
                yield split, order[start : start + _JOB_PICTURES]

    def _job(self, split: str, rows: np.ndarray) -> Job:
        listed = self._pictures.splits[split]
        return Job([listed[row] for row in rows.tolist()], self._settings.image_shape)

    def _write(self, group: h5py.Group, split: str, rows: np.ndarray, decoded: Decoded) -> None:
        if decoded.reasons and not self._settings.skip_bad:
            raise InputError(f"{decoded.reasons[0]}: mend or remove it, or leave such out with --skip-bad")
        start = self.progress.written[split]
        stop = start + len(decoded.images)
        group["images"][start:stop] = decoded.images
        group["labels"][start:stop] = self._labels[split][rows][decoded.good]
        self.progress.tried[split] += len(rows)
        self.progress.written[split] = stop
        self.progress.bad += decoded.reasons

    def _checkpoint(self, file: h5py.File) -> None:
        file.flush()
        sync(self._file_path)
        self._write_journal(self.progress)

    def _write_journal(self, progress: Progress) -> None:
        replace_file(self._journal, json.dumps(asdict(progress)).encode())

    def finish(self) -> None:
        """Complete the file and give it its name."""
        out = self._out
        sizes = self.progress.written
        if not sizes["train"]:
            raise InputError(f"none of the {self._sizes['train']} training pictures can be decoded")
        with h5py.File(self._file_path, "r") as file:
            findings = examine(file, out, sizes)
        self.progress.finishing = True
        self._write_journal(self.progress)
        with h5py.File(self._file_path, "r+") as file:
            for split, n in sizes.items():
                for kind in ("images", "labels"):
                    file[split][kind].resize(n, axis=0)
            file.attrs["provenance"] = as_text(self._provenance())
            seal(file, findings)
        if self._settings.compress:
            compress_file(self._file_path, out)
        else:
            publish(self._file_path, out)

    def _provenance(self) -> str:
        height, width, _ = self._settings.image_shape
        provenance = f"{self._pictures.provenance}; shorter side resized, centre cropped to {height}x{width}"
        bad = len(self.progress.bad)
        return f"{provenance}; {bad} pictures that could not be decoded left out" if bad else provenance
