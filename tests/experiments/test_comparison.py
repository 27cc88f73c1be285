"""Comparisons: paired, complete, and the same after a way through the files."""

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Plan, command_without_places, compare, horizons_up_to, tuned_entrant
from l2lnp.experiments.contenders import Learned
from l2lnp.experiments.figures import draw_figures
from l2lnp.experiments.page import page
from l2lnp.experiments.results import read_results, write_results
from l2lnp.experiments.running import Runner
from l2lnp.experiments.statistics import best_baseline, column, paired
from l2lnp.experiments.tuned import Tuned

from .small_jobs import COMMON, job

ROOT = Path(__file__).parents[2]
HORIZONS = (4, 25)
PLAN = Plan("Title", COMMON, HORIZONS, (0, 1, 2), (1000, 1001), 10, "test", (2.0, 1e-9))


def tuned(rate, loss):
    return Tuned({"learning_rate": rate}, loss, (1000, 1001), ())


def entrants():
    momentum = tuned_entrant("momentum", {4: tuned(0.05, 1.9), 25: tuned(0.02, 1.2)})
    adam = tuned_entrant("adam", {4: tuned(0.01, 2.0), 25: tuned(0.01, 1.1)})
    wild = tuned_entrant("sgd", dict.fromkeys(HORIZONS, tuned(1e9, 3.0)))
    return [Learned.parse("slstm=slstm").entrant(HORIZONS), momentum, adam, wild]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """SLSTM, momentum, Adam, and SGD that diverges."""
    return compare(PLAN, entrants(), "slstm", Runner(tmp_path_factory.mktemp("cache")))


def test_the_numbers_are_those_of_single_runs(comparison):
    from l2lnp.experiments.job import run_job

    for n, rate in ((4, 0.05), (25, 0.02)):
        runs = [run_job(job(n, optimizer="momentum", learning_rate=rate, seed=seed)) for seed in PLAN.seeds]
        np.testing.assert_allclose(
            column(comparison, "momentum", f"mean_loss_{n}"), [run.losses.mean() for run in runs], rtol=1e-12
        )
    np.testing.assert_allclose(
        column(comparison, "momentum", "final_loss"), [run.losses[5:].mean() for run in runs], rtol=1e-12
    )
    whole = run_job(job(25, (10, 20, 25), optimizer="momentum", learning_rate=0.02, seed=1))
    mine = [row for row in comparison.errors if (row["contender"], row["seed"]) == ("momentum", 1)]
    assert [row["step"] for row in mine] == [10, 20, 25]
    assert [row["error"] for row in mine] == whole.errors.tolist()
    curve = [row["loss"] for row in comparison.curves if (row["contender"], row["seed"]) == ("momentum", 1)]
    np.testing.assert_allclose(curve, whole.losses, rtol=1e-12)


def test_every_contender_has_every_seed(comparison):
    pairs = [(row["contender"], row["seed"]) for row in comparison.seeds]
    assert pairs == [(e.name, seed) for e in entrants() for seed in PLAN.seeds]


def test_curves_of_long_runs_are_thinned(tmp_path):
    long = compare(
        dataclasses.replace(PLAN, horizons=(250,)),
        [tuned_entrant("sgd", {250: tuned(0.1, 1.0)})],
        "sgd",
        Runner(tmp_path),
    )
    steps = [row["step"] for row in long.curves if row["seed"] == 0]
    assert len(steps) == 100
    assert steps[-1] == 250
    assert np.mean([row["loss"] for row in long.curves if row["seed"] == 0]) == pytest.approx(
        column(long, "sgd", "mean_loss_250")[0], rel=0.01
    )


