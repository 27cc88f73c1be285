"""Meta-training: it learns, goes on exactly, and never meets what it is judged by."""

from dataclasses import replace
from errno import ENOSPC
from itertools import islice, pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from l2lnp.data import load_dataset
from l2lnp.data.hdf5 import as_text, labels_digest
from l2lnp.data.loading import bundled_file
from l2lnp.errors import DivergedError, InputError
from l2lnp.layers import Conv2D, FullyConnected
from l2lnp.meta.folder import MetaFolder, as_line
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.settings import MetaSettings
from l2lnp.meta.trainer import MetaTrainer, meta_train
from l2lnp.optimizers import make_optimizer
from l2lnp.pretrained import load_learned_optimizer, save_learned_optimizer
from l2lnp.runs.resolving import PRETRAINED_WEIGHT_DECAY, resolve
from l2lnp.tasks.distribution import Distribution

TINY = """
description = "tiny"
batch_sizes = [16, 32]
initial_log_scale = 0.2
[[data]]
name = "digits"
shrink = 2
[[network]]
convolutions = [0, 1]
kernels = [3]
channels = [2, 3]
hidden_units = [0, 4]
"""
SETTINGS = MetaSettings(
    optimizer_settings={"per": "kind", "n_units": [4, 4], "step_unit": "weights"},
    n_episodes=4,
    horizon_steps=10,
    truncation_steps=5,
    validate_every_episodes=2,
    n_validation_tasks=2,
    validation_steps=10,
)


@pytest.fixture(scope="module")
def distribution():
    return Distribution("tiny", TINY)


def run(trainer, progress):
    reports = []
    end = meta_train(trainer, progress, lambda p, r: reports.append(as_line(p, r)))
    return end, reports


IN_BASIS = replace(
    SETTINGS, optimizer_settings={**SETTINGS.optimizer_settings, "basis": "kronecker", "basis_every": 3}
)


HELD = replace(SETTINGS, curvature_every="1-4")


IMITATING = replace(IN_BASIS, imitation=0.5)


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, IN_BASIS, HELD, IMITATING],
    ids=["coordinates", "kronecker", "h held", "imitation"],
)
def test_a_run_that_goes_on_from_its_folder_ends_in_the_same_bytes(settings, distribution, tmp_path):
    trainer = MetaTrainer(settings, distribution)
    whole, reports = run(trainer, trainer.start())
    folder = MetaFolder(tmp_path / "run")
    folder.create(trainer)
    half, half_reports = folder.load()
    for _ in range(2):
        half, report = trainer.run_episode(half)
        half_reports.append(as_line(half, report))
    folder.save(trainer, half, [*half_reports, {"episode": 3}])  # a line that the progress does not know yet
    read, again = folder.read()
    assert read == settings
    assert again == distribution
    restored, restored_reports = folder.load()
    end, more = run(MetaTrainer(read, again), restored)
    assert restored_reports + more == reports
    for key, value in whole.phi.items():
        assert end.phi[key].tobytes() == value.tobytes()
    assert (end.best_score, end.best_episode) == (whole.best_score, whole.best_episode)


def test_meta_training_lowers_the_validation_loss(distribution):
    settings = MetaSettings(
        optimizer_settings={"per": "kind", "step_unit": "weights", "output_scale": 0.3},
        n_episodes=10,
        horizon_steps=20,
        truncation_steps=10,
        meta_learning_rate=0.01,
        validate_every_episodes=5,
        n_validation_tasks=2,
        validation_steps=20,
    )
    trainer = MetaTrainer(settings, distribution)
    start = trainer.start()
    before = trainer.validate(start.phi)
    end, _ = run(trainer, start)
    assert end.best_score < 0.9 * before
    assert trainer.validate(end.best_phi) == end.best_score


