"""``l2lnp export``: the trained network's parameters as a NumPy file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file to write.  [default: RUN/theta.npz]")
def command(run: Path, out: Path | None) -> None:
    """Write a trained network's parameters as an .npz file.

    RUN is the run folder that it was trained in. numpy.load gives its tensors by layer, counted
    from 0, and name: "0.w", "0.b", ...
    """
    import io

    import numpy as np

    from l2lnp.checkpoint import named_tensors
    from l2lnp.files import refuse_existing, replace_file
    from l2lnp.runs.folder import RunFolder

    out = out or run / "theta.npz"
    refuse_existing(out)
    checkpoint = RunFolder(run).load_checkpoint()
    tensors = named_tensors(checkpoint.subject.network().layout, checkpoint.theta, separator=".")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **tensors)
    replace_file(out, buffer.getvalue())
    for name, tensor in tensors.items():
        click.echo(f"  {name:6} {' x '.join(map(str, tensor.shape))}")
    click.echo(f"written: {out} ({checkpoint.theta.size:,} parameters, {checkpoint.theta.dtype})")
