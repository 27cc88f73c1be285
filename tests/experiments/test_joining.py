"""Joining: what may differ between comparisons that are joined, and what may not."""

import pytest

from l2lnp.errors import InputError
from l2lnp.experiments.comparison import Comparison
from l2lnp.experiments.joining import join

ABOUT = {
    "title": "First",
    "command": "l2lnp compare",
    "data": "digits",
    "data_fingerprint": "abc",
    "network": "small",
    "horizons": [4],
    "contenders": {"adam": {"learned": False, "tuned": {"4": {"learning_rate": 0.01}}}},
    "tuning_seeds": [1000],
    "clock": "cpu",
    "environment": {"numpy": "2.3", "system": "Linux"},
}


JOINING = {"command": "", "command_sha256": ""}


def part(*seeds, at=4, **about):
    """A comparison of one contender, as far as joining looks at it."""
    errors = [{"contender": "adam", "seed": seed, "step": at, "error": 0.1} for seed in seeds]
    rows = [{"contender": "adam", "seed": seed, "mean_loss_4": 1.0 + seed} for seed in seeds]
    return Comparison({**ABOUT, "seeds": list(seeds), **about}, rows, [], errors)


def test_all_rows_are_there_and_what_was_run_is_told():
    other = part(
        0,
        1,
        title="Second",
        command="l2lnp compare --first-seed 0",
        environment={"numpy": "2.4", "system": "Linux"},
    )
    joined = join([part(5, 6), other], {**JOINING, "command": "l2lnp compare --from a --from b"})
    assert [row["seed"] for row in joined.seeds] == [0, 1, 5, 6] == joined.about["seeds"]
    assert [row["seed"] for row in joined.errors] == [0, 1, 5, 6]
    assert joined.about["title"] == "First"
    assert joined.about["command"].splitlines() == [
        "l2lnp compare",
        "l2lnp compare --first-seed 0",
        "l2lnp compare --from a --from b",
    ]
    assert joined.about["environment"] == {"numpy": "2.3, 2.4", "system": "Linux"}


def test_a_page_from_before_backends_were_told_is_one_of_numpy():
    assert join([part(0), part(1, backend="numpy")], JOINING).about["seeds"] == [0, 1]
    with pytest.raises(InputError, match=r"differ in backend$"):
        join([part(0), part(1, backend="cupy")], JOINING)


@pytest.mark.parametrize(
    ("about", "odd"),
    [
        ({"data_fingerprint": "abd"}, "data_fingerprint"),
        ({"horizons": [5], "network": "big"}, "horizons, network"),
    ],
)
def test_what_compares_something_else_is_refused(about, odd):
    with pytest.raises(InputError, match=f"differ in {odd}$"):
        join([part(0, 1), part(2, 3, **about)], JOINING)


def test_a_seed_counts_once():
    with pytest.raises(InputError, match="'adam' with seed 1 is in two"):
        join([part(0, 1), part(1, 2)], JOINING)


def test_errors_of_other_steps_do_not_mix():
    with pytest.raises(InputError, match="--eval-every"):
        join([part(0), part(1, at=2)], JOINING)


def learned(*seeds, sha256="old", loss=1.0):
    """A comparison of a learned optimizer alone, for which nothing was tuned."""
    rows = [{"contender": "slstm", "seed": seed, "mean_loss_4": loss} for seed in seeds]
    errors = [{"contender": "slstm", "seed": seed, "step": 4, "error": 0.1} for seed in seeds]
    about = {"tuning_seeds": [], "contenders": {"slstm": {"learned": True, "sha256": sha256}}}
    return Comparison({**ABOUT, "seeds": list(seeds), **about}, rows, [], errors)


def test_contenders_with_the_same_seeds_stand_side_by_side():
    joined = join([part(0, 1), learned(1, 0)], JOINING)
    assert [(row["contender"], row["seed"]) for row in joined.seeds] == [
        ("adam", 0),
        ("adam", 1),
        ("slstm", 0),
        ("slstm", 1),
    ]
    assert joined.about["contenders"]["slstm"]["sha256"] == "old"
    assert joined.about["tuning_seeds"] == [1000]


def test_the_last_result_counts_where_it_replaces():
    before = join([part(0, 1), learned(0, 1)], JOINING)
    after = join([before, learned(0, 1, sha256="new", loss=0.5)], JOINING, replace=True)
    assert [row["mean_loss_4"] for row in after.seeds] == [1.0, 2.0, 0.5, 0.5]
    assert len(after.errors) == 4
    assert after.about["contenders"]["slstm"]["sha256"] == "new"


def test_one_name_means_one_optimizer():
    with pytest.raises(InputError, match="differ in the settings of 'slstm'"):
        join([learned(0, 1), learned(2, 3, sha256="new")], JOINING)
    with pytest.raises(InputError, match="differ in the settings of 'slstm'"):
        join([learned(0, 1), learned(1, sha256="new")], JOINING, replace=True)


def test_every_contender_has_every_seed():
    with pytest.raises(InputError, match="none has 'slstm' with seed 1"):
        join([part(0, 1), learned(0)], JOINING)


def test_baselines_were_tuned_on_the_same_seeds():
    with pytest.raises(InputError, match="tuned on different seeds"):
        join([part(0), part(1, tuning_seeds=[1001])], JOINING)