@pytest.mark.parametrize(("patience", "n_run", "best"), [(1, 6, 4), (2, 12, 8), (3, 14, 8), (None, 20, 20)])
def test_it_stops_after_so_many_validations_without_a_better_one(
    patience, n_run, best, distribution, monkeypatch
):
    scores = iter([5.0, 4.0, 4.0, 3.0, 3.5, 3.2, 3.1, 6.0, 6.0, 2.0])
    monkeypatch.setattr(MetaTrainer, "validate", lambda self, phi: next(scores))
    trainer = MetaTrainer(replace(SETTINGS, n_episodes=20, patience=patience), distribution)
    end, reports = run(trainer, trainer.start())
    assert (end.episode, end.best_episode, len(reports)) == (n_run, best, n_run)
    assert trainer.is_finished(end)


def test_the_result_says_what_it_was_made_from(distribution, monkeypatch):
    monkeypatch.setattr("l2lnp.meta.trainer.commit", lambda: "0123456789ab+")
    trainer = MetaTrainer(SETTINGS, distribution)
    end, _ = run(trainer, trainer.start())
    first, second, settings, *tasks = trainer.learned_optimizer(end).provenance.split("\n")
    assert f"'tiny', seed 0, {end.best_episode} of 4 episodes of 10 steps, " in first
    assert first.endswith(f"validation loss {end.best_score:.4f}")
    assert second == f"commit 0123456789ab+; data digits {distribution.fingerprints['digits']}"
    assert settings == str(SETTINGS)
    assert "\n".join(tasks) == TINY


def test_validation_pictures_are_held_out_and_test_pictures_never_used(distribution):
    splits = load_dataset("digits").splits
    train, validation = (distribution.draw(0, 0, split).pictures for split in ("train", "validation"))
    assert len(train.labels) == splits["train"].n_samples
    assert len(validation.labels) == splits["validation"].n_samples
    np.testing.assert_array_equal(validation.labels, splits["validation"].labels)


def test_an_episode_is_a_pure_function_of_seed_and_index(distribution):
    first, again, other = (distribution.draw(3, index) for index in (1, 1, 2))
    np.testing.assert_array_equal(first.theta, again.theta)
    np.testing.assert_array_equal(next(first.batches()).labels, next(again.batches()).labels)
    assert first.title == again.title
    assert first.theta.shape != other.theta.shape or (first.theta != other.theta).any()


def test_the_mini_batches_of_an_episode_differ_and_hold_no_picture_twice(distribution):
    drawn = distribution.draw(3, 1)
    numbers = np.arange(len(drawn.pictures.labels))
    numbered = drawn.pictures._replace(x=numbers[None, None, None])
    episodes = [replace(drawn, pictures=numbered, index=index, batch_size=len(numbers)) for index in (1, 2)]
    first, second = (batch.x.ravel() for batch in islice(episodes[0].batches(), 2))
    other = next(episodes[1].batches()).x.ravel()
    for chosen in first, second, other:
        np.testing.assert_array_equal(np.sort(chosen), numbers)
    assert (first != second).any()
    assert (first != other).any()


def test_validation_is_of_a_frozen_optimizer_on_pictures_that_training_never_sees(distribution):
    own = {**SETTINGS.optimizer_settings, "schedule": "cosine"}
    settings = replace(SETTINGS, validation_steps=20, optimizer_settings=own)  # the horizon is 10
    trainer = MetaTrainer(settings, distribution)
    phi, means = trainer.start().phi, []
    for index in range(settings.n_validation_tasks):
        episode = distribution.draw(settings.seed, index, "validation")
        optimizer = make_optimizer("slstm", episode.task.layout, **own)
        n_samples = len(episode.pictures.labels)
        learner = JointLearner(
            optimizer, frozen=True, n_steps=20, batch_size=episode.batch_size, n_samples=n_samples
        )
        training, losses = learner.start(episode.theta, phi), []
        for batch in islice(episode.batches(), 20):
            training, report = learner.step(training, episode.task, batch)
            losses.append(report.loss)
        means.append(np.mean(losses))
    assert trainer.validate(phi) == pytest.approx(np.prod(means) ** (1 / len(means)))