def test_a_level_is_reached_when_the_mean_of_the_last_losses_first_is(comparison):
    from l2lnp.experiments.comparison import _reached
    from l2lnp.experiments.job import Result

    losses = np.concatenate([np.full(30, 2.0), np.full(40, 0.5)])
    seconds = np.arange(1.0, 71)
    result = Result(losses, seconds, 2 * seconds, (), np.zeros(0), np.zeros(70, int))
    row = _reached(result, [2.0, 1.25, 0.5, 0.4])
    assert [row[f"steps_to_{level:g}"] for level in (2.0, 1.25, 0.5, 0.4)] == [20, 40, 50, None]
    assert row["wall_s_to_1.25"] == 40
    assert row["cpu_s_to_1.25"] == 80


def test_the_best_baseline_is_chosen_on_the_tuning_seeds(comparison):
    assert best_baseline(comparison.about, 4) == "momentum"
    assert best_baseline(comparison.about, 25) == "adam"
    seeds = [
        {**row, "mean_loss_25": -9.0} if row["contender"] == "momentum" else row for row in comparison.seeds
    ]
    assert "| momentum | **" not in page(comparison._replace(seeds=seeds)).split("n = 25")[0]
    assert best_baseline(comparison.about, 25) == "adam"


def test_the_page_says_it_all(comparison):
    text = page(comparison)
    for part in (
        "# Title",
        "slstm / best baseline",
        "slstm / lowest here",
        "p (Wilcoxon)",
        "1000, 1001",
        "sha256",
    ):
        assert part in text
    assert "| sgd | diverged |" in text
    assert "3 of 3" in text
    ratio = (
        column(comparison, "slstm", "mean_loss_25").mean() / column(comparison, "adam", "mean_loss_25").mean()
    )
    (line,) = (line for line in text.splitlines() if line.startswith("| slstm / best baseline"))
    assert line.split(" | ")[2].rstrip(" |") == f"{ratio:.3f}"


def test_the_page_says_on_which_seeds_an_earlier_answer_was_found(comparison):
    assert " on 1" not in page(comparison)
    entrants = comparison.about["contenders"]
    adam = {n: {**found, "tuning_seeds": [1007, 1008]} for n, found in entrants["adam"]["tuned"].items()}
    about = {**comparison.about, "contenders": {**entrants, "adam": {**entrants["adam"], "tuned": adam}}}
    assert page(comparison._replace(about=about)).count(" on 1007, 1008)") == 2


def test_tables_and_figures_are_made_again_from_the_files_alone(comparison, tmp_path):
    first = tmp_path / "first"
    write_results(first, comparison)
    again = read_results(first)
    assert page(again) == page(comparison)
    write_results(tmp_path / "second", again)
    drawn = [draw_figures(tmp_path / name, read_results(tmp_path / name)) for name in ("first", "second")]
    assert [path.name for path in drawn[0]] == [
        f"{stem}.{kind}"
        for stem in ("loss_iterations", "loss_time", "error_iterations")
        for kind in ("png", "svg")
    ]
    for path in first.iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["seeds", "curves", "errors"])
def test_seeds_that_are_not_paired_are_caught(comparison, tmp_path, name):
    write_results(tmp_path, comparison)
    path = tmp_path / f"{name}.csv"
    head, *lines = path.read_text().splitlines(keepends=True)
    for planted in (
        lines[:-1],
        [*lines, lines[-1]],
        [*lines[:-1], lines[-1].replace("sgd,2", "sgd,7")],
        [line for line in lines if "adam" not in line],
        [*lines, lines[-1].replace("sgd", "other")],
        [],
    ):
        path.write_text("".join([head, *planted]))
        with pytest.raises(InputError, match=rf"lines for .* in {name}\.csv: \d, not \d \(not paired\)"):
            read_results(tmp_path)


