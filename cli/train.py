"""``l2lnp train``: train a network, and the optimizer with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l2lnp.cli import INTERRUPTED
from l2lnp.cli.interrupts import caught_interrupts
from l2lnp.cli.progress import clock, shown_progress
from l2lnp.cli.settings_options import (
    BACKEND_HELP,
    BASIS_EVERY_HELP,
    BASIS_HELP,
    BASIS_MAX_WIDTH_HELP,
    OF_BASIS,
    WEIGHT_DECAY_HELP,
    Name,
    Setting,
    chosen_backend,
    joined,
    known_names,
    parse_assignments,
)
from l2lnp.errors import DivergedError, InputError

if TYPE_CHECKING:
    from l2lnp.runs.folder import RunFolder
    from l2lnp.runs.run import Run
    from l2lnp.runs.settings import TrainSettings
    from l2lnp.runs.training import Outcome

_OF_THE_OPTIMIZER = (*OF_BASIS, "weight_decay", "curvature_every")  # options that are settings of its own


def setting(*spellings: str, **attributes: Any) -> Any:
    """Return the decorator of an option that fills a setting."""
    return click.option(*spellings, cls=Setting, **attributes)


@click.command("train")
@setting("--data", type=Name(known_names("data")), help="A data set by name, or a data file FILE.h5.")
@setting("--data-dir", type=click.Path(), help="Folder with the official files of a named data set.")
@setting(
    "--memory-limit",
    "memory_limit_mb",
    type=int,
    help="MB of pictures held in memory; a file with more is streamed.",
)
@setting("--flip", is_flag=True, default=None, help="Mirror training pictures at random.")
@setting("--crop-padding", type=int, help="Shift training pictures at random, by up to so many pixels.")
@setting("--network", type=Name(known_names("network")), help="A network by name, or a file FILE.toml.")
@setting(
    "--optimizer",
    type=Name(known_names("optimizer")),
    help="What trains the network; lstm and slstm are learned.",
)
@setting("--learning-rate", type=float, help="Of the hand-designed optimizers.")
@setting(
    "--curvature",
    type=Name(known_names("curvature")),
    help="How the second derivatives h are computed, for sou and slstm; ekfac in the curvature basis, all "
    "others in coordinates: with one of them slstm is the file slstm-coordinates.",
)
@setting("--curvature-every", type=int, help="Steps between two looks at h, which is held in between.")
@setting(
    "--joint/--frozen",
    "joint",
    default=None,
    help="Learn the optimizer while it trains the network, or not.",
)
@setting(
    "--pretrained",
    type=Name(known_names("pretrained")),
    help="Begin with this learned optimizer: a name, a file FILE.h5, the checkpoint.h5 of a run, or "
    "random.  [default: the one called as --optimizer, which is slstm]",
)
@setting(
    "--second-derivatives/--no-second-derivatives",
    "second_derivatives",
    default=None,
    help="Let the meta-gradient go through g and h too: exact, and dearer.",
)
@setting("--unroll-length", "unroll_length_steps", type=int, help="Steps between updates of the optimizer.")
@setting("--meta-learning-rate", type=float, help="Of Adam, which updates the learned optimizer.")
@setting("--clip-norm", type=float, help="Largest norm of the meta-gradient.")
@setting(
    "--optimizer-setting",
    "optimizer_settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the optimizer itself, such as momentum=0.95 or head=linear; may be repeated.",
)
@setting("--basis", type=Name(known_names("basis")), help=BASIS_HELP)
@setting("--basis-every", type=int, help=BASIS_EVERY_HELP)
@setting("--basis-max-width", type=int, help=BASIS_MAX_WIDTH_HELP)
@setting("--weight-decay", type=float, help=WEIGHT_DECAY_HELP)
@setting(
    "--average",
    is_flag=True,
    default=None,
    help="Measure and keep an average of the parameters over about the last ninth of the steps so far.",
)
@setting("--steps", type=int, help="Updates of the network.")
@click.option("--epochs", type=float, help="Passes through the training pictures, in place of --steps.")
@setting("--batch-size", type=int, help="Pictures in a mini-batch.")
@setting("--seed", type=int, help="Of all random draws.")
@setting("--backend", type=Name(known_names("backend")), help=BACKEND_HELP)
@setting("--dtype", type=Name(known_names("dtype")), help="Precision of all numbers.")
@setting("--threads", type=int, help="Changes the time, never the result.")
@setting("--log-every", "log_every_steps", type=int, help="Steps between lines of metrics.jsonl.")
@setting("--eval-every", "eval_every_steps", type=int, help="Steps between measurements of the test error.")
@setting("--checkpoint-every", "checkpoint_every_s", type=float, help="Seconds between checkpoints.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The run folder.  [default: runs/DATA-NETWORK-OPTIMIZER-n]"
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file with settings, as in a run folder; options given here go before it.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with an interrupted run, exactly; only --steps and --threads may be given anew.",
)
def command(
    epochs: float | None, out: Path | None, config: Path | None, resume: Path | None, **options: Any
) -> int | None:
    """Train a network on pictures.

    With no options, the small network is trained on the bundled digits by an SLSTM that has
    learned how to on other tasks. With --pretrained random it learns while it trains. What
    comes out is a run folder with settings, metrics, curves and a checkpoint; Ctrl-C saves before it stops.
    """
    given = _given(options)
    if epochs is not None and "steps" in given:
        raise InputError("--epochs and --steps both say how long the run is: leave one out")
    if resume is None:
        return _begin(given, epochs, out, config)
    if not (epochs is out is config is None):
        raise InputError("--resume takes the settings of the run: leave out --out, --config and --epochs")
    return _resume(resume, given)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings given on the command line."""
    given = {name: value for name, value in options.items() if value is not None}
    own = parse_assignments(given.pop("optimizer_settings", ()))
    own = joined(own, {name: given.pop(name) for name in _OF_THE_OPTIMIZER if name in given})
    if own:
        given["optimizer_settings"] = own
    return given


