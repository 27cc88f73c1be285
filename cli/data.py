"""``l2lnp data``: list, download, import, describe and check data sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from l2lnp.cli import FAILURE
from l2lnp.cli.interrupts import terminated_like_interrupted
from l2lnp.cli.settings_options import Name, known_names

_name = click.argument("name", type=Name(known_names("data")))


@contextmanager
def _can_go_on() -> Iterator[None]:
    """Say, where Ctrl-C or SIGTERM ends a command, that giving it again goes on."""
    try:
        with terminated_like_interrupted():
            yield
    except KeyboardInterrupt:
        click.echo("stopped: the same command goes on from here", err=True)
        raise


@click.group("data")
def command() -> None:
    """List, download, import, describe and check data sets.

    Data sets are HDF5 files in one layout (docs/data.md). Those that are downloaded or
    imported lie in the cache folder: the one that L2LNP_CACHE names, else the platform's.
    """


@command.command("list")
def list_command() -> None:
    """List the data sets known by name."""
    from l2lnp.data.catalogue import KNOWN
    from l2lnp.data.loading import cache_folder

    folder = cache_folder()
    width = max(map(len, KNOWN))
    for name, known in KNOWN.items():
        if name == "digits":
            state = "bundled"
        elif (folder / f"{name}.h5").is_file():
            state = "ready"
        else:
            state = f"l2lnp data fetch {name}" if known.downloads else f"l2lnp data import {name} --from PATH"
        click.echo(f"{name:{width}}  {known.contents}; licence: {known.licence}")
        click.echo(f"{'':{width}}  {state}")
    click.echo(f"\ncache folder: {folder}")


@command.command("fetch")
@_name
def fetch(name: str) -> int:
    """Download the data set NAME, check it, and make its HDF5 file.

    Those that can be downloaded: mnist, fashion-mnist, cifar-10. Addresses are tried in
    order until one serves the right bytes. A download that broke off goes on where it
    stopped when the command is given again. Exit code 1: no address served a file.
    """
    from l2lnp.cli.data_progress import shown_bytes
    from l2lnp.data.download import DownloadError
    from l2lnp.data.loading import cache_folder
    from l2lnp.data.obtaining import fetch_dataset

    try:
        with _can_go_on(), shown_bytes() as report:
            path = fetch_dataset(name, cache_folder(), report, click.echo)
    except DownloadError as error:
        way_out = f"or get the files elsewhere, then 'l2lnp data import {name} --from PATH'"
        click.echo(f"l2lnp: {error}; try again later, {way_out}", err=True)
        return FAILURE
    click.echo(f"{name} is at {path}; use it by --data {name}")
    return 0


@command.command("import")
@_name
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder or archive with the files.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write, ending in .h5 or .hdf5.  [default: NAME.h5 in the cache folder]",
)
@click.option(
    "--size", type=int, help="Height and width of decoded pictures.  [default: imagenet 224, others 64]"
)
@click.option("--grey", is_flag=True, help="Make decoded pictures grey.")
@click.option(
    "--test-share",
    type=float,
    metavar="SHARE",
    help="Share of each class that becomes the test group, where there is none.  "
    "[default: folder 0.2, others 0]",
)
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be decoded, and name them.")
@click.option("--compress", is_flag=True, help="Pack the pictures by gzip: smaller, slower to read.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that decode.  [default: all cores]")
def import_command(
    name: str,
    source: Path,
    out: Path | None,
    size: int | None,
    grey: bool,
    test_share: float | None,
    skip_bad: bool,
    compress: bool,
    workers: int | None,
) -> None:
    """Make the HDF5 file of the data set NAME from its official files.

    \b
    mnist, fashion-mnist  folder with the four idx files, plain or .gz
    cifar-10              folder, tar or tar.gz with python or binary batches
    imagenet              folder or tar: train/<wnid>/*.JPEG, or the official
                          archives; validation with the development kit
    tiny-imagenet         folder, tar or zip in the official layout
    folder                your own pictures, in a folder, tar or zip:
                          <class>/*.png or .jpg, or with the folders
                          train/<class>/ and test/<class>/

    Stopped in any way, the same command goes on where it was.
    """
    from l2lnp.cli.data_progress import shown_pictures
    from l2lnp.data.loading import cache_folder
    from l2lnp.data.obtaining import ImportOptions, import_dataset

    path = out or cache_folder() / f"{name}.h5"
    options = ImportOptions(size, grey, skip_bad, compress, workers, test_share)
    with _can_go_on(), shown_pictures() as report:
        skipped = import_dataset(name, source, path, options, report, click.echo)
    for reason in skipped:
        click.echo(f"skipped: {reason}", err=True)
    click.echo(f"written: {path}")


@command.command("info")
@click.argument("file", metavar="FILE|NAME")
def info(file: str) -> None:
    """Describe the data set in FILE, or the one called NAME."""
    from l2lnp.data.loading import find_file
    from l2lnp.data.streaming import MEMORY_LIMIT_BYTES, load_file

    path = find_file(file)
    dataset = load_file(path, memory_limit_bytes=0)
    height, width, channels = dataset.image_shape
    names = dataset.class_names
    n_bytes = height * width * channels * sum(split.n_samples for split in dataset.splits.values())
    where = "streamed from the file" if n_bytes > MEMORY_LIMIT_BYTES else "loaded into memory"
    shown = "; ".join(names[:10]) + ("; ..." if len(names) > 10 else "")
    samples = ", ".join(f"{split.n_samples:,} {name}" for name, split in dataset.splits.items())
    click.echo(f"{dataset.name}: {path}, {path.stat().st_size / 1e6:,.1f} MB")
    click.echo(f"  pictures    {samples}; {height} x {width}, {'grey' if channels == 1 else 'colour'}")
    click.echo(f"  classes     {len(names)}: {shown}")
    click.echo(f"  mean        {', '.join(f'{value:.4f}' for value in dataset.mean)}")
    click.echo(f"  deviation   {', '.join(f'{value:.4f}' for value in dataset.deviation)}")
    click.echo(f"  in training {n_bytes / 1e6:,.1f} MB, {where}")
    click.echo(f"  provenance  {dataset.provenance}")


@command.command("verify")
@click.argument("file", metavar="FILE|NAME")
def verify(file: str) -> None:
    """Read all of FILE and compare its checksums, mean and deviation."""
    from l2lnp.data.hdf5_reading import verify_file
    from l2lnp.data.loading import find_file

    path = find_file(file)
    contents = verify_file(path)
    n = sum(map(len, contents.labels.values()))
    click.echo(f"{path}: {n:,} pictures and labels are as written")
