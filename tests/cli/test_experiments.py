"""The experiments as commands: real processes, killed and gone on with."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from l2lnp.experiments.results import read_results
from l2lnp.pretrained import find_learned_file

from .command_line import l2lnp, start

RESULTS = Path(__file__).parents[2] / "docs" / "results"
TINY = ("--batch-size", "16", "--cache", "cache", "--workers", "1")
COMPARE = (
    "compare",
    *TINY,
    "--steps",
    "8",
    "--seeds",
    "3",
    "--tuning-seeds",
    "1",
    "--optimizers",
    "adam,sgd",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the figures, which take longer than the runs."""
    monkeypatch.setattr("l2lnp.experiments.figures.draw_figures", lambda folder, comparison: [])


def seeds_of(folder):
    """The rows of the first seed."""
    return [row for row in read_results(folder).seeds if row["seed"] == 0]


def timeless(folder):
    """What stands in a folder of results, without times and command."""
    lines = (folder / "curves.csv").read_text().splitlines()
    about = json.loads((folder / "comparison.json").read_text())
    return [line.split(",")[:4] for line in lines], {**about, "command": None, "command_sha256": None}


def test_compare_tunes_and_writes_everything_and_makes_it_anew(capsys, folder):
    ended = l2lnp(capsys, *COMPARE, "--out", "results", "--clock", "cpu")
    assert ended.code == 0, ended.err
    assert "not tuned yet: adam for 8 steps; sgd for 8 steps" in ended.out
    assert "slstm / best baseline" in ended.out
    stems = ("loss_iterations", "loss_time", "error_iterations")
    figures = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    numbers = {"comparison.json", "seeds.csv", "curves.csv", "errors.csv"}
    assert {path.name for path in (folder / "results").iterdir()} == {"comparison.md", *figures, *numbers}
    again = l2lnp(capsys, "compare", "--from", "results", "--out", "again")
    assert again.code == 0
    for path in (folder / "results").iterdir():
        assert path.read_bytes() == (folder / "again" / path.name).read_bytes(), path.name
    wall = l2lnp(capsys, "compare", "--from", "results", "--out", "wall", "--clock", "wall")
    assert "(wall time)" in wall.out
    assert "(wall time)" not in again.out


@pytest.mark.parametrize("command", ["compare", "transfer", "ablate"])
def test_a_page_made_anew_keeps_its_title_unless_given_another(capsys, folder, undrawn, command):
    source = shutil.copytree(RESULTS / "digits-small", folder / "results")
    (title, *_) = (source / "comparison.md").read_text().splitlines()
    assert l2lnp(capsys, command, "--from", "results").out.startswith(f"{title}\n")
    assert l2lnp(capsys, command, "--from", "results", "--title", "New").out.startswith("# New\n")
    assert json.loads((source / "comparison.json").read_text())["title"] == "New"


def test_a_second_comparison_runs_nothing_anew(capsys, folder, undrawn):
    l2lnp(capsys, *COMPARE, "--out", "first")
    before = {path: path.read_bytes() for path in (folder / "cache").iterdir()}
    ended = l2lnp(capsys, *COMPARE, "--out", "second")
    assert "jobs" not in ended.out
    assert {path: path.read_bytes() for path in (folder / "cache").iterdir()} == before
    assert (folder / "first" / "seeds.csv").read_bytes() == (folder / "second" / "seeds.csv").read_bytes()


def test_seeds_that_ran_apart_are_joined_to_what_they_are_together(capsys, folder, undrawn):
    apart = {"a": ("--seeds", "2"), "b": ("--seeds", "2", "--first-seed", "2"), "whole": ("--seeds", "4")}
    for out, words in apart.items():
        assert l2lnp(capsys, *COMPARE, *words, "--out", out).code == 0
    ended = l2lnp(capsys, "compare", "--from", "b", "--from", "a", "--out", "joined", "--title", "All")
    assert ended.out.startswith("# All\n")
    assert "4 seeds (0, 1, 2, 3)" in ended.out
    for table in ("seeds", "curves", "errors"):
        joined, whole = (folder / out / f"{table}.csv" for out in ("joined", "whole"))
        assert joined.read_bytes() == whole.read_bytes()
    ended = l2lnp(capsys, "compare", "--from", "a", "--from", "whole")
    assert ended.code == 2
    assert "with seed 0 is in two of the results to be joined" in ended.err
    ended = l2lnp(capsys, "compare", "--from", "a", "--from", "whole", "--replace", "--out", "replaced")
    assert (folder / "replaced" / "seeds.csv").read_bytes() == (folder / "whole" / "seeds.csv").read_bytes()
    assert not (folder / "runs" / "compare-digits-small-1").exists()