def _begin(given: dict[str, Any], epochs: float | None, out: Path | None, config: Path | None) -> int | None:
    from l2lnp.runs.resolving import resolve
    from l2lnp.runs.run import begin
    from l2lnp.runs.settings import read_config

    in_file = read_config(config) if config else {}
    own = {**in_file.get("optimizer_settings", {}), **given.get("optimizer_settings", {})}
    if given.get("backend") == "auto":
        given["backend"] = chosen_backend("auto")
    settings = resolve({**in_file, **given, "optimizer_settings": own})
    with caught_interrupts() as is_interrupted:
        run = begin(settings, out, epochs)
        with run.folder.lock():
            return _go_on(run, is_interrupted)


def _resume(path: Path, changes: Mapping[str, Any]) -> int | None:
    from l2lnp.runs.folder import RunFolder
    from l2lnp.runs.run import changed, resume

    folder = RunFolder(path)
    own = folder.read_settings()
    settings = changed(own, changes)
    with caught_interrupts() as is_interrupted, folder.lock():
        if folder.load_checkpoint().step == settings.steps == own.steps:
            _draw(folder, settings)  # a kill may have come before it was
            click.echo(
                f"{path} is finished: all {settings.steps} steps are made; --steps N goes on to step N"
            )
            return None
        run = resume(folder, settings)
        click.echo(f"going on from step {run.training.step}")
        return _go_on(run, is_interrupted)


def _go_on(run: Run, is_interrupted: Callable[[], bool]) -> int | None:
    from l2lnp.runs.training import train

    settings, folder = run.settings, run.folder
    click.echo(_headline(run))
    with shown_progress(settings.steps, run.training.step) as watcher:
        try:
            outcome = train(run, watcher, is_interrupted)
        except DivergedError:
            _draw(folder, settings)
            raise
    _draw(folder, settings)
    if outcome.interrupted:
        click.echo(f"interrupted after step {outcome.step} and saved")
        click.echo(f"go on with: l2lnp train --resume {shlex.quote(str(folder.path))}")
        return INTERRUPTED
    click.echo(_table(outcome))
    click.echo(_written(folder))
    return None


def _draw(folder: RunFolder, settings: TrainSettings) -> None:
    from l2lnp.runs.curves import draw_curves
    from l2lnp.runs.metrics import read_metrics

    draw_curves(folder.curves, read_metrics(folder.metrics), settings.title())


def _headline(run: Run) -> str:
    s, dataset, task = run.settings, run.problem.dataset, run.problem.task
    sizes = " x ".join(map(str, dataset.image_shape))
    n_train, n_test = (dataset.split(name).n_samples for name in ("train", "test"))
    file = "" if s.pretrained in (None, s.optimizer) else f" ({s.pretrained})"
    how = {True: ", learned jointly", False: ", frozen", None: ""}[s.joint]
    return (
        f"{dataset.name}: {n_train:,} training and {n_test:,} test pictures of {sizes}; "
        f"batch {s.batch_size:,}, steps {s.steps:,}: {s.steps * s.batch_size / n_train:.3g} epochs\n"
        f"network {Path(s.network).stem}: {task.layout.n_coordinates:,} parameters; "
        f"optimizer {s.optimizer}{file}{how}; {s.backend}, {s.dtype}, threads {s.threads}"
    )


def _table(outcome: Outcome) -> str:
    from l2lnp.runs.metrics import losses, test_errors

    _, last_losses = losses(outcome.lines[-20:])
    _, errors = test_errors(outcome.lines)
    rows = {"steps": f"{outcome.step:,}"}
    if last_losses:
        mean = sum(last_losses) / len(last_losses)
        rows["training loss"] = f"{mean:.3g} (mean of the last {len(last_losses)} logged)"
    if errors:
        rows["test error"] = f"{100 * errors[-1]:.2f} %"
    rows["time"] = clock(outcome.elapsed_s)
    if outcome.n_restarts:
        rows["restarts"] = f"{outcome.n_restarts} (numbers were not finite)"
    return "\n" + "\n".join(f"  {name:14} {value}" for name, value in rows.items())


def _written(folder: RunFolder) -> str:
    contents = {
        folder.config: "settings, to be repeated with --config",
        folder.environment: "versions and machine",
        folder.metrics: "training loss and test error by step",
        folder.curves: "the same as a picture",
        folder.checkpoint: "the network and the optimizer, for evaluate, predict, export and --resume",
    }
    lines = [f"  {path.name:17} {what}" for path, what in contents.items()]
    return f"\nwritten to {folder.path}:\n" + "\n".join(lines)
