"""Contenders are asked for by name, with settings, and in the curvature basis."""

import pytest

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import CONTENDERS, Learned, find_baseline, in_basis
from l2lnp.experiments.tuning import question

from .small_jobs import COMMON


def test_a_hand_designed_contender_takes_settings_in_its_name():
    baseline = find_baseline("soap:weight_decay=0.2:basis_every=5")
    assert (baseline.optimizer, baseline.start) == ("adam", CONTENDERS["soap"].start)
    assert baseline.settings == {"basis": "kronecker", "weight_decay": 0.2, "basis_every": 5}
    assert CONTENDERS["soap"].settings == {"basis": "kronecker"}


def test_a_name_with_settings_is_another_question_to_tune():
    plain, decayed = (question(COMMON, name, 5) for name in ("adam", "adam:weight_decay=0.2"))
    assert plain["optimizer_settings"] == {}
    assert decayed["optimizer_settings"] == {"weight_decay": 0.2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adma", "did you mean 'adam'"),
        ("adma:beta1=0.8", "did you mean 'adam'"),
        ("adam:bata1=0.8", "unknown setting of adam 'bata1'"),
        ("adam:beta1", "SETTING=VALUE is wanted after the name, not 'beta1'"),
        ("adam:basis_every=5", "basis_every of adam belongs to the curvature basis"),
        ("adam:basis=kroneker", "did you mean 'kronecker'"),
        ("adam:weight_decay=lots", "weight_decay must be like 0.0"),
        ("adam:learning_rate=0.1", "'learning_rate' in 'adam:learning_rate=0.1' is tuned"),
        ("sou:epsilon=0.1", "'epsilon' in 'sou:epsilon=0.1' is tuned"),
    ],
)
def test_what_is_no_hand_designed_contender_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        find_baseline(name)


NAMES = ("sgd", "adam", "soap", "adam:basis=coordinates")
LEARNED = ("a=slstm", "b=slstm-coordinates", "c=random-slstm", "d=random-lstm:basis=kronecker:basis_every=7")


@pytest.mark.parametrize(
    ("asked", "names", "learned"),
    [
        ({}, NAMES, [{}, {}, {}, {}]),
        ({"basis": "coordinates"}, NAMES, [{}, {}, {}, {}]),
        (
            {"basis": "kronecker"},
            ("sgd:basis=kronecker", "adam:basis=kronecker", "soap", "adam:basis=coordinates"),
            [{}, {}, {"basis": "kronecker"}, {}],
        ),
        (
            {"basis_every": 5},
            ("sgd", "adam", "soap:basis_every=5", "adam:basis=coordinates"),
            [{"basis_every": 5}, {}, {}, {}],
        ),
        (
            {"basis": "kronecker", "basis_max_width": 9},
            (
                "sgd:basis=kronecker:basis_max_width=9",
                "adam:basis=kronecker:basis_max_width=9",
                "soap:basis_max_width=9",
                "adam:basis=coordinates",
            ),
            [
                {"basis_max_width": 9},
                {},
                {"basis": "kronecker", "basis_max_width": 9},
                {"basis_max_width": 9},
            ],
        ),
    ],
)
def test_what_is_asked_of_the_basis_reaches_those_it_applies_to(asked, names, learned):
    """A contender's own settings go before; soap and files say themselves what they work in."""
    before = [Learned.parse(text) for text in LEARNED]
    found, after = in_basis(NAMES, before, asked)
    assert found == names
    assert [one.settings for one in after] == [
        {**one.settings, **own} for one, own in zip(before, learned, strict=True)
    ]
    for name in found:
        find_baseline(name)


def test_a_refresh_of_no_basis_is_refused():
    with pytest.raises(InputError, match=r"--basis-every would change nothing: every contender says it"):
        in_basis(("adam",), [Learned.parse("a=slstm-coordinates")], {"basis_every": 5})
