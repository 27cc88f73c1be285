"""``l2lnp evaluate``: loss, error and confusion matrix of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from l2lnp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    metavar="NAME",
    default="test",
    show_default=True,
    help="Part of the data: train, validation or test.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Draw the confusion matrix into this PNG file, too."
)
@click.option("--threads", type=click.IntRange(min=1), help="Changes the time only.  [default: all cores]")
def command(run: Path, split: str, out: Path | None, threads: int | None) -> None:
    """Measure a trained network on a part of its data.

    RUN is the run folder that it was trained in. Shown are the mean loss, the share of pictures
    classified wrongly, and how often each class (row) was taken for each class (column).
    """
    from l2lnp.files import refuse_existing
    from l2lnp.runs.evaluation import evaluate_run

    if out is not None:
        refuse_existing(out)
        if out.suffix.lower() != ".png":
            raise InputError(f"--out {out}: the picture is a PNG file: give a name that ends in .png")
    found = evaluate_run(run, split, threads)
    measured, names = found.measured, found.class_names
    click.echo(
        f"{found.data}, {split} split, {measured.confusion.sum():,} pictures; after step {found.step:,}"
    )
    click.echo(f"  loss   {measured.loss:.4g}")
    click.echo(f"  error  {100 * measured.error:.2f} %\n")
    click.echo(table(measured.confusion, names))
    if out is not None:
        from l2lnp.runs.curves import draw_confusion

        draw_confusion(
            out, measured.confusion, names, f"{found.data}, {split}: {100 * measured.error:.2f} % wrong"
        )
        click.echo(f"\nwritten: {out}")


def table(confusion: np.ndarray, names: Sequence[str]) -> str:
    """Return the matrix as text, its rows by class; columns by number where names would be too wide."""
    heads = names if max(map(len, names)) <= 6 else [str(i) for i in range(len(names))]
    cells = [["." if n == 0 else str(n) for n in row] for row in confusion]
    width = 2 + max(len(text) for text in [*heads, *(cell for row in cells for cell in row)])
    labels = names if heads is names else [f"{i} {name}" for i, name in enumerate(names)]
    margin = max(map(len, [*labels, "true"]))
    lines = [f"{'true':{margin}}" + "".join(f"{head:>{width}}" for head in heads)]
    lines += [
        f"{label:{margin}}" + "".join(f"{cell:>{width}}" for cell in row)
        for label, row in zip(labels, cells, strict=True)
    ]
    return "\n".join(lines)