@pytest.mark.parametrize("number", [0, 2])
def test_an_episode_is_joint_learning_as_the_settings_say(distribution, number):
    settings = replace(SETTINGS, meta_loss="log", clip_norm=0.01, meta_learning_rate=0.02, truncation_steps=2)
    trainer = MetaTrainer(settings, distribution)
    before = trainer.start()._replace(episode=number)
    episode = distribution.draw(settings.seed, number)
    learner = JointLearner(
        make_optimizer("slstm", episode.task.layout, **settings.optimizer_settings),
        unroll_length_steps=2,
        meta_learning_rate=settings.rate(number),
        clip_norm=0.01,
        meta_loss="log",
        n_steps=10,
        batch_size=episode.batch_size,
        n_samples=len(episode.pictures.labels),
    )
    training = learner.start(episode.theta, before.phi)
    for batch in islice(episode.batches(), 11):
        training, _ = learner.step(training, episode.task, batch)
    after, _ = trainer.run_episode(before)
    np.testing.assert_equal((after.phi, after.meta), (training.phi, training.meta))


@pytest.mark.parametrize("axes", ["coordinates", "kronecker"])
def test_the_teacher_has_the_schedule_and_the_axes_of_its_pupil(distribution, axes):
    own = {**SETTINGS.optimizer_settings, "schedule": "cosine", "basis": axes}
    trainer = MetaTrainer(replace(SETTINGS, imitation=1.0, optimizer_settings=own), distribution)
    _, report = trainer.run_episode(trainer.start())
    episode = distribution.draw(SETTINGS.seed, 0)
    teacher = make_optimizer("adam", episode.task.layout, schedule="cosine", basis=axes)
    learner = JointLearner(teacher, n_steps=10)
    training, losses = learner.start(episode.theta, teacher.init_phi(None)), []
    for batch in islice(episode.batches(), 10):
        training, made = learner.step(training, episode.task, batch)
        losses.append(made.loss)
    assert report.mean_loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_the_best_phi_is_the_one_that_was_validated_best(distribution, monkeypatch):
    scores = iter([0.5, 0.3, 0.4])
    monkeypatch.setattr(MetaTrainer, "validate", lambda self, phi: next(scores))
    trainer = MetaTrainer(replace(SETTINGS, validate_every_episodes=1, n_episodes=3), distribution)
    ways = [trainer.start()]
    for _ in range(3):
        ways.append(trainer.run_episode(ways[-1])[0])
    assert [way.best_episode for way in ways] == [0, 1, 2, 2]
    np.testing.assert_equal(ways[3].best_phi, ways[2].phi)
    assert any((ways[3].best_phi[key] != value).any() for key, value in ways[3].phi.items())


def test_a_validation_that_diverges_or_grows_counts_ten(distribution, monkeypatch):
    trainer = MetaTrainer(SETTINGS, distribution)
    losses = iter([np.array([2.0, np.nan, 4.0]), np.array([8.0, 1e9, 10.0])])
    monkeypatch.setattr(trainer, "_train", lambda *_: (None, next(losses)))
    means = (2 + 10 + 4) / 3, (8 + 10 + 10) / 3
    assert trainer.validate({}) == pytest.approx(np.prod(means) ** 0.5)

    def diverge(*_):
        raise DivergedError

    monkeypatch.setattr(trainer, "_train", diverge)
    assert trainer.validate({}) == pytest.approx(10.0)


def drawn_from(text, n=60):
    distribution = Distribution("tasks.toml", text)
    return [distribution.draw(5, index) for index in range(n)]


def test_what_is_drawn_is_what_the_file_says():
    """Channels up to the upper end, both counts of convolutions, hidden layers and batch sizes."""
    episodes = drawn_from(TINY)
    networks = [episode.task.network for episode in episodes]
    channels = {layer.n_out for network in networks for layer in network.layers if isinstance(layer, Conv2D)}
    assert channels == {2, 3}
    dense = [[each.n_out for each in n.layers if isinstance(each, FullyConnected)] for n in networks]
    assert {tuple(sizes) for sizes in dense} == {(10,), (4, 10)}
    assert {sum(isinstance(each, Conv2D) for each in n.layers) for n in networks} == {0, 1}
    assert {episode.batch_size for episode in episodes} == {16, 32}
    assert abs(episodes[0].pictures.x.std() - 1) < 1e-5


