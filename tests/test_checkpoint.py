"""Checkpoints: everything comes back in the same bytes; damaged ones and those of other runs are refused."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from l2lnp.checkpoint import Checkpoint, Subject, load_checkpoint, named_tensors, save_checkpoint
from l2lnp.errors import InputError
from l2lnp.meta.joint import Training
from l2lnp.networks import find_network
from l2lnp.pretrained import load_learned_optimizer, save_learned_optimizer

SHAPE = (1, 8, 8)


def subject_of(network):
    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return Subject(find_network(network, SHAPE), SHAPE, classes, (0.3,), (0.4,), "abc")


@pytest.fixture
def checkpoint():
    subject = subject_of("small")
    rng = np.random.default_rng(0)
    theta, later = rng.normal(size=(2, subject.network().layout.n_coordinates)).astype(np.float32)
    boundary = Training(
        step=40,
        theta=theta,
        state={
            "moments": rng.normal(size=(2, theta.size)),
            "lstm": rng.normal(size=(4, theta.size)),
            "t": 40,
        },
        phi={"conv/head/w": rng.normal(size=(1, 2)), "4/head/b": np.zeros(1, np.float32)},
        meta={"m": rng.normal(size=3), "v": rng.normal(size=3), "t": 8},
        n_restarts=1,
        average=rng.normal(size=theta.size),
    )
    settings = {"features": ["rnnprop"], "decay": 0.9, "n_units": [1, 2]}
    return Checkpoint("steps = 60\n", 5, subject, 43, later, boundary, "slstm", settings, "exact_head", 1.5)


def test_everything_comes_back(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "checkpoint.h5", checkpoint)
    read = load_checkpoint(tmp_path / "checkpoint.h5")
    assert replace(read, theta=None, boundary=None) == replace(checkpoint, theta=None, boundary=None)
    assert read.theta.tobytes() == checkpoint.theta.tobytes()
    assert (read.boundary.step, read.boundary.n_restarts) == (40, 1)
    assert read.boundary.theta.tobytes() == checkpoint.boundary.theta.tobytes()
    assert read.boundary.average.tobytes() == checkpoint.boundary.average.tobytes()
    for tree, twin in zip(read.boundary[2:5], checkpoint.boundary[2:5], strict=True):
        assert set(tree) == set(twin)
        for key, value in twin.items():
            assert type(tree[key]) is type(value)
            assert np.asarray(tree[key]).tobytes() == np.asarray(value).tobytes()


def test_the_groups_are_the_documented_ones(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "checkpoint.h5", checkpoint)
    with h5py.File(tmp_path / "checkpoint.h5") as file:
        assert set(file) == {"theta", "boundary", "optimizer", "phi", "meta", "random"}
        assert file.attrs["step"] == 43
        assert file["theta/4/w"].shape == (10, 128)
        assert dict(file["random"].attrs) == {"seed": 5, "step": 40}
    assert load_learned_optimizer(str(tmp_path / "checkpoint.h5")).settings == checkpoint.optimizer_settings


def test_named_tensors_are_views_into_theta(checkpoint):
    layout = checkpoint.subject.network().layout
    tensors = named_tensors(layout, checkpoint.theta, separator=".")
    assert list(tensors) == ["0.w", "0.b", "4.w", "4.b"]
    assert all(np.shares_memory(tensor, checkpoint.theta) for tensor in tensors.values())
    np.testing.assert_array_equal(layout.split(checkpoint.theta)[4]["w"], tensors["4.w"])


def test_theta_of_another_network_is_refused(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "checkpoint.h5", checkpoint)
    with h5py.File(tmp_path / "checkpoint.h5") as old, h5py.File(tmp_path / "mixed.h5", "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        new.attrs["network"] = find_network("big", SHAPE).text
    with pytest.raises(InputError, match=r"mixed\.h5: its theta is of another network: .*'4/w': \(10, 128\)"):
        load_checkpoint(tmp_path / "mixed.h5")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.update(input_shape="1x8x8"), "is damaged, or no checkpoint"),
        (lambda file: file.attrs.update(class_names=3), "is damaged, or no checkpoint"),
        (lambda file: file.attrs.update(step=np.inf), "is damaged, or no checkpoint"),
        (lambda file: _replace(file, "boundary/theta", np.zeros(3)), r"its boundary/theta is \(3,\)"),
        (lambda file: _replace(file, "boundary/average", np.zeros(())), r"its boundary/average is \(\)"),
        (lambda file: _replace(file, "boundary", 1), "is damaged, or no checkpoint"),
    ],
)
def test_a_checkpoint_changed_by_another_program_is_refused(tmp_path, checkpoint, damage, message):
    save_checkpoint(tmp_path / "checkpoint.h5", checkpoint)
    with h5py.File(tmp_path / "checkpoint.h5") as old, h5py.File(tmp_path / "mine.h5", "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        damage(new)
    with pytest.raises(InputError, match=rf"mine\.h5.* {message}"):
        load_checkpoint(tmp_path / "mine.h5")


def _replace(file, place, value):
    del file[place]
    file[place] = value


def test_a_checkpoint_of_another_format_is_refused(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "checkpoint.h5", checkpoint)
    with h5py.File(tmp_path / "checkpoint.h5") as old, h5py.File(tmp_path / "old.h5", "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        new.attrs["format_version"] = 1
    with pytest.raises(
        InputError, match=r"old\.h5: its format version 1 is not 2: it is from another version"
    ):
        load_checkpoint(tmp_path / "old.h5")


def test_other_files_are_no_checkpoints(tmp_path, checkpoint):
    save_learned_optimizer(tmp_path / "learned.h5", checkpoint.learned_optimizer())
    with pytest.raises(InputError, match=r"learned\.h5: it is no checkpoint of a run"):
        load_checkpoint(tmp_path / "learned.h5")


def test_a_truncated_checkpoint_is_refused(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.h5"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"checkpoint\.h5 is damaged or cut short"):
        load_checkpoint(path)
