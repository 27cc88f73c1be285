"""LSTMs for layers, taken to the layers of another network by their kinds."""

import numpy as np
import pytest

from l2lnp.errors import InputError
from l2lnp.experiments.job import run_job
from l2lnp.experiments.transfer import by_kind, file_by_kind, layout_of
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import LearnedOptimizer, load_learned_optimizer, save_learned_optimizer

from .small_jobs import job


def learned_on(network, per="layer"):
    optimizer = make_optimizer("lstm", layout_of("digits", None, network), per=per)
    phi = optimizer.init_phi(np.random.default_rng(0))
    return LearnedOptimizer("lstm", {"per": per, "features": ["rnnprop"]}, None, phi, "made by a test")


def test_every_layer_of_the_big_network_gets_the_weights_of_its_kind(tmp_path):
    learned, small = learned_on("small"), layout_of("digits", None, "small")
    save_learned_optimizer(tmp_path / "layers.h5", learned)
    file = file_by_kind(str(tmp_path / "layers.h5"), small, tmp_path / "cache")
    mapped = load_learned_optimizer(file)
    assert mapped.settings["per"] == "kind"
    np.testing.assert_array_equal(mapped.phi["conv/lstm1/w"], learned.phi["0/lstm1/w"])
    np.testing.assert_array_equal(mapped.phi["fully_connected/head/w"], learned.phi["4/head/w"])
    assert len(mapped.phi) == len(learned.phi)
    on_small = [run_job(job(5, pretrained=name, joint=False)) for name in (str(tmp_path / "layers.h5"), file)]
    assert on_small[0].losses.tobytes() == on_small[1].losses.tobytes()
    assert np.isfinite(run_job(job(3, pretrained=file, joint=False, network="big")).losses).all()


def test_one_for_each_kind_is_taken_as_it_is(tmp_path):
    assert file_by_kind("slstm", layout_of("digits", None, "small"), tmp_path) == "slstm"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(InputError, match="--learned-on"):
        by_kind(learned_on("small"), layout_of("digits", None, "big"))
    with pytest.raises(InputError, match="several are of one kind"):
        by_kind(learned_on("big"), layout_of("digits", None, "big"))