def test_initial_weights_are_scaled_by_up_to_what_the_file_says():
    plain = drawn_from(TINY.replace("= 0.2", "= 0"), 20)
    scaled = drawn_from(TINY.replace("= 0.2", "= 1.5"), 20)
    factors = []
    for one, other in zip(plain, scaled, strict=True):
        there = one.theta != 0
        ratio = other.theta[there] / one.theta[there]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        factors.append(np.log(ratio[0]))
    assert -1.5 <= min(factors) < -0.7
    assert 0.7 < max(factors) <= 1.5


def test_tables_are_drawn_by_their_weights():
    text = TINY + "weight = 3\n[[network]]\nconvolutions = [0]\nhidden_units = [7]\nweight = 1\n"
    kinds = [
        any(isinstance(each, FullyConnected) and each.n_out == 7 for each in episode.task.network.layers)
        for episode in drawn_from(text, 200)
    ]
    assert 0.15 < np.mean(kinds) < 0.35  # 1/4, within three standard deviations


def test_a_batch_may_be_all_pictures():
    n = len(load_dataset("digits").split("train").labels)
    (episode,) = drawn_from(TINY.replace("[16, 32]", f"[{n}]"), 1)
    assert len(next(episode.batches()).labels) == n


def test_shrinking_averages_pixels(distribution):
    x, _ = load_dataset("digits").split("train").batch(np.arange(5))
    blocks = x[:, 0:2, 2:4].mean((1, 2))
    shrunk = distribution.draw(0, 0).pictures.x[:, 0, 1, :5]
    ratio = shrunk / blocks
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_the_learned_optimizer_can_be_written_and_read(distribution, tmp_path):
    trainer = MetaTrainer(SETTINGS, distribution)
    progress = trainer.start()
    folder = MetaFolder(tmp_path)
    folder.save_learned(trainer.learned_optimizer(progress))
    learned = load_learned_optimizer(str(folder.learned))
    assert learned.settings["n_units"] == [4, 4]
    assert learned.curvature == "hesscale"
    for key, value in progress.best_phi.items():
        np.testing.assert_array_equal(learned.phi[key], value)


def test_the_learned_optimizer_says_that_it_works_in_the_basis(distribution, tmp_path):
    trainer = MetaTrainer(IN_BASIS, distribution)
    learned = trainer.learned_optimizer(trainer.start())
    assert (learned.settings["basis"], learned.settings["basis_every"]) == ("kronecker", 3)
    assert learned.curvature is None
    save_learned_optimizer(tmp_path / "learned.h5", learned)
    settings = resolve({"pretrained": str(tmp_path / "learned.h5"), "joint": False})
    decay = {"weight_decay": PRETRAINED_WEIGHT_DECAY}
    assert settings.optimizer_settings == {**learned.settings, **decay}
    assert settings.curvature is None


def test_an_optimizer_learns_with_ekfac_and_says_so(distribution):
    settings = replace(IN_BASIS, curvature="ekfac", n_episodes=1)
    trainer = MetaTrainer(settings, distribution)
    end, _ = run(trainer, trainer.start())
    assert trainer.learned_optimizer(end).curvature == "ekfac"
    with pytest.raises(InputError, match="give --basis kronecker"):
        replace(SETTINGS, curvature="ekfac")


def test_the_rate_falls_by_a_cosine():
    assert SETTINGS.rate(0) == pytest.approx(3e-3)
    assert SETTINGS.rate(2) == pytest.approx(3e-3 * 0.51)
    assert SETTINGS.rate(4) == pytest.approx(3e-3 * 0.02)