def test_the_order_of_lines_does_not_matter(comparison, tmp_path):
    write_results(tmp_path, comparison)
    before = read_results(tmp_path)
    for name in ("seeds", "curves", "errors"):
        head, *lines = (tmp_path / f"{name}.csv").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.csv").write_text("".join([head, *lines[::-1]]))
    again = read_results(tmp_path)
    assert repr(again) == repr(before)  # which takes NaN for NaN


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("seeds", "mean_loss_4", ("", "nan", "-1", "0", "x")),
        ("seeds", "final_loss", ("", "nan", "-1")),
        ("seeds", "final_error", ("", "inf", "1.5", "-0.1")),
        ("seeds", "restarts", ("", "-1", "0.5")),
        ("seeds", "wall_s", ("", "nan", "inf", "-1", "1e400")),
        ("seeds", "steps_to_2", ("0", "26", "nan")),
        ("seeds", "cpu_s_to_2", ("-1", "inf")),
        ("curves", "step", ("", "0", "26", "nan")),
        ("curves", "loss", ("", "nan", "-1")),
        ("curves", "cpu_s", ("", "inf", "-1")),
        ("errors", "error", ("", "inf", "2")),
    ],
)
def test_impossible_numbers_are_named(comparison, tmp_path, table, column, values):
    write_results(tmp_path, comparison)
    path = tmp_path / f"{table}.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    for value in values:
        rows[3][rows[0].index(column)] = value
        path.write_text("".join(",".join(row) + "\n" for row in rows))
        with pytest.raises(InputError, match=rf"{column} in line 4 of {table}\.csv cannot be '{value}'"):
            read_results(tmp_path)


@pytest.mark.parametrize("edit", [lambda row: row[:-1], lambda row: row[1:], lambda row: [*row, row[-1]]])
@pytest.mark.parametrize("table", ["seeds", "curves", "errors"])
def test_tables_have_all_their_columns_once(comparison, tmp_path, table, edit):
    write_results(tmp_path, comparison)
    path = tmp_path / f"{table}.csv"
    path.write_text("".join(",".join(edit(line.split(","))) + "\n" for line in path.read_text().splitlines()))
    with pytest.raises(InputError, match=rf"{table}\.csv has other columns"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("title", (None, 5)),
        ("batch_size", (None, float("nan"))),
        ("backend", ([],)),
        ("horizons", (None, 5, "text", [], {}, ["x"], [-1, 25], [25, 4], [4, 26])),
        ("seeds", (None, {}, [0], [0, 1, 1], [0, 1], ["x", "y"])),
        ("tuning_seeds", (None, "text")),
        ("levels", (None, ["x"], [3.0])),
        ("reference", (None, [], "other")),
        ("clock", (None, [], "sundial")),
        ("contenders", (None, 5, [], {}, {"slstm": None}, {"slstm": {"learned": True}}, {"a|b": {}})),
    ],
)
def test_what_comparison_json_cannot_say_is_refused(comparison, tmp_path, key, values):
    write_results(tmp_path, comparison)
    path = tmp_path / "comparison.json"
    about = json.loads(path.read_text())
    for value in values:
        path.write_text(json.dumps({**about, key: value}))
        with pytest.raises(InputError, match="damaged"):
            read_results(tmp_path)


@pytest.mark.parametrize("text", ["5", "[]", "{}", "null"])
def test_what_is_no_description_at_all_is_refused(comparison, tmp_path, text):
    write_results(tmp_path, comparison)
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(InputError, match=r"are damaged: comparison\.json does not say its format"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "tuned", [None, {}, {"4": {}, "25": {}}, {"25": {"learning_rate": 0.1, "loss_on_tuning_seeds": 1.0}}]
)
def test_what_was_tuned_is_read_for_every_horizon(comparison, tmp_path, tuned):
    about = json.loads(json.dumps(comparison.about))
    about["contenders"]["adam"]["tuned"] = tuned
    write_results(tmp_path, comparison._replace(about=about))
    with pytest.raises(InputError, match=r"what comparison\.json says about adam cannot be so"):
        read_results(tmp_path)


def test_a_run_that_was_given_up_at_once_took_no_time(comparison):
    seeds = [{**row, "wall_s": 0.0, "cpu_s": 0.0} for row in comparison.seeds]
    assert "The machine did other things" not in page(comparison._replace(seeds=seeds))


