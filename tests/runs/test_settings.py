"""Settings: complete after `resolve`, repeated exactly by TOML, and refused where they do not go together."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.errors import InputError
from l2lnp.optimizers import OPTIMIZERS
from l2lnp.pretrained import LearnedOptimizer, find_learned_file, save_learned_optimizer
from l2lnp.runs.resolving import (
    JOINT_DEFAULTS,
    PRACTISED_JOINT_DEFAULTS,
    PRETRAINED_WEIGHT_DECAY,
    resolve,
)
from l2lnp.runs.settings import TrainSettings, parse_config, read_config

RANDOM = {"pretrained": "random"}


@pytest.fixture
def pretrained(tmp_path):
    path = tmp_path / "learned.h5"
    settings = {"features": ["rnnprop"], "decay": 0.9}
    phi = {"conv/head/b": np.zeros(1)}
    save_learned_optimizer(path, LearnedOptimizer("slstm", settings, "gauss_newton", phi, "a test"))
    return str(path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resolved_settings_are_the_same_after_toml(optimizer):
    settings = resolve({"optimizer": optimizer})
    assert TrainSettings(**parse_config(settings.to_toml())) == settings
    assert resolve(parse_config(settings.to_toml())) == settings


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\\")), st.floats(1e-30, 1e30))
def test_toml_keeps_every_text_and_number(text, number):
    settings = replace(TrainSettings(), data=text, learning_rate=number)
    assert TrainSettings(**parse_config(settings.to_toml())) == settings


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_settings_that_do_not_apply_are_none(optimizer):
    kind = OPTIMIZERS[optimizer]
    begun = {"optimizer": optimizer, "optimizer_settings": {"basis": "coordinates"}}
    settings = resolve(begun)
    assert (settings.curvature is not None) == kind.uses_curvature
    assert (settings.learning_rate is None) == kind.learned
    assert (settings.joint is not None) == kind.learned
    joint = resolve({**begun, **({"joint": True} if kind.learned else {})})
    for name in JOINT_DEFAULTS:
        assert (getattr(joint, name) is not None) == kind.learned


def test_joint_learning_changes_what_has_practised_less_than_what_begins_random():
    for begun, expected in (
        ({"joint": True}, PRACTISED_JOINT_DEFAULTS),
        ({"pretrained": "random"}, JOINT_DEFAULTS),
    ):
        settings = resolve(begun)
        assert {name: getattr(settings, name) for name in expected} == expected
    assert resolve({"joint": True, "meta_learning_rate": 0.5}).meta_learning_rate == 0.5


def test_a_learned_optimizer_begins_as_it_came_with_the_package_and_stays_so_unless_asked():
    settings = resolve({})
    assert (settings.optimizer, settings.pretrained, settings.joint) == ("slstm", "slstm", False)
    assert resolve({"joint": True}).pretrained == "slstm"
    assert resolve({"optimizer": "lstm"}).pretrained == "lstm"
    assert resolve({"curvature": "exact"}).pretrained == "slstm-coordinates"
    with pytest.raises(InputError, match=r"has learned with basis = coordinates, not kronecker"):
        resolve({"pretrained": "slstm-coordinates", "optimizer_settings": {"basis": "kronecker"}})
    in_coordinates = resolve({"optimizer_settings": {"basis": "coordinates"}})
    assert in_coordinates.pretrained == "slstm-coordinates"
    assert resolve({"unroll_length_steps": 5}).joint
    own = {"pretrained": "random", "optimizer_settings": {"features": ["rnnprop"]}}
    assert resolve(own).joint
    with pytest.raises(InputError, match=r"begin anew with --pretrained random"):
        resolve({"optimizer_settings": {"features": ["rnnprop"]}})


def test_a_name_goes_before_a_folder_and_a_folder_stands_in_full(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("slstm", "mine"):
        (tmp_path / name).mkdir()
        shutil.copy(pretrained, tmp_path / name / "learned.h5")
    assert find_learned_file("slstm").parent != tmp_path / "slstm"
    assert find_learned_file("./slstm") == Path("slstm/learned.h5")
    assert resolve({"pretrained": "slstm"}).pretrained == "slstm"
    assert resolve({"pretrained": "mine"}).pretrained == str(tmp_path / "mine")


def test_what_belongs_to_the_basis_is_refused_in_coordinates():
    for name, value in {"basis_every": 5, "basis_max_width": 0, "basis_recency": 2.0}.items():
        given = {"optimizer": "adam", "optimizer_settings": {name: value}}
        with pytest.raises(InputError, match=f"{name} of adam belongs to the curvature basis"):
            resolve(given)
    assert resolve({"optimizer": "adam", "optimizer_settings": {"basis_every": 10}})  # as in a config.toml
    for given in ({}, {"optimizer": "adam"}, {"pretrained": "slstm-coordinates"}):
        with pytest.raises(InputError, match="unknown basis 'kroneker': did you mean 'kronecker'"):
            resolve({**given, "optimizer_settings": {"basis": "kroneker"}})


def test_a_pretrained_file_brings_its_optimizer_with_it(pretrained):
    settings = resolve({"pretrained": pretrained, "optimizer_settings": {"output_scale": 0.2}})
    assert (settings.optimizer, settings.curvature) == ("slstm", "gauss_newton")
    own = settings.optimizer_settings
    assert (own["features"], own["decay"], own["output_scale"]) == (["rnnprop"], 0.9, 0.2)
    assert resolve({"pretrained": pretrained, "curvature": "exact"}).curvature == "exact"
    assert resolve({"pretrained": pretrained, "joint": False}).unroll_length_steps is None


def test_ekfac_is_of_the_curvature_basis():
    settings = resolve({"curvature": "ekfac"})
    assert (settings.pretrained, settings.curvature) == ("slstm", "ekfac")
    in_basis = {"optimizer": "sou", "optimizer_settings": {"basis": "kronecker"}}
    assert resolve({**in_basis, "curvature": "ekfac"}).curvature == "ekfac"
    assert resolve(in_basis).curvature is None


def test_a_pretrained_optimizer_decays_the_weights_unless_asked_not_to(pretrained):
    assert resolve({}).optimizer_settings["weight_decay"] == PRETRAINED_WEIGHT_DECAY
    assert resolve({"pretrained": "random"}).optimizer_settings["weight_decay"] == 0.0
    for decay in (0.0, 0.7):
        own = {"weight_decay": decay}
        asked = resolve({"pretrained": pretrained, "optimizer_settings": own})
        assert asked.optimizer_settings["weight_decay"] == decay


def test_h_is_held_in_coordinates_alone():
    assert resolve({"optimizer_settings": {"curvature_every": 3}}).pretrained == "slstm-coordinates"
    assert resolve({}).optimizer_settings["curvature_every"] == 1
    with pytest.raises(InputError, match="unknown setting of adam 'curvature_every'"):
        resolve({"optimizer": "adam", "optimizer_settings": {"curvature_every": 3}})


def test_paths_are_made_full_and_names_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve({"network": "nets/own.toml", "data": "pictures.h5", "data_dir": "mnist"})
    assert settings.network == str(tmp_path / "nets" / "own.toml")
    assert settings.data == str(tmp_path / "pictures.h5")
    assert settings.data_dir == str(tmp_path / "mnist")
    assert resolve({}).network == "small"


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"stepps": 3}, "unknown setting 'stepps': did you mean 'steps'"),
        ({"steps": 0}, "--steps must be positive, not 0"),
        ({"steps": 2.5}, "--steps must be a whole number, not 2.5"),
        ({"steps": True}, "--steps must be a whole number, not True"),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
        ({"seed": 10**26}, f"--seed must be at most {2**63 - 1}, not {10**26}"),
        ({"learning_rate": 10**400}, f"--learning-rate must be at most {2**63 - 1}"),
        ({"unroll_length_steps": -5}, "--unroll-length must be positive, not -5"),
        ({"checkpoint_every_s": float("nan")}, "--checkpoint-every must be positive, not nan"),
        ({"joint": "yes"}, "--joint must be true or false, not 'yes'"),
        ({"optimizer": "adan"}, "unknown optimizer 'adan': did you mean 'adam'"),
        ({"curvature": "hescale"}, "unknown curvature mode 'hescale': did you mean 'hesscale'"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"backend": "numpi"}, "unknown backend 'numpi': did you mean 'numpy'"),
        ({"pretrained": "best"}, "unknown learned optimizer 'best'"),
        (
            {"learning_rate": 0.1},
            "--learning-rate does not apply to slstm, which learns the size of its steps",
        ),
        (
            {"optimizer": "adam", "curvature": "exact"},
            "--curvature does not apply to adam, which uses gradients",
        ),
        ({"optimizer": "lstm", "curvature": "exact"}, "--curvature does not apply to lstm"),
        (
            {"optimizer": "sou", "curvature": "ekfac"},
            "of the curvature basis: give --basis kronecker with it",
        ),
        ({"pretrained": "slstm-coordinates", "curvature": "ekfac"}, "give --basis kronecker with it"),
        (
            {"optimizer_settings": {"basis": "kronecker"}, "curvature": "hesscale"},
            "'hesscale' does not apply to the curvature basis",
        ),
        (
            {"optimizer_settings": {"basis": "kronecker"}, "curvature": "efkac"},
            "unknown curvature mode 'efkac': did you mean 'ekfac'",
        ),
        ({"pretrained": "slstm", "curvature": "exact"}, "'exact' does not apply to the curvature basis"),
        ({"second_derivatives": True, "curvature": "ekfac"}, "cannot go through --curvature ekfac"),
        ({"optimizer": "sou", "joint": True}, "--joint does not apply to sou, which learns nothing"),
        ({"optimizer": "sgd", "unroll_length_steps": 3}, "--unroll-length does not apply to sgd"),
        ({"pretrained": "random", "joint": False}, "--frozen needs a pretrained optimizer"),
        ({"joint": False, "meta_learning_rate": 0.1}, "--meta-learning-rate does not apply to a frozen"),
        (
            {"second_derivatives": True, "curvature": "exact"},
            "--second-derivatives cannot go through --curvature exact: it is supported for hesscale",
        ),
        ({"optimizer": "momentum", "optimizer_settings": {"momemtum": 0.5}}, "did you mean 'momentum'"),
        ({"optimizer_settings": {"head": 3}}, "slstm: head must be like 'tanh', not 3"),
        ({"optimizer": "adam", "optimizer_settings": {"beta_1": float("nan")}}, "beta_1 must be like 0.9"),
        ({**RANDOM, "optimizer_settings": {"features": [1]}}, "slstm: features must be like ("),
        (
            {**RANDOM, "optimizer_settings": {"n_units": ["a", 2]}},
            "n_units must be like (20, 20), not ['a', 2]",
        ),
        (
            {**RANDOM, "optimizer_settings": {"n_units": [2.5, 2]}},
            "n_units must be like (20, 20), not [2.5, 2]",
        ),
        (
            {**RANDOM, "optimizer_settings": {"n_units": [True, 2]}},
            "n_units must be like (20, 20), not [True, 2]",
        ),
        ({"optimizer_settings": {"basis_every": 10**20}}, f"basis_every must be like 10, not {10**20}"),
        ({"optimizer_settings": {"decay": -(10**400)}}, "decay must be like 0.95"),
    ],
)
def test_what_does_not_go_together_gets_one_sentence(given_settings, message):
    with pytest.raises(InputError) as caught:
        resolve(given_settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_second_derivatives_go_through_gradients_alone_whatever_the_curvature():
    assert resolve({"optimizer": "lstm", "second_derivatives": True}).curvature is None


def test_another_optimizer_than_that_of_the_file_is_refused(pretrained):
    with pytest.raises(InputError, match=r"holds slstm, not lstm: leave out --optimizer"):
        resolve({"pretrained": pretrained, "optimizer": "lstm"})


def test_a_config_file_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "config.toml"
    for text, message in (("steps = ", "not valid TOML"), ("stebs = 3", "did you mean 'steps'")):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"config\.toml: .*{message}"):
            read_config(path)