def test_horizons_grow_and_fit_the_truncation():
    settings = MetaSettings(n_episodes=400, horizon_steps=1000, least_horizon_steps=60)
    early = [settings.horizon(episode) for episode in range(20)]
    late = [settings.horizon(episode) for episode in range(200, 400)]
    assert all(h % 20 == 0 and 60 <= h <= 1000 for h in early + late)
    assert max(early) <= 160
    assert max(late) > 800
    assert min(late) < 80
    assert np.median(late) == pytest.approx((60 * 1000) ** 0.5, rel=0.25)  # log-uniform
    assert {SETTINGS.horizon(episode) for episode in range(9)} == {10}
    uneven = MetaSettings(n_episodes=200, horizon_steps=200, least_horizon_steps=29)
    assert min(uneven.horizon(episode) for episode in range(200)) == 40


def test_an_episode_that_diverges_teaches_nothing_and_the_next_one_follows(distribution, tmp_path):
    diverging = {**SETTINGS.optimizer_settings, "output_scale": 1e36}
    settings = replace(SETTINGS, optimizer_settings=diverging, horizon_steps=40)
    trainer = MetaTrainer(settings, distribution)
    with np.errstate(all="ignore"):
        first, _ = trainer.run_episode(trainer.start())  # of a network with one layer: its losses are finite
        end, reports = run(trainer, first)
    assert [report["episode"] for report in reports] == [2, 3, 4]
    assert all(report["task"].endswith(", diverged") and np.isnan(report["mean_loss"]) for report in reports)
    np.testing.assert_equal((end.phi, end.meta), (first.phi, first.meta))
    reports = [{**reports[0], "episode": 1}, *reports]
    MetaFolder(tmp_path).save(trainer, end, reports)
    _, again = MetaFolder(tmp_path).load()
    np.testing.assert_equal(again, reports)
    MetaFolder(tmp_path).draw(reports, "diverged")


