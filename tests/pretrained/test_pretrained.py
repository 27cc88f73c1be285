"""Learned-optimizer files: written, read back, and fitted to a network."""

import h5py
import numpy as np
import pytest

from l2lnp.errors import InputError
from l2lnp.networks import find_network
from l2lnp.optimizers import make_optimizer
from l2lnp.optimizers.base import Context, Inputs
from l2lnp.pretrained import LearnedOptimizer, load_learned_optimizer, save_learned_optimizer


def optimizer_for(network, **settings):
    layout = find_network(network, (1, 8, 8)).build((1, 8, 8), 10).layout
    return make_optimizer("slstm", layout, n_units=(3, 2), **settings)


def learned(optimizer):
    phi = optimizer.init_phi(np.random.default_rng(0))
    settings = {"features": ["rnnprop", "log_sign_h"], "head": "linear", "n_units": [3, 2], "decay": 0.9}
    return LearnedOptimizer("slstm", settings, "gauss_newton", phi, "made by a test")


def test_a_file_gives_back_what_was_saved(tmp_path):
    saved = learned(optimizer_for("small"))
    path = tmp_path / "learned.h5"
    save_learned_optimizer(path, saved)
    read = load_learned_optimizer(str(path))
    assert (read.name, read.settings, read.curvature, read.provenance) == (
        *(saved.name, saved.settings, saved.curvature, saved.provenance),
    )
    assert all(type(value) is type(saved.settings[key]) for key, value in read.settings.items())
    for key, value in saved.phi.items():
        assert read.phi[key].dtype == np.float32
        np.testing.assert_array_equal(read.phi[key], value)


def test_the_layout_in_the_file_is_the_documented_one(tmp_path):
    save_learned_optimizer(tmp_path / "learned.h5", learned(optimizer_for("small", per="kind")))
    with h5py.File(tmp_path / "learned.h5") as file:
        assert set(file["phi"]) == {"conv", "fully_connected"}
        assert set(file["phi/conv"]) == {"lstm1", "lstm2", "head"}
        assert set(file["phi/conv/head"]) == {"w", "b"}
        attributes = {"format_version", "optimizer", "curvature", "provenance"}
        assert set(file["phi"].attrs) == {*attributes, "features", "head", "n_units", "decay"}


def test_only_the_kinds_that_a_network_has_are_taken():
    three_kinds = learned(optimizer_for("small", per="kind"))
    three_kinds.phi["lstm/head/b"] = np.zeros(1, np.float32)
    template = optimizer_for("big", per="kind").init_phi(np.random.default_rng(1), np.float64)
    fitted = three_kinds.fitted(template)
    assert list(fitted) == list(template)
    assert fitted["conv/lstm1/w"].dtype == np.float64
    np.testing.assert_array_equal(fitted["conv/lstm1/w"], three_kinds.phi["conv/lstm1/w"])


def test_what_does_not_fit_is_refused():
    per_kind = learned(optimizer_for("small", per="kind"))
    per_layer = optimizer_for("small").init_phi(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"needs an LSTM '.*', but .* has only: conv, fully_connected"):
        per_kind.fitted(per_layer)
    smaller = optimizer_for("small", per="kind", features=("rnnprop",)).init_phi(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"conv/lstm1/w is \(12, .*\), where \(12, .*\) is needed"):
        per_kind.fitted(smaller)
    del per_kind.phi["conv/lstm1/b"]
    with pytest.raises(InputError, match=r"lacks conv/lstm1/b: its file is not whole"):
        per_kind.fitted(optimizer_for("small", per="kind").init_phi(np.random.default_rng(0)))


def test_an_lstm_that_is_not_whole_is_not_completed_by_that_of_a_similar_kind():
    per_kind = learned(optimizer_for("small", per="kind"))
    per_kind.phi["lstm/head/b"] = np.zeros(1, np.float32)
    with pytest.raises(InputError, match=r"lacks lstm/lstm1/w: its file is not whole"):
        per_kind.fitted(optimizer_for("row-lstm", per="kind").init_phi(np.random.default_rng(0)))


