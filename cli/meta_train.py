"""``l2lnp meta-train``: let a learned optimizer practise on many tasks."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from l2lnp.cli import INTERRUPTED
from l2lnp.cli.interrupts import caught_interrupts
from l2lnp.cli.progress import clock, shown_line
from l2lnp.cli.settings_options import (
    BASIS_EVERY_HELP,
    BASIS_HELP,
    BASIS_MAX_WIDTH_HELP,
    Name,
    Setting,
    asked_basis,
    backend_option,
    joined,
    known_names,
    parse_assignments,
)
from l2lnp.errors import InputError

if TYPE_CHECKING:
    from l2lnp.meta.folder import MetaFolder
    from l2lnp.meta.settings import MetaSettings
    from l2lnp.meta.trainer import MetaTrainer, Progress

PAUSE_S = 60.0  # between plain lines about episodes without validation


@click.command("meta-train")
@click.option(
    "--tasks",
    default="mixture",
    show_default=True,
    help="mixture, deep-mixture, wide-mixture, paper-mnist, paper-digits, or FILE.toml.",
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder with the data sets that are not bundled."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder of the run.  [default: runs/meta-TASKS-n]"
)
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an interrupted run, exactly."
)
@click.option("--optimizer", type=click.Choice(["slstm", "lstm"]), help="[default: slstm]")
@click.option(
    "--pretrained",
    metavar="NAME|FILE",
    help="Begin with this learned optimizer, its settings and its curvature mode, not with random weights.  "
    "With --optimizer-setting per=layer, each layer begins with the LSTM of its kind.",
)
@click.option(
    "--optimizer-setting",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the optimizer; may be repeated.  "
    "[default: per=kind step_unit=weights output_scale=0.3 schedule=cosine features=[...]]",
)
@click.option("--basis", type=Name(known_names("basis")), help=f"{BASIS_HELP}  [default: coordinates]")
@click.option("--basis-every", type=int, cls=Setting, help=BASIS_EVERY_HELP)
@click.option("--basis-max-width", type=int, cls=Setting, help=BASIS_MAX_WIDTH_HELP)
@click.option("--curvature", type=Name(known_names("curvature")), help="[default: hesscale]")
@click.option(
    "--curvature-every",
    default="1",
    show_default=True,
    help="Steps between two looks at h, for slstm in coordinates; 1-10: drawn anew in each episode.",
)
@click.option("--episodes", "n_episodes", type=int, default=600, show_default=True)
@click.option(
    "--horizon", "horizon_steps", type=int, default=100, show_default=True, help="Steps of an episode."
)
@click.option(
    "--least-horizon",
    "least_horizon_steps",
    type=int,
    help="Draw the steps of an episode from here to --horizon, at first from the lower part.  "
    "[default: all as long as --horizon]",
)
@click.option(
    "--truncation",
    "truncation_steps",
    type=int,
    default=20,
    show_default=True,
    help="Steps between changes of phi.",
)
@click.option(
    "--meta-learning-rate", type=float, default=3e-3, show_default=True, help="Of Adam, with cosine decay."
)
@click.option(
    "--meta-loss",
    type=click.Choice(["mean", "root", "log", "last"]),
    default="mean",
    show_default=True,
    help="What is made small: the mean over an unroll of the loss, of 2 sqrt(loss + 0.05), of "
    "log(loss + 0.05), or the last loss.",
)
@click.option(
    "--imitation",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of episodes in which Adam trains and the optimizer learns to propose its updates.",
)
@click.option(
    "--random-scaling",
    type=float,
    default=0.0,
    show_default=True,
    help="R: coordinates are seen in units exp(U(-R, R)), drawn anew in each episode.",
)
@click.option("--clip-norm", type=float, default=1.0, show_default=True)
@click.option("--validate-every", "validate_every_episodes", type=int, default=50, show_default=True)
@click.option("--validation-tasks", "n_validation_tasks", type=int, default=6, show_default=True)
@click.option("--validation-steps", type=int, default=150, show_default=True)
@click.option(
    "--patience",
    type=int,
    help="Stop early: when so many validations in a row have found nothing better.  [default: never]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Changes the time, never the result.")
@backend_option
def command(
    tasks: str,
    data_dir: Path | None,
    out: Path | None,
    resume: Path | None,
    threads: int,
    backend: str,
    **given: Any,
) -> int | None:
    """Meta-train an optimizer on a distribution of tasks.

    What comes out is a folder with the best optimizer so far (learned.h5, for
    `l2lnp train --pretrained`), chosen on tasks and pictures held out of the
    training split. Ctrl-C saves before it stops.
    """
    from l2lnp.backend import load_backend
    from l2lnp.execution import Execution
    from l2lnp.meta.folder import MetaFolder
    from l2lnp.meta.trainer import MetaTrainer
    from l2lnp.tasks.distribution import Distribution

    xp = load_backend(backend)
    if resume is not None:
        _refuse_all_but("resume", "threads", "backend")
        folder = MetaFolder(resume)
        settings, distribution = folder.read()
        trainer = MetaTrainer(settings, distribution, Execution(threads), xp)
    else:
        distribution = Distribution.find(tasks, data_dir)
        settings = _settings(given)
        trainer = MetaTrainer(settings, distribution, Execution(threads), xp)
        folder = MetaFolder(out or _free_name(tasks))
        folder.create(trainer)
    with caught_interrupts() as is_interrupted, folder.lock():
        progress, reports = folder.load()  # under the lock: another process may have gone on until now
        progress = _run(trainer, folder, progress, reports, is_interrupted)
    if progress.best_episode:
        click.echo(f"\nbest validation loss {progress.best_score:.4f}, after episode {progress.best_episode}")
        if trainer.is_finished(progress) and progress.episode < settings.n_episodes:
            click.echo(
                f"stopped early, after episode {progress.episode} of {settings.n_episodes}: "
                "the validations since then found nothing better"
            )
        written = "learned.h5 (for --pretrained), metrics.jsonl, curves.png, config.toml"
    else:
        click.echo("\nnot validated yet, so there is no best optimizer")
        written = "metrics.jsonl, config.toml"
    click.echo(f"written to {folder.path}: {written}")
    if not trainer.is_finished(progress):
        click.echo(
            f"interrupted after episode {progress.episode}; "
            f"go on with: l2lnp meta-train --resume {shlex.quote(str(folder.path))}"
        )
        return INTERRUPTED
    return None


def _refuse_all_but(*names: str) -> None:
    """Raise `InputError` if other options were given on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_given and parameter.name not in names:
            raise InputError(f"--resume takes the settings of the run: leave out {parameter.opts[0]}")