def test_random_scaling_changes_the_units_and_not_the_function(distribution):
    scaled = MetaTrainer(replace(SETTINGS, random_scaling=2.0), distribution)
    plain = MetaTrainer(SETTINGS, distribution)
    ours, theirs = scaled._draw(1, "train"), plain._draw(1, "train")
    batch = next(ours.batches())
    seen, known = ours.task.evaluate(ours.theta, batch, True), theirs.task.evaluate(theirs.theta, batch, True)
    assert seen.loss == pytest.approx(known.loss, rel=1e-5)
    assert np.vdot(seen.g, ours.theta) == pytest.approx(np.vdot(known.g, theirs.theta), rel=1e-3)
    drawn = theirs.theta != 0
    assert 1.9 < abs(np.log(ours.theta[drawn] / theirs.theta[drawn])).max() <= 2.0001
    assert (scaled._draw(1, "validation").theta == plain._draw(1, "validation").theta).all()
    run(scaled, scaled.start())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sizes = [8]", r"needs at least one \[\[data\]\]"),
        (TINY.replace("shrink", "shrnk"), "did you mean 'shrink'"),
        (TINY.replace("batch_sizes = [16, 32]", ""), "needs batch_sizes"),
        (TINY + "=", "not valid TOML"),
        (TINY + "weight = 0", r"tasks\.toml: at least one \[\[network\]\] needs a weight above 0"),
        (TINY + "weight = -1", r"tasks\.toml, \[\[network\]\]: weight must be a number from 0 to .*, not -1"),
        (TINY + "weight = 1e308", r"weight must be a number from 0 to 1e\+09, not 1e\+308"),
        (TINY.replace("[2, 3]", "[3, 2]"), "channels must be two positive .* up to 65,536, the lesser first"),
        (TINY.replace("[2, 3]", f"[2, {2**63 - 1}]"), "channels must be two positive .* up to 65,536"),
        (TINY.replace("[0, 4]", f"[{2**63 - 1}]"), "hidden_units must be .* from 0 to 65,536"),
        (TINY.replace("[3]", f"[{2**63 - 1}]"), "kernels must be .* up to 65,536"),
        (TINY.replace("[2, 3]", "[2.5, 3]"), r"channels must be .*, not \[2\.5, 3\]"),
        (
            TINY.replace("[16, 32]", "[0]"),
            r"tasks\.toml: batch_sizes must be a list of positive whole numbers",
        ),
        (TINY.replace("[16, 32]", "[]"), r"batch_sizes must be .*, not \[\]"),
        (TINY.replace("[16, 32]", "16"), "batch_sizes must be .*, not 16"),
        (TINY.replace("[0, 1]", "[-1]"), "convolutions must be a list of whole numbers from 0"),
        (TINY.replace("[0, 4]", '["4"]'), "hidden_units must be a list of whole numbers from 0"),
        (TINY.replace("kernels = [3]", "kernels = []"), "kernels must be a list of positive whole numbers"),
        (TINY.replace("shrink = 2", "shrink = 0"), "shrink must be a positive whole number, not 0"),
        (TINY.replace("= 0.2", "= nan"), "initial_log_scale must be a number from 0 to 20, not nan"),
        (TINY.replace("= 0.2", "= 1e4"), "initial_log_scale must be a number from 0 to 20, not 10000"),
        (TINY.replace('name = "digits"', ""), r"each \[\[data\]\] needs the name of a data set"),
        (
            TINY + 'name = "small"',
            r"\[\[network\]\] 'small' has a description of its own: leave out channels, convolutions",
        ),
        ("data = [3]", r"data must be \[\[tables\]\], not \[3\]"),
    ],
)
def test_impossible_distributions_are_refused(text, message, tmp_path):
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Distribution.find(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("[0, 1]", "[3]"), "tiny: convolution 3 gets 1 x 1 pixels, too few for the max pooling"),
        (TINY.replace("shrink = 2", "shrink = 3"), "tiny: pictures of 8 x 8 cannot be shrunk 3 times"),
        (TINY.partition("convolutions")[0] + 'name = "smal"', "tiny: unknown network 'smal'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_where_it_is_from(text, message):
    with pytest.raises(InputError, match=message):
        Distribution("tiny", text).draw(0, 0)


LINE = '{"episode": %s, "task": "", "mean_loss": %s, "final_loss": 1.5, "validation": %s}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n", "line 1 is damaged"),
        ("{}\n", "line 1 is damaged"),
        ("1\n", "line 1 is damaged"),
        (LINE % (2, 1.5, "null"), "line 1 is damaged"),
        (LINE % (1, "null", "null"), "line 1 is damaged"),
        (LINE % (1, 1.5, '"x"'), "line 1 is damaged"),
        ("", "is not whole: it has 0 of 1 episodes"),
    ],
)
def test_damaged_metrics_are_refused(distribution, tmp_path, text, message):
    folder, trainer = MetaFolder(tmp_path), MetaTrainer(SETTINGS, distribution)
    progress, report = trainer.run_episode(trainer.start())
    folder.save(trainer, progress, [as_line(progress, report)])
    folder.metrics.write_text(text)
    with pytest.raises(InputError, match=rf"metrics\.jsonl.*{message}"):
        folder.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", 2**63),
        ("random_scaling", -1.0),
        ("random_scaling", float("inf")),
        ("random_scaling", float("nan")),
        ("meta_learning_rate", 0.0),
        ("clip_norm", float("nan")),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"{name} must be .*, not {value}"):
        replace(SETTINGS, **{name: value})


