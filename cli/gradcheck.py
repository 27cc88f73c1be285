"""``l2lnp gradcheck``: check every derivative of the library against one computed another way."""

from __future__ import annotations

import click

from l2lnp.cli import FAILURE
from l2lnp.cli.settings_options import Name, backend_option, known_names


@click.command("gradcheck")
@click.option(
    "--layer", type=Name(known_names("layer")), help="Only this layer, loss, or 'network'.  [default: all]"
)
@backend_option
@click.option(
    "--dtype",
    type=Name(known_names("dtype")),
    default="float64",
    show_default=True,
    help="float64, or float32, where each pass is compared with itself in float64.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random arrays."
)
def command(layer: str | None, backend: str, dtype: str, seed: int) -> int | None:
    """Check every derivative of the library.

    Checked are every pass of every layer and loss, and the adjoint of a whole network. One line
    a check: the largest error found, relative, and the tolerance. Ends with exit code 1 if any
    error is larger.
    """
    from l2lnp.backend import load_backend
    from l2lnp.checking import gradcheck_all
    from l2lnp.errors import unknown_name
    from l2lnp.runs.resolving import DTYPES

    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    n_failed = n_checks = 0
    for check in gradcheck_all(layer, seed, load_backend(backend), dtype):
        if n_checks == 0:
            click.echo(f"{'layer':20}{'pass':32}{'error':>10}{'tolerance':>12}  verdict")
        verdict = "ok" if check.passed else "FAILED"
        click.echo(f"{check.layer:20}{check.name:32}{check.error:10.1e}{check.tolerance:12.1e}  {verdict}")
        n_checks += 1
        n_failed += not check.passed
    if not n_checks:
        click.echo(f"nothing to check for {layer} in {dtype}")
        return None
    click.echo(f"{n_checks} checks, {n_failed} failed")
    return FAILURE if n_failed else None
