"""``l2lnp predict``: what a trained network sees in pictures."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--invert", is_flag=True, help="Exchange light and dark first, as for dark writing on white.")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes to show.")
def command(run: Path, images: tuple[Path, ...], invert: bool, top: int) -> None:
    """Classify picture files by a trained network.

    RUN is the run folder that it was trained in. Each picture is made grey or RGB as the
    network needs, resized and cropped at the centre to its input, as imported pictures are,
    and normalised as the training pictures were. The bundled digits and MNIST are light on
    dark: use --invert for the other way round.
    """
    from l2lnp.runs.prediction import classify

    predictions = classify(run, images, invert)
    rows, columns, channels = predictions.image_shape
    kind = "grey" if channels == 1 else "RGB"
    click.echo(f"pictures made {kind} and {columns} x {rows} pixels{', inverted' if invert else ''}")
    for image, classes in zip(images, predictions.classes, strict=True):
        best = ", ".join(f"{c.name} {c.score:.1%}" for c in classes[:top])
        click.echo(f"{image}: {classes[0].name}  ({best})")