def test_impossible_settings_are_refused(distribution):
    with pytest.raises(InputError, match=r"features must be like .*, not \[1\]"):
        MetaSettings(optimizer_settings={"features": [1]})
    with pytest.raises(InputError, match="must be a multiple"):
        MetaSettings(horizon_steps=30, truncation_steps=20)
    for least in (0, 200):
        with pytest.raises(InputError, match="least horizon must lie"):
            MetaSettings(least_horizon_steps=least)
    with pytest.raises(InputError, match="unknown meta-loss 'lost'"):
        MetaSettings(meta_loss="lost")
    with pytest.raises(InputError, match="unknown learned optimizer 'adam'"):
        MetaSettings(optimizer="adam", optimizer_settings={})
    with pytest.raises(InputError, match="does not go with the curvature basis"):
        MetaSettings(random_scaling=1.0, optimizer_settings={"basis": "kronecker"})
    with pytest.raises(InputError, match="n_episodes must be at least 1"):
        MetaSettings(n_episodes=0)
    with pytest.raises(InputError, match="did you mean 'mixture'"):
        Distribution.find("mixtur")
    with pytest.raises(InputError, match="no batch size fits"):
        Distribution("big", TINY.replace("[16, 32]", "[5000]")).draw(0, 0)


def test_the_steps_that_h_is_held_are_drawn_for_each_episode(distribution):
    drawn = [HELD.draw_curvature_every(index, "train") for index in range(300)]
    assert set(drawn) == {1, 2, 3, 4}
    assert drawn.count(1) > 2 * drawn.count(4)
    assert [SETTINGS.draw_curvature_every(index, "train") for index in range(5)] == [1] * 5
    own = [
        MetaTrainer(s, distribution).learned_optimizer(MetaTrainer(s, distribution).start()).settings
        for s in (HELD, replace(HELD, curvature_every="3"))
    ]
    assert [settings["curvature_every"] for settings in own] == [1, 3]


@pytest.mark.parametrize("text", ["0", "x", "1-2-3", "5-2", "", "-3", "1-" + 19 * "9"])
def test_an_impossible_range_of_steps_is_refused(text):
    with pytest.raises(InputError, match="curvature_every must"):
        replace(SETTINGS, curvature_every=text)


def test_h_is_held_by_those_that_read_it():
    with pytest.raises(InputError, match="curvature_every is for slstm in coordinates"):
        replace(IN_BASIS, curvature_every="1-4")


def test_a_share_of_the_episodes_imitates(distribution):
    trainer = MetaTrainer(IMITATING, distribution)
    phis, reports = [trainer.start().phi], []
    progress = trainer.start()
    for _ in range(4):
        progress, report = trainer.run_episode(progress)
        phis.append(progress.phi)
        reports.append(report)
    imitated = [report.title.endswith(", imitation") for report in reports]
    assert 0 < sum(imitated) < 4
    for before, after in pairwise(phis):
        assert any((after[key] != value).any() for key, value in before.items())
    # theta goes the teacher's way, whatever phi is
    of_teacher = [report.mean_loss for report, it in zip(reports, imitated, strict=True) if it]
    other = MetaTrainer(replace(IMITATING, clip_norm=0.5), distribution)
    progress, again = other.start(), []
    for _ in range(4):
        progress, report = other.run_episode(progress)
        again.append(report.mean_loss)
    assert [loss for loss, it in zip(again, imitated, strict=True) if it] == of_teacher


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_impossible_share_of_imitation_is_refused(share):
    with pytest.raises(InputError, match="imitation is a share"):
        replace(SETTINGS, imitation=share)


NAMED = TINY[: TINY.index("[[network]]")].replace("shrink = 2", "")


def test_kinds_of_layers_beyond_the_usual_two_get_an_lstm_too(distribution):
    tasks = Distribution("tasks", NAMED + '[[network]]\nname = "row-lstm"\n')
    settings = replace(SETTINGS, n_episodes=1, horizon_steps=5)
    trainer, usual = MetaTrainer(settings, tasks), MetaTrainer(settings, distribution).start().phi
    start = trainer.start()
    end, _ = run(trainer, start)
    assert {key.partition("/")[0] for key in start.phi} == {"conv", "fully_connected", "lstm"}
    assert any((end.best_phi[key] != start.phi[key]).any() for key in start.phi if key.startswith("lstm"))
    for key, value in usual.items():  # which are drawn as if there were no other
        np.testing.assert_array_equal(start.phi[key], value)


