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
    "clock": "cpu",
    "environment": {"numpy": "2.3", "system": "Linux"},
}


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
    joined = join([part(5, 6), other], "l2lnp compare --from a --from b")
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
    assert join([part(0), part(1, backend="numpy")], "").about["seeds"] == [0, 1]
    with pytest.raises(InputError, match=r"differ in backend$"):
        join([part(0), part(1, backend="cupy")], "")


@pytest.mark.parametrize(
    ("about", "odd"),
    [
        ({"data_fingerprint": "abd"}, "data_fingerprint"),
        ({"horizons": [5], "network": "big"}, "horizons, network"),
        ({"contenders": {"adam": {"learned": False, "tuned": {"4": {"learning_rate": 0.02}}}}}, "contenders"),
    ],
)
def test_what_compares_something_else_is_refused(about, odd):
    with pytest.raises(InputError, match=f"differ in {odd}$"):
        join([part(0, 1), part(2, 3, **about)], "")


def test_a_seed_counts_once():
    with pytest.raises(InputError, match="seed 1 is in two"):
        join([part(0, 1), part(1, 2)], "")


def test_errors_of_other_steps_do_not_mix():
    with pytest.raises(InputError, match="--eval-every"):
        join([part(0), part(1, at=2)], "")