def test_contenders_that_ran_apart_are_joined_to_what_they_are_together(capsys, folder, undrawn):
    apart = {"learned": ("--optimizers", "none"), "tuned": ("--learned", "none"), "whole": ()}
    for out, words in apart.items():
        assert l2lnp(capsys, *COMPARE, *words, "--out", out).code == 0
    l2lnp(capsys, "compare", "--from", "learned", "--from", "tuned", "--out", "joined")
    for table in ("seeds", "curves", "errors"):
        joined, whole = (folder / out / f"{table}.csv" for out in ("joined", "whole"))
        assert joined.read_bytes() == whole.read_bytes()
    joined, whole = (
        json.loads((folder / out / "comparison.json").read_text()) for out in ("joined", "whole")
    )
    assert joined == {**whole, **{key: joined[key] for key in ("command", "command_sha256")}}


def test_nothing_is_written_over_another_comparison(capsys, folder, undrawn, monkeypatch):
    def compared(*words):
        command = [*COMPARE, "--optimizers", "none", *words]
        monkeypatch.setattr("sys.argv", ["l2lnp", *command])
        return l2lnp(capsys, *command)

    def numbers():
        return {path: path.read_bytes() for path in (folder / "runs").rglob("*.csv")}

    compared()
    first = numbers()
    assert {path.parent.name for path in first} == {"compare-digits-small-1"}
    compared()  # the same again: to the same place
    assert numbers() == first
    compared("--seeds", "3")
    assert numbers().items() > first.items()
    assert {path.parent.name for path in numbers()} == {"compare-digits-small-1", "compare-digits-small-2"}
    for words in (["--seeds", "4"], ["--from", "runs/compare-digits-small-2"]):
        before, ended = numbers(), compared(*words, "--out", "runs/compare-digits-small-1")
        assert ended.code == 2
        assert "runs/compare-digits-small-1 holds another comparison, or a run: choose" in ended.err
        assert numbers() == before


def test_no_comparison_is_written_into_the_folder_of_a_run(capsys, folder, undrawn):
    assert l2lnp(capsys, "train", "--optimizer", "adam", "--steps", "2", "--out", "run").code == 0
    assert l2lnp(capsys, *COMPARE, "--optimizers", "none", "--out", "compared").code == 0
    for words in ([*COMPARE], ["compare", "--from", "compared"]):
        ended = l2lnp(capsys, *words, "--out", "run")
        assert ended.code == 2
        assert "run holds another comparison, or a run: choose another --out" in ended.err
    assert not (folder / "run" / "comparison.json").exists()


def test_files_of_one_name_in_two_folders_are_not_taken_for_one(capsys, folder, undrawn, monkeypatch):
    for name in ("one", "other"):
        (folder / name).mkdir()
        shutil.copy(find_learned_file("slstm"), folder / name / "learned.h5")
        learned = f"a={folder / name / 'learned.h5'}"
        command = [*COMPARE, "--optimizers", "none", "--learned", learned]
        monkeypatch.setattr("sys.argv", ["l2lnp", *command])
        assert l2lnp(capsys, *command).code == 0
    told = [json.loads(path.read_text())["command"] for path in (folder / "runs").glob("*/comparison.json")]
    assert len(told) == 2
    assert told[0] == told[1]


def jobs_in(cache):
    return len(list(cache.glob("*.h5")))


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(signal.SIGINT, "1", id="ctrl-c"),
        pytest.param(signal.SIGKILL, "2", id="kill, two workers"),
        pytest.param(signal.SIGINT, "2", id="ctrl-c, two workers", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "1", id="kill", marks=pytest.mark.slow),
    ],
)
def test_a_comparison_that_was_stopped_goes_on_where_it_was(capsys, folder, undrawn, number, workers):
    options = [*COMPARE, "--seeds", "15"]
    options[options.index("--workers") + 1] = workers
    process = start(*options, "--out", "stopped")
    deadline = time.monotonic() + 60
    while jobs_in(folder / "cache") < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    assert not (folder / "stopped").exists()
    if number == signal.SIGINT:
        assert "the same command goes on from there" in out
        assert err.strip() == "l2lnp: interrupted"
    done = {path: path.stat().st_mtime_ns for path in (folder / "cache").glob("*.h5")}
    ended = l2lnp(capsys, *COMPARE, "--seeds", "15", "--out", "stopped")
    assert ended.code == 0, ended.err
    assert {path: path.stat().st_mtime_ns for path in done} == done
    whole = l2lnp(capsys, *COMPARE, "--seeds", "15", "--cache", "other", "--out", "whole")
    assert whole.code == 0
    assert timeless(folder / "stopped") == timeless(folder / "whole")
    assert jobs_in(folder / "cache") == jobs_in(folder / "other")