@pytest.mark.parametrize(
    "networks",
    [
        '[[network]]\nname = "small"\n[[network]]\nname = "row-lstm"\n',
        "[[network]]\nhidden_units = [0, 4]\n",
        "[[network]]\nconvolutions = [0, 1]\n",
    ],
)
def test_an_lstm_for_each_layer_needs_networks_of_the_same_layers(networks):
    settings = replace(SETTINGS, optimizer_settings={**SETTINGS.optimizer_settings, "per": "layer"})
    trainer = MetaTrainer(settings, Distribution("tasks.toml", NAMED + networks))
    with pytest.raises(InputError, match=r"tasks\.toml: per=layer .* take per=kind"):
        trainer.start()


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """The folder of a run on a data file and a network file of the working folder, which is then left."""
    monkeypatch.chdir(tmp_path)
    Path("own.h5").write_bytes(bundled_file().read_bytes())
    Path("net.toml").write_text('[[layer]]\nkind = "flatten"\n' + DENSE)
    Path("tasks.toml").write_text(NAMED.replace("digits", "own.h5") + '[[network]]\nname = "net.toml"\n')
    trainer = MetaTrainer(SETTINGS, Distribution.find("tasks.toml"))
    folder = MetaFolder(tmp_path / "meta")
    folder.create(trainer)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    return folder, trainer


DENSE = '[[layer]]\nkind = "fully_connected"\nn_out = "classes"\n'


def test_a_run_goes_on_with_its_own_network_from_another_working_folder(begun, tmp_path):
    folder, trainer = begun
    (tmp_path / "net.toml").write_text("other")
    settings, distribution = folder.read()
    assert (settings, distribution) == (SETTINGS, trainer.distribution)
    again = MetaTrainer(settings, distribution)
    progress, _ = again.run_episode(folder.load()[0])
    for key, value in trainer.run_episode(trainer.start())[0].phi.items():
        assert progress.phi[key].tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("line", "changed", "name"),
    [
        ("seed = 0", "seed = 1", "seed"),
        ("n_episodes = 4", "n_episodes = 1.5", "n_episodes"),
        ('curvature = "hesscale"', "curvature = []", "curvature"),
        ('tasks_source = "tasks.toml"', "tasks_source = []", "tasks_source"),
        ("seed = 0", "", "seed"),
        ("batch_sizes = [16, 32]", "batch_sizes = [16]", "tasks"),
    ],
)
def test_a_run_goes_on_with_the_settings_it_began_with_alone(begun, line, changed, name):
    folder, _ = begun
    text = folder.config.read_text()
    assert line in text
    folder.config.write_text(text.replace(line, changed))
    with pytest.raises(InputError, match=rf"config\.toml has another {name} than the run began with"):
        folder.read()


def test_a_run_goes_on_with_the_data_it_began_with_alone(begun, tmp_path):
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        labels = file["train/labels"]
        labels[:] = labels[:][::-1]
        labels.attrs["sha256"] = as_text(labels_digest(labels[:]))
    with pytest.raises(InputError, match=r"the data 'own\.h5' is not what the run in .*meta began with"):
        begun[0].read()


def test_nothing_is_left_of_a_folder_that_could_not_be_filled(distribution, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(ENOSPC, "no room")

    trainer, folder = MetaTrainer(SETTINGS, distribution), MetaFolder(tmp_path / "runs" / "meta")
    with monkeypatch.context() as context:
        context.setattr(MetaFolder, "save", fail)
        with pytest.raises(InputError, match="no space left on device"):
            folder.create(trainer)
    assert list(tmp_path.iterdir()) == []
    folder.create(trainer)
    with pytest.raises(InputError, match="exists already"):
        folder.create(trainer)
    assert folder.load()[0].episode == 0


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    folder = MetaFolder(tmp_path)
    with folder.lock(), pytest.raises(InputError, match="another process is meta-training in"), folder.lock():
        pass
    with folder.lock():
        pass
