"""What `l2lnp compare`, `transfer` and `ablate` share: their options, and how they run and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l2lnp.cli.bench import Listed
from l2lnp.cli.experiment_options import shown_runner
from l2lnp.cli.settings_options import asked_basis
from l2lnp.errors import InputError
from l2lnp.files import check_folder

if TYPE_CHECKING:
    from l2lnp.experiments.comparison import Comparison
    from l2lnp.experiments.contenders import Learned

DEFAULT_LEARNED = ("slstm=slstm",)
REPORT = (
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder of the results.  [default: runs/COMMAND-DATA-NETWORK-n]",
    ),
    click.option("--title", help="Of the page and the figures."),
    click.option(
        "--clock",
        type=click.Choice(["wall", "cpu"]),
        help="Time in figure and table; cpu is that of one process, for machines that do other things too.  "
        "[default: wall, or with --from as before]",
    ),
    click.option(
        "--from",
        "sources",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Run nothing: write page and figures anew from the CSV and JSON files in this folder. "
        "Repeated, the results are joined; they may differ in their seeds or contenders alone. "
        "Of the other options only --replace, --out, --title and --clock count.",
    ),
    click.option(
        "--replace",
        is_flag=True,
        help="With --from: of a contender's runs of one seed, that of the last folder counts.",
    ),
)
RUNS = (
    click.option(
        "--steps", type=click.IntRange(2), default=200, show_default=True, help="Length of the runs."
    ),
    click.option(
        "--horizons",
        type=Listed("numbers", int),
        help="Numbers of steps, none above --steps, whose mean loss is reported, separated by commas; "
        "--steps always is.  "
        "[default: 100,200,500,1000,2000, as far as --steps goes]",
    ),
    click.option(
        "--seeds",
        "n_seeds",
        type=click.IntRange(2),
        default=10,
        show_default=True,
        help="How many are reported.",
    ),
    click.option(
        "--first-seed", type=click.IntRange(0), default=0, show_default=True, help="The first of them."
    ),
    click.option(
        "--eval-every",
        "eval_every_steps",
        type=click.IntRange(1),
        help="Steps between measurements of the error.  [default: a tenth of --steps]",
    ),
    click.option(
        "--split",
        type=click.Choice(["test", "validation"]),
        default="test",
        show_default=True,
        help="What the error is measured on; choose by validation, report test.",
    ),
    click.option(
        "--average", is_flag=True, help="Measure the error of averaged parameters, as in l2lnp train."
    ),
)


def learned_option(default: str, may_be_none: bool = True) -> Any:
    """Return the option that names learned contenders; ``default`` is told, and is the command's to take."""
    or_none = "; none: no one" if may_be_none else ""
    return click.option(
        "--learned",
        multiple=True,
        metavar="NAME=FILE[:joint][:SETTING=VALUE]",
        help="A learned contender: a name, and the name or file of the optimizer, frozen unless 'joint'; "
        f"random-slstm and random-lstm begin with random weights. May be repeated{or_none}.  "
        f"[default: {default}]",
    )


optimizers_option = click.option(
    "--optimizers",
    type=Listed("names", str),
    metavar="NAME[:SETTING=VALUE],...",
    help="Hand-designed contenders, separated by commas, or none; a setting holds for all their runs, as in "
    "adam:weight_decay=0.2.  [default: all]",
)


