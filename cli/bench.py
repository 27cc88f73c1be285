"""``l2lnp bench``: measure what the library's jobs cost, against the same jobs in other frameworks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from l2lnp.errors import InputError


class Listed(click.ParamType):
    """Values separated by commas."""

    def __init__(self, name: str, of: type) -> None:
        self.name = name
        self._of = of

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values as a tuple."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            values = tuple(self._of(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise InputError(f"numbers separated by commas are wanted, not {value!r}") from None
        if not values:  # which would ask for the default
            raise InputError(f"{self.name} separated by commas are wanted, one or more, not {value!r}")
        return values


@click.command("bench")
@click.option(
    "--jobs",
    type=Listed("names", str),
    help="Which jobs, separated by commas: sweep-small, sweep-big, lstm-1e5, lstm-1e6, meta-first-order, "
    "meta-exact, training-step, meta-training, basis-small, basis-big.  [default: all]",
)
@click.option(
    "--against",
    type=Listed("names", str),
    default=(),
    help="Opponents, separated by commas: torch, torch-compile, backpack, jax. In a checkout, with the extra "
    "'peers' installed.",
)
@click.option(
    "--threads", type=Listed("numbers", int), default="1,2", show_default=True, help="Numbers of threads."
)
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=20, show_default=True, help="Counted calls."
)
@click.option(
    "--backend",
    default="numpy",
    show_default=True,
    help="cupy times sweep-small, sweep-big, lstm-1e5, lstm-1e6, training-step and meta-first-order "
    "on a GPU, against torch, torch-compile and jax on the same card.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all results to this file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the tables to this file, too.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="With --backend cupy: write tables and numbers to a page of this folder, named by date and card.",
)
@click.option(
    "--curves",
    type=click.Path(path_type=Path),
    help="Measure cost and memory over sizes instead, and draw them in this folder.",
)
def command(
    jobs: tuple[str, ...] | None,
    against: tuple[str, ...],
    threads: tuple[int, ...],
    repetitions: int,
    backend: str,
    json_file: Path | None,
    markdown: Path | None,
    results: Path | None,
    curves: Path | None,
) -> None:
    """Measure time and memory of the library's jobs.

    Contenders take turns in one process for each number of threads; opponents are first
    checked to compute the same numbers. Shown are medians, quartiles, ratios, and which of
    the project's goals are reached.
    """
    from l2lnp.backend import load_backend, why_auto
    from l2lnp.benchmarks import report
    from l2lnp.benchmarks.jobs import JOBS
    from l2lnp.benchmarks.running import check_threads, run_benchmark
    from l2lnp.files import check_place, make_folder

    def say(text: str) -> None:
        click.echo(f"  {text}", err=True)

    for path in (json_file, markdown):
        if path is not None:
            check_place(path)
    xp = load_backend(backend)
    if backend == "auto":
        click.echo(f"backend {xp.__name__}, chosen by auto: {why_auto(xp)}")
    if xp.__name__ != "numpy":
        from l2lnp.benchmarks import gpu_jobs, gpu_measuring, gpu_report

        if curves is not None:
            raise InputError("--curves does not apply to --backend cupy")
        if results is not None:
            make_folder(results)
        found = gpu_measuring.measure_on_gpu(xp, jobs or tuple(gpu_jobs.JOBS), against, repetitions, say)
        _write(found, gpu_report.markdown(found), json_file, markdown)
        if results is not None:
            click.echo(f"written: {gpu_report.write(found, results)}")
        return
    if results is not None:
        raise InputError("--results is for --backend cupy: give --json and --markdown")
    if curves is not None:
        from l2lnp.benchmarks.curves import measure_curves

        check_threads(threads)
        measure_curves(curves, threads, repetitions, say)
        click.echo(f"written: {curves}")
        return
    found = run_benchmark(tuple(JOBS) if jobs is None else jobs, against, threads, repetitions)
    _write(found, report.markdown(found), json_file, markdown)


def _write(results: dict[str, Any], text: str, json_file: Path | None, markdown: Path | None) -> None:
    """Print the tables and write the files that were asked for."""
    from l2lnp.files import replace_file

    click.echo(text)
    if json_file is not None:
        replace_file(json_file, (json.dumps(results, indent=1) + "\n").encode())
    if markdown is not None:
        replace_file(markdown, text.encode())
