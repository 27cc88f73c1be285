"""Who takes part: hand-designed optimizers by name, with the start of their tuning, and learned ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from l2lnp.errors import InputError, unknown_name
from l2lnp.files import read_file
from l2lnp.optimizers import OPTIMIZERS, check_axes, check_settings, default_settings
from l2lnp.pretrained import RANDOM, find_learned_file, load_learned_optimizer
from l2lnp.runs.settings import TrainSettings, collected, parse_assignment

OWN_SETTINGS = frozenset(  # of a run, that contenders may differ in
    {"curvature", "unroll_length_steps", "meta_learning_rate", "clip_norm", "second_derivatives"}
)


class Baseline(NamedTuple):
    """A hand-designed optimizer; ``start``: the tuned settings, where their search begins."""

    optimizer: str
    start: Mapping[str, float]
    settings: Mapping[str, Any] = {}


CONTENDERS: dict[str, Baseline] = {
    "sgd": Baseline("sgd", {"learning_rate": 0.1}),
    "momentum": Baseline("momentum", {"learning_rate": 0.02}),
    "rmsprop": Baseline("rmsprop", {"learning_rate": 0.002}),
    "adam": Baseline("adam", {"learning_rate": 0.004}),
    "adam_cosine": Baseline("adam", {"learning_rate": 0.004}, {"schedule": "cosine"}),
    "sou": Baseline("sou", {"learning_rate": 0.02, "epsilon": 0.1}),
    "soap": Baseline("adam", {"learning_rate": 0.004}, {"basis": "kronecker"}),
}


def check_name(name: str) -> None:
    """Raise `InputError` unless a contender may be called ``name`` in tables and figures."""
    if not name.isprintable() or name.startswith("_") or set(name) & set("|$"):
        raise InputError(
            "a contender stands in tables and figures: its name must be without |, $, line breaks "
            f"and a _ in front, not {name!r}"
        )


def find_baseline(name: str) -> Baseline:
    """Return the hand-designed contender ``NAME[:SETTING=VALUE]...``, as in ``adam:weight_decay=0.2``.

    Raises
    ------
    InputError
        If there is none of that name, or a setting is unknown, impossible, or among those that are tuned.
    """
    own, *parts = name.split(":")
    if own not in CONTENDERS:
        raise unknown_name("contender", own, CONTENDERS)
    baseline = CONTENDERS[own]
    settings = collected(_assignment("--optimizers", part) for part in parts)
    tuned = sorted(settings.keys() & baseline.start.keys())
    if tuned:
        raise InputError(f"--optimizers: '{tuned[0]}' in '{name}' is tuned: leave it out")
    settings = {**baseline.settings, **settings}
    check_settings(baseline.optimizer, settings, default_settings(baseline.optimizer))
    return baseline._replace(settings=settings)


@dataclass(frozen=True)
class Entrant:
    """One that takes part in a comparison.

    Parameters
    ----------
    by_horizon
        For each number of steps n, the run's settings (`l2lnp.runs.resolving.resolve`) beside data, network,
        batch size, steps and seed.
    h
        What is done to h, see `l2lnp.experiments.ablation.CHANGES`.
    about
        What the results say about it.
    """

    name: str
    by_horizon: Mapping[int, Mapping[str, Any]]
    learned: bool
    h: str = "as it is"
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)


class Learned(NamedTuple):
    """A learned contender as it was asked for: ``NAME=FILE[:joint][:SETTING=VALUE]...``."""

    name: str
    file: str | None  # None: random weights
    optimizer: str
    joint: bool
    settings: Mapping[str, Any]  # of the run, and of the optimizer
    h: str = "as it is"  # what is done to it, see `l2lnp.experiments.ablation.CHANGES`

    @classmethod
    def parse(cls, text: str) -> Learned:
        """Return what ``text`` asks for.

        FILE may be ``random-slstm`` or ``random-lstm``, which begin with random weights and learn jointly.

        Raises
        ------
        InputError
            If the text has another form, there is no such file, or all contenders share a setting.
        """
        name, equals, rest = text.partition("=")
        file, *parts = rest.split(":")
        if not (equals and name and file):
            raise InputError(f"--learned must be NAME=FILE[:joint][:SETTING=VALUE], not '{text}'")
        joint = "joint" in parts
        settings = collected(_assignment("--learned", part) for part in parts if part != "joint")
        shared = sorted((settings.keys() & vars(TrainSettings()).keys()) - OWN_SETTINGS)
        if shared:
            raise InputError(
                f"--learned: '{shared[0]}' in '{text}' is the same for all contenders: leave it out"
            )
        if file.startswith("random-"):
            known = {f"random-{key}": key for key, optimizer in OPTIMIZERS.items() if optimizer.learned}
            if file not in known:
                raise unknown_name("learned optimizer", file, known)
            return cls(name, None, known[file], True, settings)
        return cls(name, file, load_learned_optimizer(file).name, joint, settings)

    def axes(self) -> dict[str, Any]:
        """Return the setting ``basis``, if its own settings or its file say what it works in."""
        said = self.settings.get("basis")
        if said is None and self.file:
            said = load_learned_optimizer(self.file).settings.get("basis", "coordinates")
        return {"basis": said} if said else {}

    def given(self) -> dict[str, Any]:
        """Return the run's settings; weights decay no more than the file says, as with baselines."""
        of_run = {key: value for key, value in self.settings.items() if key in vars(TrainSettings())}
        own = {key: value for key, value in self.settings.items() if key not in of_run}
        if self.file:
            learned_with = load_learned_optimizer(self.file).settings
            own = {"weight_decay": learned_with.get("weight_decay", 0.0), **own}
        random = {"optimizer": self.optimizer, "pretrained": RANDOM}
        source = {"pretrained": self.file} if self.file else random
        return {**source, "joint": self.joint, **of_run, **({"optimizer_settings": own} if own else {})}

    def about(self) -> dict[str, Any]:
        """Return what the results say about it: its file's checksum and provenance, not its place."""
        told: dict[str, Any] = {"optimizer": self.optimizer, "joint": self.joint, **self.settings}
        if self.file:
            told["sha256"] = checksum(self.file)
            told["provenance"] = load_learned_optimizer(self.file).provenance.partition("\n")[0]
        return told

    def entrant(self, horizons: tuple[int, ...]) -> Entrant:
        """Return the contender, with the same settings for every horizon."""
        return Entrant(self.name, dict.fromkeys(horizons, self.given()), True, self.h, self.about())