def added(options: tuple[Any, ...]) -> Any:
    """Return the decorator that adds ``options``."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def compare_and_report(
    name: str,
    learned: Sequence[Learned],
    optimizers: tuple[str, ...] | None,
    sources: tuple[Path, ...],
    default_title: str = "",
    **options: Any,
) -> None:
    """Do what ``l2lnp compare``, or one of the experiments made of it, is asked for.

    Parameters
    ----------
    name
        Of the experiment, for its folder.
    default_title
        Of what is run, where --title is not given; empty: by data and network.
    """
    from l2lnp.experiments.comparison import this_command

    out, title, clock, replace = (options.pop(key) for key in ("out", "title", "clock", "replace"))
    if replace and len(sources) < 2:
        raise InputError("--replace is about results to be joined: name their folders with --from")
    if sources:
        _report_again(name, sources, replace, out, title, clock)
        return
    data, network = (Path(options[key]).stem for key in ("data", "network"))
    command = this_command()
    out = out or _folder(f"{name}-{data}-{network}", command)
    _refuse_another(out, command)
    check_folder(out)
    title = title or default_title or f"{data}, {network} network, batch {options['batch_size']}"
    comparison = _run(title, learned, optimizers, **options)
    comparison.about["clock"] = clock or "wall"
    write_report(comparison, out)


def _report_again(
    name: str,
    sources: tuple[Path, ...],
    replace: bool,
    out: Path | None,
    title: str | None,
    clock: str | None,
) -> None:
    """Write page and figures of what stands in ``sources``: in place if that is one folder."""
    from l2lnp.experiments.comparison import this_command
    from l2lnp.experiments.joining import join
    from l2lnp.experiments.results import read_results

    comparison, *others = map(read_results, sources)
    if others:
        comparison = join([comparison, *others], this_command(), replace)
    else:
        out = out or sources[0]
    about = comparison.about
    about.update({key: value for key, value in (("title", title), ("clock", clock)) if value})
    out = out or _folder(f"{name}-{about['data']}-{about['network']}", about)
    _refuse_another(out, about)
    write_report(comparison, out)


def _folder(stem: str, command: Mapping[str, Any]) -> Path:
    """Return the first folder ``runs/STEM-n`` that is free, or holds what the same command wrote before."""
    from l2lnp.experiments.results import holds_another

    paths = (Path("runs") / f"{stem}-{n}" for n in count(1))
    return next(path for path in paths if not holds_another(path, command))


def _refuse_another(out: Path, command: Mapping[str, Any]) -> None:
    """Raise `InputError` if ``out`` holds what another command wrote."""
    from l2lnp.experiments.results import holds_another

    if holds_another(out, command):
        raise InputError(f"{out} holds another comparison, or a run: choose another --out, or remove it")


def _run(
    title: str,
    learned: Sequence[Learned],
    optimizers: tuple[str, ...] | None,
    cache: Path,
    workers: int | None,
    tuned: Path | None,
    n_tuning_seeds: int,
    steps: int,
    horizons: tuple[int, ...] | None,
    n_seeds: int,
    first_seed: int,
    eval_every_steps: int | None,
    split: str,
    average: bool,
    reference: str | None = None,
    **common: Any,
) -> Comparison:
    from l2lnp.experiments.comparison import (
        Plan,
        check_entrants,
        check_names,
        compare,
        horizons_up_to,
        tuned_entrant,
    )
    from l2lnp.experiments.contenders import CONTENDERS, in_basis
    from l2lnp.experiments.tuned import TunedFile
    from l2lnp.experiments.tuning import tune, tuning_seeds

    names = () if optimizers == ("none",) else optimizers or tuple(CONTENDERS)
    names, learned = in_basis(names, learned, asked_basis(common))
    if not names and not learned:
        raise InputError("nothing to compare: give --learned or --optimizers")
    horizons = horizons_up_to(steps, horizons)
    seeds = tuple(range(first_seed, first_seed + n_seeds))
    for_tuning = tuning_seeds(n_tuning_seeds) if names else ()
    every = eval_every_steps or max(1, steps // 10)
    plan = Plan(title, {**common, "average": average}, horizons, seeds, for_tuning, every, split)
    entrants = [one.entrant(horizons) for one in learned]
    all_names = [*(one.name for one in learned), *names]
    reference = reference or all_names[0]
    check_names(all_names, reference)
    check_entrants(plan, entrants)
    with shown_runner(cache, workers, common["backend"]) as runner:
        questions = [(name, n) for name in names for n in horizons]
        found = tune(
            common, questions, TunedFile(tuned or cache / "tuned.json"), runner, for_tuning, click.echo
        )
        entrants += [tuned_entrant(name, {n: found[name, n] for n in horizons}) for name in names]
        return compare(plan, entrants, reference, runner)


def write_report(comparison: Comparison, out: Path) -> None:
    """Write the numbers into ``out``, make page and figures of what stands there, and show the page."""
    from l2lnp.experiments.figures import draw_figures
    from l2lnp.experiments.page import page
    from l2lnp.experiments.results import read_results, write_results
    from l2lnp.files import replace_file

    write_results(out, comparison)
    comparison = read_results(out)
    text = page(comparison)
    replace_file(out / "comparison.md", text.encode())
    figures = draw_figures(out, comparison)
    click.echo(text)
    names = ", ".join(path.name for path in figures)
    click.echo(f"written to {out}: comparison.md, {names}, and the numbers: comparison.json, *.csv")