def test_tune_writes_a_file_that_compare_reads(capsys, folder, undrawn):
    ended = l2lnp(capsys, "tune", *TINY, "--optimizers", "sou", "--steps", "3,8", "--tuning-seeds", "2")
    assert ended.code == 0, ended.err
    assert "| sou | 8 |" in ended.out
    assert ended.out.endswith("written to cache/tuned.json\n")
    entries = json.loads((folder / "cache" / "tuned.json").read_text())["entries"]
    assert {entry["question"]["horizon_steps"] for entry in entries} == {3, 8}
    assert set(entries[0]["answer"]["settings"]) == {"learning_rate", "epsilon"}
    compared = l2lnp(capsys, *COMPARE, "--optimizers", "sou", "--horizons", "3", "--out", "results")
    assert compared.code == 0
    assert "not tuned yet" not in compared.out
    assert "|  | n = 3 | n = 8 |" in compared.out


def test_adam_in_the_basis_is_soap_and_sgd_is_what_it_is_in_coordinates(capsys, folder, undrawn):
    asked = (
        "--optimizers",
        "sgd,adam,soap",
        "--learned",
        "none",
        "--basis",
        "kronecker",
        "--basis-every",
        "2",
    )
    ended = l2lnp(capsys, *COMPARE, *asked, "--out", "results")
    assert ended.code == 0, ended.err
    coordinates = l2lnp(capsys, *COMPARE, "--optimizers", "sgd,soap", "--learned", "none", "--out", "others")
    assert coordinates.code == 0
    losses = {row["contender"]: row["mean_loss_8"] for row in seeds_of(folder / "results")}
    others = {row["contender"]: row["mean_loss_8"] for row in seeds_of(folder / "others")}
    soap = losses["soap:basis_every=2"]
    assert losses["adam:basis=kronecker:basis_every=2"] == soap
    assert others["soap"] != soap
    assert losses["sgd:basis=kronecker:basis_every=2"] == pytest.approx(others["sgd"], rel=1e-5)


def test_transfer_goes_to_the_big_network_frozen_and_jointly(capsys, folder, undrawn):
    ended = l2lnp(capsys, "transfer", *COMPARE[1:], "--optimizers", "adam", "--out", "results")
    assert ended.code == 0, ended.err
    about = json.loads((folder / "results" / "comparison.json").read_text())
    assert about["network"] == "big"
    assert [about["contenders"][name].get("joint") for name in ("slstm", "slstm-joint", "adam")] == [
        False,
        True,
        None,
    ]
    again = l2lnp(capsys, "transfer", "--from", "results")
    assert again.code == 0


def test_ablate_says_what_h_is_worth(capsys, folder, undrawn):
    ended = l2lnp(
        capsys, "ablate", *TINY, "--steps", "6", "--seeds", "2", "--modes", "exact_head", "--out", "results"
    )
    assert ended.code == 0, ended.err
    assert "## What h is worth" in ended.out
    assert "| h shuffled |" in ended.out
    contenders = json.loads((folder / "results" / "comparison.json").read_text())["contenders"]
    assert list(contenders) == [
        f"slstm-coordinates{change}" for change in ("", "-h-zero", "-h-shuffled", "-exact_head")
    ]


