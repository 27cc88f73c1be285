"""Make HDF5 files of data sets: from downloads, or from official files that the user has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from l2lnp.data.catalogue import Known
from l2lnp.data.download import Report, download
from l2lnp.data.hdf5 import write_dataset
from l2lnp.data.hdf5_reading import verify_file
from l2lnp.data.importing import Settings, import_pictures
from l2lnp.data.loading import BUNDLED, SUFFIXES, bundled_file, how_to_get, known_dataset
from l2lnp.data.pictures import PictureSet
from l2lnp.errors import InputError
from l2lnp.execution import available_cores
from l2lnp.files import make_folder, refuse_existing
from l2lnp.lock import locked

_MOST_SIDE = 4096  # of pictures that are imported


def fetch_dataset(
    name: str,
    folder: Path,
    report: Callable[[str], Report],
    say: Callable[[str], None],
) -> Path:
    """Download the data set ``name`` and write it to ``folder``, unless it is there and whole.

    Parameters
    ----------
    report
        Gives, for the name of a file, what is told of its download's progress.
    say
        Is told what else the user should know.

    Raises
    ------
    InputError
        If the set cannot be downloaded at all, or what is there already is damaged.
    l2lnp.data.download.DownloadError
        If no address serves a file.
    """
    known = known_dataset(name)
    if name == BUNDLED:
        return bundled_file()
    if not known.downloads:
        raise InputError(f"data set '{name}' cannot be downloaded: {how_to_get(name, known)}")
    path, downloads = folder / f"{name}.h5", folder / "downloads" / name
    if path.exists():
        return _verified(path)
    with locked(folder / f".{name}.lock", lambda: say(f"waiting for another process to fetch {name}")):
        if path.exists():  # whoever held the lock may have written it
            return _verified(path)
        for wanted in known.downloads:
            download(wanted, downloads, report(wanted.name))
        read = known.read_downloads or known.read
        assert read is not None
        write_dataset(path, *read(downloads))
    return path


def _verified(path: Path) -> Path:
    verify_file(path)
    return path


@dataclass(frozen=True)
class ImportOptions:
    """What the user can say about an import."""

    size: int | None = None  # height and width of decoded pictures
    grey: bool = False
    skip_bad: bool = False
    compress: bool = False
    n_workers: int | None = None
    test_share: float | None = None  # of each class, held out where there are no test pictures


def import_dataset(
    name: str,
    source: Path,
    out: Path,
    options: ImportOptions,
    report: Callable[[int, int], None],
    say: Callable[[str], None],
) -> list[str]:
    """Write the data set ``name`` from the user's files at ``source`` to ``out``; return what was skipped.

    Raises
    ------
    InputError
        If ``out`` exists, or ``source`` does not hold the data set.
    """
    try:
        known = known_dataset(name)
    except InputError as error:
        raise InputError(f"{error}; pictures of your own are imported by the name 'folder'") from None
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out} cannot be a data set file: their names end in {' or '.join(SUFFIXES)}")
    refuse_existing(out)
    if not (source.is_dir() or source.is_file()):
        raise InputError(f"there is no file or folder {source}")
    if known.list_pictures is not None:
        settings = _settings(known, options)
        pictures = known.list_pictures(source)
        _provide_test_pictures(pictures, known, options.test_share)
        for note in pictures.notes:
            say(note)
        make_folder(out.parent)
        return import_pictures(
            pictures, out, settings, report, lambda: say(f"waiting for another process that writes {out}")
        )
    if known.read is None:
        raise InputError(f"data set '{name}' is bundled: there is nothing to import")
    if options.size is not None or options.grey or options.skip_bad:
        raise InputError(
            f"the pictures of '{name}' need no decoding: leave --size, --grey and --skip-bad out"
        )
    if options.test_share is not None:
        raise InputError(f"'{name}' has test pictures: leave --test-share out")
    description, arrays = known.read(source)
    say(description.provenance)
    make_folder(out.parent)
    write_dataset(out, description, arrays, options.compress)
    return []


def _provide_test_pictures(pictures: PictureSet, known: Known, wanted: float | None) -> None:
    """Hold some training pictures out where there are no test pictures, as the user wants or by default."""
    share = known.test_share if wanted is None else wanted
    if not 0 <= share < 1:
        raise InputError(f"--test-share is {share:g}: choose from 0 to less than 1")
    if n_test := len(pictures.splits["test"]):
        if wanted is not None:
            raise InputError(f"there are {n_test} test pictures already: leave --test-share out")
    elif share:
        pictures.hold_out(share)
    else:
        pictures.notes.append("there are no test pictures, and training needs some (--test-share makes some)")


def _settings(known: Known, options: ImportOptions) -> Settings:
    side = known.size if options.size is None else options.size
    if not 0 < side <= _MOST_SIDE:
        raise InputError(f"--size is {side}: choose from 1 to {_MOST_SIDE} pixels")
    shape = (side, side, 1 if options.grey else 3)
    return Settings(shape, options.skip_bad, options.compress, options.n_workers or available_cores())