def test_each_layer_begins_with_the_lstm_of_its_kind_or_the_most_similar_one():
    per_kind = learned(optimizer_for("small", per="kind"))
    optimizer = optimizer_for("row-lstm")
    fitted = per_kind.for_each_layer(optimizer.layout).fitted(optimizer.init_phi(np.random.default_rng(0)))
    assert {kind for kind, _ in optimizer.layout.layers.values()} == {"lstm", "fully_connected"}
    for key, value in fitted.items():
        path = key.partition("/")[2]
        np.testing.assert_array_equal(value, per_kind.phi[f"fully_connected/{path}"])


def test_a_kind_of_layer_never_met_gets_the_lstm_of_the_most_similar_one():
    per_kind = learned(optimizer_for("small", per="kind"))
    fitted = per_kind.fitted(optimizer_for("row-lstm", per="kind").init_phi(np.random.default_rng(0)))
    for path in ("lstm1/w", "head/w"):
        np.testing.assert_array_equal(fitted[f"lstm/{path}"], per_kind.phi[f"fully_connected/{path}"])


def update(optimizer, phi):
    """One update at random numbers."""
    rng, n = np.random.default_rng(1), optimizer.layout.n_coordinates
    state = optimizer.init_state(np.zeros(n))
    inputs = Inputs(2.0, rng.normal(size=n), rng.uniform(size=n), rng.normal(size=n), Context(0, 10, 16))
    return optimizer.update(phi, state, inputs)[0]


def test_a_feature_that_is_new_changes_nothing_until_it_is_learned():
    first, wide = ("rnnprop", "log_sign_h"), ("log_sign_h", "gradient_size", "rnnprop", "clock")
    optimizer, wider = (optimizer_for("small", per="kind", features=features) for features in (first, wide))
    given = learned(optimizer)
    phi, phi_of_wider = given.phi, (reading := given.reading(wide)).phi
    assert (reading.settings, given.settings["features"]) == (
        given.settings | {"features": list(wide)},
        list(first),
    )
    assert {key: value.shape for key, value in phi_of_wider.items()} == wider.phi_shapes()
    assert {value.dtype for value in phi_of_wider.values()} == {np.dtype(np.float32)}
    u = update(optimizer, phi)
    np.testing.assert_allclose(update(wider, phi_of_wider), u, rtol=1e-9)
    one_weight = phi_of_wider["conv/lstm1/w"].copy()
    one_weight[:, 2] = 1.0  # of gradient_size, after the two rows of log_sign_h
    assert not np.allclose(update(wider, phi_of_wider | {"conv/lstm1/w": one_weight}), u, rtol=1e-3)
    with pytest.raises(InputError, match="reads log_sign_h: name them among its features"):
        given.reading(("rnnprop", "clock"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    damaged = learned(optimizer_for("small"))
    damaged.phi["0/head/w"][0, 1] = value
    save_learned_optimizer(tmp_path / "learned.h5", damaged)
    with pytest.raises(InputError, match=r"learned\.h5: its 0/head/w is not finite"):
        load_learned_optimizer(str(tmp_path / "learned.h5"))


@pytest.mark.parametrize(
    ("name", "message"), [("soap", "holds soap, which learns nothing"), ("slstn", "did you mean 'slstm'")]
)
def test_what_is_no_learned_optimizer_is_refused(tmp_path, name, message):
    path = tmp_path / "checkpoint.h5"
    save_learned_optimizer(path, LearnedOptimizer(name, {}, None, {"learning_rate": np.array(0.1)}, "a run"))
    with pytest.raises(InputError, match=rf"checkpoint\.h5.* {message}"):
        load_learned_optimizer(str(path))


def test_unknown_names_and_versions(tmp_path):
    with pytest.raises(InputError, match="unknown learned optimizer 'best'"):
        load_learned_optimizer("best")
    path = tmp_path / "learned.h5"
    save_learned_optimizer(path, learned(optimizer_for("small")))
    with h5py.File(path) as old, h5py.File(tmp_path / "new.h5", "w") as new:
        old.copy("phi", new)
        new["phi"].attrs["format_version"] = 9
    with pytest.raises(InputError, match="format version 9 is not 1"):
        load_learned_optimizer(str(tmp_path / "new.h5"))
