"""``l2lnp pretrained``: the learned optimizers that come with the package."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from l2lnp.cli.settings_options import Name, known_names

if TYPE_CHECKING:
    from l2lnp.pretrained import LearnedOptimizer

WITHOUT_LIMIT = {"unit_limit": 1e9}  # of files that do not say: they were made when units had no largest


@click.command("pretrained")
@click.argument("name", required=False, type=Name(known_names("pretrained")))
def command(name: str | None) -> None:
    """List the learned optimizers that come with the package; with NAME (or a file) say all about one."""
    from l2lnp.pretrained import load_learned_optimizer, pretrained_names

    if name is not None:
        _show(name, load_learned_optimizer(name))
        return
    for each in pretrained_names():
        learned = load_learned_optimizer(each)
        click.echo(f"{each}: {_kind(learned)}")
        click.echo(f"  {learned.provenance.partition(chr(10))[0]}")
    click.echo("\nuse one with: l2lnp train --pretrained NAME --frozen; all about one: l2lnp pretrained NAME")


def _kind(learned: LearnedOptimizer) -> str:
    groups = sorted({key.partition("/")[0] for key in learned.phi})
    per = "kind of layer" if learned.settings.get("per") == "kind" else "layer"
    return f"{learned.name} for each {per} ({', '.join(groups)}); reads {_inputs(learned)}"


def _inputs(learned: LearnedOptimizer) -> str:
    """Say what the optimizer reads of the loss, and along which axes."""
    from l2lnp.optimizers import OPTIMIZERS

    in_basis = learned.settings.get("basis") == "kronecker"
    reads = "g alone"
    if learned.curvature is not None:
        reads = f"g, and h by {learned.curvature}"
    elif in_basis and OPTIMIZERS[learned.name].uses_curvature:
        reads = "g, and h by the eigenvalues of the factors"
    return reads + (", in the curvature basis" if in_basis else "")


def _show(name: str, learned: LearnedOptimizer) -> None:
    from l2lnp.experiments.contenders import checksum

    first, _, rest = learned.provenance.partition("\n")
    n_weights = sum(value.size for value in learned.phi.values())
    rows = {
        "optimizer": _kind(learned),
        "weights": f"{n_weights:,}",
        **{key: str(value) for key, value in sorted(learned.settings.items())},
        "sha256": checksum(name),
        "made": first,
        "again by": _command(learned),
        **({"then set": ", ".join(afterwards)} if (afterwards := _set_afterwards(learned)) else {}),
    }
    click.echo("\n".join(f"{key + ':':14} {value}" for key, value in rows.items()))
    click.echo(f"\n{rest.strip()}")


def _set_afterwards(learned: LearnedOptimizer) -> list[str]:
    """Return the settings that were changed when all was learned; the provenance says so."""
    return re.findall(r"^(\w+) was set afterwards", learned.provenance, re.MULTILINE)


def _command(learned: LearnedOptimizer) -> str:
    """Return the command that makes such a file, from the settings in its provenance."""
    import ast

    from l2lnp.cli.meta_train import command as meta_train
    from l2lnp.meta.settings import UNIVERSAL, MetaSettings
    from l2lnp.runs.resolving import own_settings

    line = next((s for s in learned.provenance.splitlines() if s.startswith("MetaSettings(")), None)
    source = re.search(r"on the tasks '([^']+)'", learned.provenance)
    if line is None or source is None:
        return "not known"
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    words = ["l2lnp", "meta-train", "--tasks", source[1], "--data-dir", "DATA"]
    defaults = vars(MetaSettings())
    for option in meta_train.params:
        value = settings.get(option.name)
        if value is not None and value != defaults[option.name]:
            words += [option.opts[0], str(value)]
    default = own_settings(learned.name, {})
    given = {key: value for key, value in learned.settings.items() if key not in _set_afterwards(learned)}
    own = {**default, **WITHOUT_LIMIT, **given}
    if not settings.get("pretrained"):  # else every setting is named: others would be those of that file
        usual = {**default, **UNIVERSAL[learned.name]}
        own = {key: value for key, value in own.items() if value != usual[key]}
    for key, value in own.items():
        words += ["--optimizer-setting", f"{key}={value}".replace("'", '"')]
    return shlex.join(words)