def test_titles_and_names_do_not_break_the_page(comparison, tmp_path):
    about = {**comparison.about, "title": "From $5\n# to $\\six$"}
    titled = comparison._replace(about=about)
    assert page(titled).startswith("# From $5 # to $\\six$\n\n")
    assert all(path.stat().st_size for path in draw_figures(tmp_path, titled))
    for name in ("a|b", "a\nb", "$a$", "_a"):
        with pytest.raises(InputError, match="its name must be without"):
            Learned.parse(f"{name}=slstm").entrant(HORIZONS)


@pytest.mark.parametrize("name", ["comparison.json", "seeds.csv", "curves.csv", "errors.csv"])
def test_damaged_files_are_named(comparison, tmp_path, name):
    write_results(tmp_path, comparison)
    content = (tmp_path / name).read_text()
    (tmp_path / name).write_text(
        content[: len(content) // 2].rpartition(",")[0] + ",x,y,z,,,,,,,,,,,,,,,,,,,,"
    )
    with pytest.raises(InputError, match="damaged"):
        read_results(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError):
        read_results(tmp_path)


def test_what_cannot_be_compared_is_refused(tmp_path):
    runner, (slstm, momentum, *_) = Runner(tmp_path), entrants()
    with pytest.raises(InputError, match="a name of its own"):
        compare(PLAN, [slstm, slstm], "slstm", runner)
    with pytest.raises(InputError, match="the reference 'lstm' is none of the contenders: slstm, momentum"):
        compare(PLAN, [slstm, momentum], "lstm", runner)
    with pytest.raises(InputError, match="two seeds"):
        dataclasses.replace(PLAN, seeds=(1,))
    with pytest.raises(InputError, match="seed 1001 is for tuning"):
        dataclasses.replace(PLAN, seeds=(1, 1001))


finite = arrays(np.float64, 8, elements=st.floats(-5, 5, width=32))


@given(finite, finite)
def test_paired_tests_are_those_of_the_differences(reference, other):
    from scipy import stats

    test = paired(reference, other)
    d = other - reference
    assert test.difference == pytest.approx(d.mean(), abs=1e-12)
    assert test.standard_error == pytest.approx(stats.sem(d), abs=1e-12)
    assert 0 <= test.p_t <= 1
    assert 0 <= test.p_wilcoxon <= 1
    if np.ptp(d) > 1e-3:
        assert test.p_t == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9)
    mirrored = paired(other, reference)
    assert mirrored.p_t == pytest.approx(test.p_t)
    assert mirrored.p_wilcoxon == pytest.approx(test.p_wilcoxon)


@pytest.mark.parametrize("n_pictures", [360, 10_000])
def test_errors_are_tested_as_the_numbers_of_wrong_pictures_are(n_pictures):
    reference, other = np.array([3, 5, 8, 4, 12, 9, 7, 7]), np.array([4, 4, 9, 6, 11, 11, 8, 7])
    of_errors, of_counts = paired(reference / n_pictures, other / n_pictures), paired(reference, other)
    assert of_errors.p_wilcoxon == of_counts.p_wilcoxon
    # the differences but 0, 1 -1 1 2 -1 2 1, and their ranks; p is the share of signs that are as uneven
    ranks = np.array([3, 3, 3, 6.5, 3, 6.5, 3])
    signs = np.array([[1 if k >> i & 1 else -1 for i in range(7)] for k in range(2**7)])
    uneven = np.abs(signs @ ranks) >= abs(np.array([1, -1, 1, 1, -1, 1, 1]) @ ranks)
    assert of_counts.p_wilcoxon == pytest.approx(uneven.mean())


def test_a_constant_difference_is_certain_and_none_is_none():
    values = np.arange(5.0)
    assert paired(values, values)[1:] == (0.0, 0.0, 1.0, 1.0)
    assert paired(values, values + 1)[3:] == (0.0, 2 / 2**5)
    assert paired(values, np.nextafter(values, 9))[3:] == (1.0, 1.0)
    assert np.isnan(paired(values, np.full(5, np.inf)).difference)
    with pytest.raises(ValueError, match="not paired"):
        paired(values, values[:4])