def test_pretrained_lists_and_describes(capsys):
    listed = l2lnp(capsys, "pretrained")
    assert (
        "slstm: slstm for each kind of layer (conv, fully_connected); reads g, and h by the eigenvalues"
        in listed.out
    )
    assert (
        "lstm: lstm for each kind of layer (conv, fully_connected); reads g alone, in the curvature basis\n"
        in listed.out
    )
    assert "reads g, and h by hesscale\n" in listed.out
    for name, parts in {
        "slstm": ("--tasks wide-mixture --data-dir DATA --pretrained second/slstm.h5", "step_unit=weights"),
        "slstm-coordinates": (
            *("--pretrained first/slstm-coordinates.h5", "unit_limit=1.5"),
            *("full_width:    128", "then set:      full_width\n"),
        ),
        # when it was made units had no largest
        "lstm-coordinates": ("--optimizer lstm --episodes 300", "unit_limit=1000000000.0"),
    }.items():
        shown = l2lnp(capsys, "pretrained", name).out
        for part in ("sha256:", "MetaSettings(", "[[data]]", "l2lnp meta-train ", *parts):
            assert part in shown
        assert "full_width=128" not in shown  # of the command, which makes it as it was before it was set


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--optimizers", "adan"], "unknown contender 'adan': did you mean 'adam'"),
        (["compare", "--optimizers", "none", "--learned", "none"], "nothing to compare"),
        (["compare", "--optimizers", ","], "names separated by commas are wanted, one or more, not ','"),
        (["compare", "--optimizers", ""], "names separated by commas are wanted, one or more, not ''"),
        (["compare", "--steps", "50", "--horizons", "20,60"], "up to the 50 of the runs, not 60"),
        (["compare", "--learned", "slstm"], "NAME=FILE"),
        (["compare", "--learned", "a=random-adam"], "unknown learned optimizer 'random-adam'"),
        (["compare", "--learned", "a|b=slstm"], "its name must be without |"),
        (["compare", "--learned", "a=none.h5"], "none.h5"),
        (["compare", "--learned", "a=slstm", "--learned", "a=slstm:joint"], "a name of its own"),
        (["compare", "--learned", "adam=slstm"], "a name of its own"),
        (["compare", "--optimizers", "adam,adam"], "a name of its own"),
        (["compare", "--reference", "b"], "the reference 'b' is none of the contenders"),
        (["compare", "--first-seed", "995"], "seed 1000 is for tuning"),
        (["compare", "--from", "nowhere"], "no results of a comparison"),
        (["compare", "--replace"], "name their folders with --from"),
        (["compare", "--from", "nowhere", "--replace"], "name their folders with --from"),
        (["compare", "--learned", "a=slstm:speed=3"], "unknown setting of slstm 'speed'"),
        (["compare", "--learned", "a=slstm:curvature=exat"], "unknown curvature mode 'exat'"),
        (["compare", "--optimizers", "sgd,adam:schedule=cosin"], "cosin"),
        (["compare", "--optimizers", "sgd,soap:basis_every=0"], "basis_every and basis_max_width must be"),
        (["tune", "--optimizers", "sgd,adam:basis_every=5"], "belongs to the curvature basis"),
        (["transfer", "--learned", "none", "--optimizers", "none"], "nothing to compare"),
        (["compare", "--data", "mnist"], "--data-dir"),
        (["tune", "--optimizers", "slstm"], "unknown contender 'slstm'"),
        (["tune", "--optimizers", "none"], "nothing to tune"),
        (["tune", "--optimizers", "adam", "--basis-every", "5"], "--basis kronecker is one way there"),
        (["tune", "--optimizers", "adam:learning_rate=1"], "is tuned: leave it out"),
        (["tune", "--basis", "kroneker"], "did you mean 'kronecker'"),
        (["tune", "--steps", "0"], "one step or more"),
        (["ablate", "--learned", "a=random-lstm"], "has no h to take away"),
        (["ablate", "--modes", "exat"], "unknown curvature mode 'exat'"),
        (["ablate", "--modes", "ekfac"], "'ekfac' is not for slstm-coordinates, which is in coordinates"),
        (["ablate", "--learned", "a=slstm:curvature=ekfac", "--modes", "exact"], "take one of: ekfac"),
        (["compare", "--learned", "a=slstm:decay=0.5:decay=0.6"], "decay is given twice, as 0.5 and 0.6"),
        (["tune", "--optimizers", "adam:weight_decay=1:weight_decay=2"], "weight_decay is given twice"),
        (
            ["compare", "--out", "/dev/null/results"],
            "cannot write into /dev/null/results: /dev/null is a file",
        ),
        (["ablate", "--learned", "a=slstm"], "a has no h to take away"),
        (["pretrained", "slmt"], "unknown learned optimizer 'slmt'"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(capsys, folder, arguments, message):
    ended = l2lnp(capsys, *arguments)
    assert ended.code == 2, ended
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert list(folder.iterdir()) == []