def _assignment(option: str, text: str) -> tuple[str, Any]:
    """Return name and value of a contender's ``SETTING=VALUE``."""
    found = parse_assignment(text)
    if found is None:
        or_joint = "'joint' or " if option == "--learned" else ""
        raise InputError(f"{option}: {or_joint}SETTING=VALUE is wanted after the name, not '{text}'")
    return found


def checksum(name_or_path: str) -> str:
    """Return the SHA-256 of a learned optimizer's file."""
    return hashlib.sha256(read_file(find_learned_file(name_or_path))).hexdigest()


def in_basis(
    names: Sequence[str], learned: Sequence[Learned], asked: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[Learned, ...]]:
    """Return the contenders, hand-designed and learned, with what is ``asked`` of the curvature basis.

    Parameters
    ----------
    asked
        Some of the settings ``basis``, ``basis_every`` and ``basis_max_width``: the first for contenders that
        do not say themselves what they work in, as soap and files do, the others for all in the
        curvature basis. A contender's own settings go before.

    Raises
    ------
    InputError
        If there is no such basis; or it is to be refreshed otherwise, and no contender is in it.
    """
    if "basis" in asked:
        check_axes(asked["basis"])
    of_names = [_added(asked, find_baseline(name).settings) for name in names]
    of_learned = [_added(asked, {**one.axes(), **one.settings}) for one in learned]
    refresh = sorted(asked.keys() - {"basis"})
    if refresh and not any(of_names + of_learned):
        option = refresh[0].replace("_", "-")
        raise InputError(
            f"--{option} would change nothing: every contender says it itself, or is not in the curvature "
            "basis (--basis kronecker is one way there)"
        )
    suffixes = ("".join(f":{key}={value}" for key, value in own.items()) for own in of_names)
    return (
        tuple(name + suffix for name, suffix in zip(names, suffixes, strict=True)),
        tuple(
            one._replace(settings={**one.settings, **own})
            for one, own in zip(learned, of_learned, strict=True)
        ),
    )


def _added(asked: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of ``asked`` one with the settings ``own`` takes: nothing outside the curvature basis."""
    in_it = {"basis": "coordinates", **asked, **own}["basis"] == "kronecker"
    return {key: value for key, value in asked.items() if in_it and key not in own}