def _settings(given: dict[str, Any]) -> MetaSettings:
    """Return the settings: what is ``given`` goes before what the pretrained optimizer says."""
    from l2lnp.meta.settings import UNIVERSAL, MetaSettings
    from l2lnp.optimizers import OPTIMIZERS
    from l2lnp.pretrained import load_learned_optimizer

    name, curvature = given.pop("optimizer"), given.pop("curvature")
    own = parse_assignments(given.pop("optimizer_setting"))
    own = joined(own, asked_basis(given))
    if given["pretrained"] is None:
        name = name or MetaSettings.optimizer
        inner: dict[str, Any] = {**UNIVERSAL[name], **own}
    else:
        learned = load_learned_optimizer(given["pretrained"])
        if name not in (None, learned.name):
            raise InputError(
                f"--pretrained {given['pretrained']} holds {learned.name}, not {name}: leave out --optimizer"
            )
        name, inner = learned.name, {**learned.settings, **own}
        curvature = curvature or learned.curvature
    if curvature is not None and not OPTIMIZERS[name].uses_curvature:
        raise InputError(f"--curvature does not apply to {name}, which uses gradients alone")
    with _named_as_options():
        return MetaSettings(
            optimizer=name, optimizer_settings=inner, curvature=curvature or MetaSettings.curvature, **given
        )


@contextmanager
def _named_as_options() -> Iterator[None]:
    """Let the sentence of an `InputError` that begins with a setting's name begin with its option."""
    options = {p.name: p.opts[0] for p in click.get_current_context().command.params}
    try:
        yield
    except InputError as error:
        name, *rest = str(error).split(" ", 1)
        raise InputError(" ".join([options.get(name, name), *rest])) from None


def _run(
    trainer: MetaTrainer,
    folder: MetaFolder,
    progress: Progress,
    reports: list[dict[str, Any]],
    is_interrupted: Any,
) -> Progress:
    from l2lnp.meta.folder import as_line
    from l2lnp.meta.trainer import Report, meta_train

    n_episodes, first = trainer.settings.n_episodes, progress.episode
    began_s = time.monotonic()

    def show(progress: Progress) -> None:
        """Write what the progress says of the best optimizer so far, and the picture."""
        if progress.best_episode:
            folder.save_learned(trainer.learned_optimizer(progress))
            folder.draw(reports, f"{trainer.settings.optimizer} on {trainer.distribution.source}")

    def watch(progress: Progress, report: Report) -> None:
        reports.append(as_line(progress, report))
        folder.save(trainer, progress, reports)
        episode = f"episode {progress.episode}/{n_episodes}"
        an_episode_s = (time.monotonic() - began_s) / (progress.episode - first)
        left = f"{clock(an_episode_s * (n_episodes - progress.episode))} left"
        text = f"{episode}  loss {report.mean_loss:.3g}  {left}  {report.title}"
        if is_validated := report.validation_score is not None:
            show(progress)
            scores = f"{report.validation_score:.4f}  best {progress.best_score:.4f}"
            text = f"{episode}  validation loss {scores}  {left}"
        line.show(text, progress.episode, n_episodes, stays=is_validated)

    show(progress)  # which a kill may have come before
    with shown_line(PAUSE_S) as line:
        return meta_train(trainer, progress, watch, is_interrupted)


def _free_name(tasks: str) -> Path:
    from itertools import count

    stem = f"meta-{Path(tasks).stem}"
    return next(path for n in count(1) if not (path := Path("runs") / f"{stem}-{n}").exists())
