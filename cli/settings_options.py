"""Options that fill `l2lnp.runs.settings.TrainSettings`; their defaults and known names come from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from l2lnp.errors import InputError


class Setting(click.Option):
    """An option without a default of its own: what is not given is filled in by ``resolve``."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return spelling and help of the option, with known names and the default."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        spelling, text = record
        known = list(self.type.known()) if isinstance(self.type, Name) else []
        default = _default_text(self.name or "")
        text += f" Known: {', '.join(known)}." if known else ""
        return spelling, text + (f"  [default: {default}]" if default else "")


class Name(click.ParamType):
    """A name that the library knows; it is checked there, and completed here."""

    name = "name"

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        self.known = known

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the known names that begin with ``incomplete``, and files."""
        names = [CompletionItem(name) for name in self.known() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


def known_names(what: str) -> Callable[[], Iterable[str]]:
    """Return a function that gives the names known for the setting ``what``."""

    def names() -> Iterable[str]:
        from l2lnp import backend, curvature, networks, optimizers, pretrained
        from l2lnp.checking.table import LAYERS, LOSSES
        from l2lnp.data import loading
        from l2lnp.runs.resolving import DTYPES

        return {
            "data": loading.NAMES,
            "network": networks.NETWORKS,
            "optimizer": optimizers.OPTIMIZERS,
            "curvature": curvature.MODES,
            "basis": optimizers.BASES,
            "pretrained": [*pretrained.pretrained_names(), pretrained.RANDOM],
            "backend": backend.BACKENDS,
            "dtype": DTYPES,
            "layer": [*LAYERS, *LOSSES, "network"],
        }[what]

    return names


BACKEND_HELP = "auto: cupy where it can run, else numpy."
OF_BASIS = ("basis", "basis_every", "basis_max_width")  # settings that are options of their own
BASIS_HELP = "What the optimizer works in: the parameters' own coordinates, or the curvature basis."
BASIS_EVERY_HELP = "Steps between two refreshes of the curvature basis."
BASIS_MAX_WIDTH_HELP = "The curvature basis leaves axes of matrices wider than this as they are."
WEIGHT_DECAY_HELP = "How fast parameters decay, per pass through the data; it follows the schedule."


def chosen_backend(name: str) -> str:
    """Return the name of the array library that ``name`` stands for; of ``"auto"`` say it, and why."""
    from l2lnp.backend import load_backend, why_auto

    xp = load_backend(name)
    if name == "auto":
        click.echo(f"backend {xp.__name__}, chosen by auto: {why_auto(xp)}")
    return xp.__name__


backend_option = click.option(  # of commands that have no `TrainSettings`; "auto" never reaches them
    "--backend",
    type=Name(known_names("backend")),
    default="numpy",
    show_default=True,
    callback=lambda context, _, name: name if context.resilient_parsing else chosen_backend(name),
    help=BACKEND_HELP,
)


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of ``--optimizer-setting NAME=VALUE``, each a TOML value; a text needs no quotes."""
    from l2lnp.runs.settings import collected, parse_assignment

    found = []
    for text in texts:
        assignment = parse_assignment(text)
        if assignment is None:
            raise InputError(f"--optimizer-setting must be NAME=VALUE, not {text!r}")
        found.append(assignment)
    return collected(found)


def asked_basis(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options about the curvature basis out of ``options``; return those that were given."""
    taken = {key: options.pop(key) for key in OF_BASIS}
    return {key: value for key, value in taken.items() if value is not None}


def joined(own: dict[str, Any], by_option: dict[str, Any]) -> dict[str, Any]:
    """Return settings of the optimizer itself, by ``--optimizer-setting`` and by options of their own."""
    for name, value in by_option.items():
        if name in own and own[name] != value:
            raise InputError(
                f"--{name.replace('_', '-')} {value} and --optimizer-setting {name}={own[name]} contradict "
                "each other: leave one out"
            )
    return own | by_option


def _default_text(name: str) -> str:
    from l2lnp.optimizers.in_basis import InBasis
    from l2lnp.runs.resolving import JOINT_DEFAULTS, PRACTISED_JOINT_DEFAULTS, PRETRAINED_WEIGHT_DECAY
    from l2lnp.runs.settings import TrainSettings

    special = {
        "learning_rate": "by optimizer",
        "curvature": "hesscale",
        "joint": "frozen; joint if it begins random or an option of joint learning is given",
        "curvature_every": 1,
        "second_derivatives": "no-second-derivatives",
        **{
            name: f"{practised:g} for pretrained optimizers, else {JOINT_DEFAULTS[name]:g}"
            for name, practised in PRACTISED_JOINT_DEFAULTS.items()
            if practised != JOINT_DEFAULTS[name]
        },
        "threads": "all cores",
        "optimizer_settings": "",
        "basis": "coordinates; kronecker for soap and the pretrained slstm and lstm",
        "basis_every": InBasis.every,
        "basis_max_width": InBasis.max_width,
        "weight_decay": f"{PRETRAINED_WEIGHT_DECAY:g} for pretrained optimizers, else 0",
    }
    value: Any = {**vars(TrainSettings()), **JOINT_DEFAULTS, **special}[name]
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
