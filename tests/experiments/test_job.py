"""Jobs: what they measure, what their results depend on, and that they are kept and gone on with."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in.graphs import DEVICE

from l2lnp.errors import InputError
from l2lnp.experiments.cache import Cache
from l2lnp.experiments.job import StoppedError, run_job
from l2lnp.experiments.running import Runner
from l2lnp.runs.problem import pose
from l2lnp.runs.resolving import resolve

from .small_jobs import COMMON, SLSTM, job

CONTENDERS = {
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam"},
    "sou": {"optimizer": "sou"},
    "slstm, frozen": SLSTM,
    "slstm, joint": {"pretrained": "slstm", "joint": True},
    "lstm, random": {"optimizer": "lstm"},
}


def same(a, b):
    assert a.losses.tobytes() == b.losses.tobytes()
    assert a.evaluated_at == b.evaluated_at
    np.testing.assert_array_equal(a.errors, b.errors)
    np.testing.assert_array_equal(a.restarts, b.restarts)


@pytest.mark.parametrize("given", CONTENDERS.values(), ids=CONTENDERS)
def test_every_optimizer_gets_the_same_weights_and_batches_for_a_seed(given):
    settings = {**COMMON, "threads": 1, "steps": 90, "seed": 5}
    problem, other = (pose(resolve({**settings, **g})) for g in ({"optimizer": "momentum"}, given))
    assert problem.begin().theta.tobytes() == other.begin().theta.tobytes()
    for _, a, b in zip(
        range(85), problem.batches(0), other.batches(0), strict=False
    ):  # into the second epoch
        assert a.x.tobytes() == b.x.tobytes()
        assert a.labels.tobytes() == b.labels.tobytes()
    assert run_job(job(1, seed=5, **given)).losses == run_job(job(1, seed=5)).losses


def test_a_job_on_a_device_waits_once_in_a_block_of_steps(cupy):
    for given in ({"optimizer": "adam"}, SLSTM | {"pretrained": "slstm-coordinates"}):
        readings = []
        for steps in (6, 24):
            before = DEVICE.n_readings
            on_device = run_job(job(steps, backend="cupy", **given))
            readings.append(DEVICE.n_readings - before)
        assert readings[0] == readings[1]
        on_host = run_job(job(24, **given))
        np.testing.assert_allclose(on_device.losses, on_host.losses, rtol=5e-3)
        np.testing.assert_array_equal(on_device.restarts, on_host.restarts)
        assert (np.diff(on_device.wall_s) > 0).all()


def test_a_job_on_a_device_measures_and_diverges_at_the_same_steps(cupy):
    given_up = {"optimizer": "sgd", "learning_rate": 1e30}
    # in coordinates: in the basis directions without a gradient turn by rounding, and the first steps differ
    in_coordinates = {"optimizer": "slstm", "pretrained": "slstm-coordinates", "joint": False, "h": "zero"}
    for given in ({"optimizer": "adam"}, given_up, in_coordinates):
        on_host, on_device = (run_job(job(30, (1, 5, 30), backend=b, **given)) for b in ("numpy", "cupy"))
        np.testing.assert_array_equal(on_device.restarts, on_host.restarts)
        np.testing.assert_array_equal(np.isfinite(on_device.losses), np.isfinite(on_host.losses))
        # of networks that go astray, whose numbers overflow, rounding decides some pictures
        atol = 0.02 if given["optimizer"] == "adam" else 0.05
        np.testing.assert_allclose(on_device.errors, on_host.errors, atol=atol)


def test_another_seed_gives_other_weights():
    assert run_job(job(1, seed=1)).losses != run_job(job(1, seed=2)).losses


@pytest.mark.parametrize("average", [False, True])
def test_a_job_measures_what_a_run_does(tmp_path, average):
    from runs.short_runs import begin_short, go

    run = begin_short(tmp_path / "run", **SLSTM, steps=9, eval_every_steps=4, average=average)
    lines = go(run)[0].lines
    asked = {**SLSTM, "batch_size": run.settings.batch_size, "average": average}
    result = run_job(job(9, (4, 8, 9), **asked))
    np.testing.assert_allclose(result.losses, [line.train_loss for line in lines], rtol=1e-12)
    assert list(result.errors) == [line.test_error for line in lines if line.test_error is not None]
    assert (np.diff(result.wall_s) > 0).all()
    assert (np.diff(result.cpu_s) >= 0).all()
    assert result.n_restarts == 0


def test_time_for_errors_is_not_counted(monkeypatch):
    import time

    from l2lnp.tasks.classification import Classification

    measure = Classification.measure
    monkeypatch.setattr(Classification, "measure", lambda *a, **k: (time.sleep(0.2), measure(*a, **k))[1])
    assert run_job(job(3, (1, 2, 3))).wall_s[-1] < 0.2


def test_the_validation_split_is_measured_where_asked_for():
    test, validation = (run_job(job(40, (40,), split)).errors[0] for split in ("test", "validation"))
    assert test * 360 == pytest.approx(round(test * 360))
    assert validation * 143 == pytest.approx(round(validation * 143))


def test_a_run_that_diverges_has_infinite_losses_and_no_error():
    result = run_job(job(30, (1, 30), optimizer="sgd", learning_rate=1e9))
    assert result.n_restarts > 0
    assert np.isinf(result.losses).any()
    assert np.isinf(result.mean_loss)
    assert len(result.losses) == 30
    given_up = run_job(job(30, (30,), optimizer="sgd", learning_rate=1e30))
    assert np.isnan(given_up.errors).all()
    assert np.isinf(given_up.losses[-1])
    beginning = given_up.of(job(1, optimizer="sgd", learning_rate=1e30))
    assert beginning.n_restarts == 0
    assert np.isfinite(beginning.mean_loss)


def test_the_key_tells_apart_what_matters_and_nothing_else(tmp_path):
    base = job()
    differing = [
        job(optimizer="adam", seed=1),
        job(optimizer="adam", learning_rate=0.1),
        job(optimizer="adam", batch_size=17),
        job(optimizer="adam", network="big"),
        job(optimizer="adam", dtype="float64"),
        job(optimizer="adam", optimizer_settings={"beta_1": 0.8}),
        job(optimizer="sgd"),
        job(**SLSTM),
        job(**SLSTM, h="zero"),
        job(**SLSTM, steps=7),
        job(pretrained="slstm", joint=True),
        replace(base, split="validation"),
    ]
    keys = [one.key() for one in differing]
    assert len({base.key(), *keys}) == len(keys) + 1
    alike = [
        job(optimizer="adam", threads=2),
        job(optimizer="adam", optimizer_settings={"beta_1": 0.9}),
        job(optimizer="adam", eval_every_steps=3),
        job(optimizer="adam", steps=9, evaluate_at=(2,)),
    ]
    assert {one.key() for one in alike} == {base.key()}


def test_the_key_follows_the_contents_of_a_file_not_its_name(tmp_path):
    from l2lnp.pretrained import load_learned_optimizer, save_learned_optimizer

    learned = load_learned_optimizer("slstm")
    for name in ("a.h5", "b.h5"):
        save_learned_optimizer(tmp_path / name, learned)
    keys = [job(pretrained=str(tmp_path / name), joint=False).key() for name in ("a.h5", "b.h5")]
    assert keys[0] == keys[1]
    learned.phi["conv/head/b"] += 1
    save_learned_optimizer(tmp_path / "b.h5", learned)
    assert job(pretrained=str(tmp_path / "b.h5"), joint=False).key() != keys[0]


def test_shorter_jobs_are_parts_of_longer_ones_but_not_of_learned_optimizers(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        "l2lnp.experiments.running.run_job", lambda one, stop: (ran.append(one), run_job(one, stop))[1]
    )
    jobs = [job(4), job(9, (2, 9)), job(6, (6,)), job(4, **SLSTM), job(6, **SLSTM)]
    results = Runner(tmp_path).run(jobs)
    assert sorted(one.settings.steps for one in ran) == [4, 6, 9]
    for one, result in zip(jobs, results, strict=True):
        same(result, run_job(one))
    ran.clear()
    Runner(tmp_path).run([job(5), job(9, (6,))])
    assert ran == []
    asked = job(5, (3,))  # an error that was not measured
    (result,) = Runner(tmp_path).run([asked])
    same(result, run_job(asked))
    assert [(one.settings.steps, one.evaluate_at) for one in ran] == [(5, (3,))]
    for one, result in zip(jobs, Runner(tmp_path).run(jobs), strict=True):  # nothing of which was lost
        same(result, run_job(one))
    assert len(ran) == 1


def test_results_are_kept_exactly_and_damaged_ones_computed_anew(tmp_path):
    runner, asked = Runner(tmp_path / "a" / "cache"), job(5, (3,), **SLSTM)
    (result,) = runner.run([asked])
    kept = Cache(runner.cache).read(asked.key())
    same(kept, result)
    np.testing.assert_array_equal(kept.wall_s, result.wall_s)
    (file,) = runner.cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    same(runner.run([asked])[0], result)
    assert Cache(runner.cache).read(asked.key()) is not None


def test_processes_give_the_bytes_of_one(tmp_path):
    jobs = [job(6, (6,), optimizer="adam", seed=seed) for seed in range(3)] + [job(5, **SLSTM)]
    seen = []
    results = Runner(tmp_path / "two", 2, seen.append).run(jobs)
    for one, result in zip(jobs, results, strict=True):
        same(result, run_job(one))
    assert [progress.n_done for progress in seen] == [1, 2, 3, 4]
    assert seen[-1].n_jobs == 4
    assert seen[-1].remaining_s == 0


def test_bad_input_in_a_worker_is_one_sentence(tmp_path):
    bad = job(3, **SLSTM)
    bad = replace(bad, settings=replace(bad.settings, batch_size=1295))
    with pytest.raises(InputError, match="a batch of 1295 cannot be drawn"):
        Runner(tmp_path, 2).run([bad, job(3)])


def test_an_interrupted_set_keeps_what_is_done(tmp_path):
    jobs = [job(5, optimizer="adam", seed=seed) for seed in range(4)]
    seen = []
    runner = Runner(tmp_path, 1, seen.append, lambda: len(seen) == 2)
    with pytest.raises(KeyboardInterrupt):
        runner.run(jobs)
    assert len(list(tmp_path.iterdir())) == 2
    seen.clear()
    Runner(tmp_path, 1, seen.append).run(jobs)
    assert len(seen) == 2


def test_a_job_can_be_stopped_after_any_step():
    answers = iter([False, False, True])
    with pytest.raises(StoppedError):
        run_job(job(9), lambda: next(answers))