def test_pairing_matters():
    """Seeds that are hard for all: unpaired, the difference would drown in them."""
    rng = np.random.default_rng(0)
    hard, noise = rng.normal(scale=10, size=10), rng.normal(scale=0.01, size=10)
    assert paired(hard, hard + 0.1 + noise).p_t < 1e-6
    assert paired(hard, rng.permutation(hard) + 0.1 + noise).p_t > 0.05


@pytest.mark.parametrize(("steps", "horizons"), [(50, (50,)), (100, (100,)), (600, (100, 200, 500, 600))])
def test_horizons_end_with_the_run(steps, horizons):
    assert horizons_up_to(steps) == horizons


def test_horizons_may_be_chosen():
    assert horizons_up_to(1000, (500, 200, 200, 1000)) == (200, 500, 1000)
    for n in (0, 11):
        with pytest.raises(InputError, match=f"one step or more, up to the 10 of the runs, not {n}"):
            horizons_up_to(10, (n, 5))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/l2lnp", "compare", "--data-dir", "/home/me/data"], "l2lnp compare --data-dir data"),
        (
            ["l2lnp", "--learned", "a=/home/me/runs/a.h5:joint:schedule=cosine"],
            "l2lnp --learned a=a.h5:joint:schedule=cosine",
        ),
        (
            ["l2lnp", "--learned", "a=runs/a.h5", "--title", "Two words"],
            "l2lnp --learned a=runs/a.h5 --title 'Two words'",
        ),
        ([".venv/bin/l2lnp", "--title", "Adam's"], """l2lnp --title 'Adam'"'"'s'"""),
    ],
)
def test_a_command_is_shown_without_places_of_one_machine(words, shown):
    assert command_without_places(words) == shown


UNDECAYED = {"optimizer_settings": {"weight_decay": 0.0}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=slstm", {"pretrained": "slstm", "joint": False, **UNDECAYED}),
        ("a=slstm:joint", {"pretrained": "slstm", "joint": True, **UNDECAYED}),
        ("a=random-lstm", {"optimizer": "lstm", "pretrained": "random", "joint": True}),
        (
            "a=slstm:curvature=exact_head:schedule=cosine",
            {
                "pretrained": "slstm",
                "joint": False,
                "curvature": "exact_head",
                "optimizer_settings": {"weight_decay": 0.0, "schedule": "cosine"},
            },
        ),
        (
            "a=slstm:weight_decay=0.2",
            {"pretrained": "slstm", "joint": False, "optimizer_settings": {"weight_decay": 0.2}},
        ),
    ],
)
def test_learned_contenders_are_asked_for_in_one_word(text, expected):
    assert Learned.parse(text).given() == expected


@pytest.mark.parametrize("text", ["slstm", "=slstm", "a=", "a=slstm:jiont", "a=nothing", "a=random-adam"])
def test_what_is_no_learned_contender_is_refused(text):
    with pytest.raises(InputError):
        Learned.parse(text)


@pytest.mark.parametrize(
    "setting", ["batch_size=3", "data=mnist", "seed=5", "pretrained=lstm", "average=true"]
)
def test_no_contender_has_what_all_share(setting):
    with pytest.raises(
        InputError, match=f"'{setting.partition('=')[0]}' in .* is the same for all contenders"
    ):
        Learned.parse(f"a=slstm:{setting}")


COMMITTED = sorted(path.parent for path in (ROOT / "docs" / "results").rglob("comparison.json"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_committed_results_give_their_pages(folder):
    comparison = read_results(folder)
    assert page(comparison) == (folder / "comparison.md").read_text()
    assert not re.search(r"(?<![\w.])/\w+/", comparison.about["command"])  # no place of one machine


@pytest.mark.slow
@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_committed_results_give_their_figures(folder, tmp_path):
    assert all(path.stat().st_size for path in draw_figures(tmp_path, read_results(folder)))
