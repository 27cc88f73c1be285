"""Meta-training over the stand-in for CuPy: it waits for the device once in a block of steps."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in.graphs import DEVICE

from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.meta.settings import MetaSettings
from l2lnp.meta.trainer import MetaTrainer
from l2lnp.tasks.distribution import Distribution

SETTINGS = MetaSettings(
    optimizer_settings={"per": "kind", "n_units": [3, 2], "step_unit": "weights"},
    n_episodes=3,
    horizon_steps=10,
    truncation_steps=5,
    n_validation_tasks=1,
    validation_steps=12,
)
KINDS = {
    "mean": {},
    "log": {"meta_loss": "log"},
    "other units": {"random_scaling": 1.0, "meta_loss": "last"},
    "kronecker": {"optimizer_settings": {**SETTINGS.optimizer_settings, "basis": "kronecker"}},
    "h held": {"curvature_every": "2"},
}
TINY = """
description = "tiny"
batch_sizes = [16]
[[data]]
name = "digits"
shrink = 2
[[network]]
convolutions = [1]
kernels = [3]
channels = [2, 3]
hidden_units = [4]
"""


def assert_as_on_the_cpu(settings, distribution, cupy):
    """Return the trainer on the device, where its episode began, and the readings on its way."""
    on_host = MetaTrainer(settings, distribution)
    trainer = MetaTrainer(settings, distribution, Execution(**ON_A_GPU), cupy)
    start = on_host.start()
    expected, report = on_host.run_episode(start)
    before = DEVICE.n_readings
    progress, again = trainer.run_episode(start)
    n_kept = len(start.phi) + sum(not isinstance(value, int) for value in start.meta.values())
    n_readings = DEVICE.n_readings - before - n_kept  # but for what comes to the host at the end
    np.testing.assert_allclose(again.mean_loss, report.mean_loss, rtol=1e-3)
    for path, value in expected.phi.items():
        np.testing.assert_allclose(progress.phi[path], value, rtol=0, atol=2e-3)
    return trainer, start, n_readings


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_and_a_validation_wait_for_no_step(cupy, monkeypatch, kind):
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")  # whose first replay is compared with a step, and waited for
    settings, distribution = replace(SETTINGS, **KINDS[kind]), Distribution("tiny", TINY)
    trainer, start, n_readings = assert_as_on_the_cpu(settings, distribution, cupy)
    assert n_readings == 0
    before = DEVICE.n_readings
    score = trainer.validate(start.phi)
    assert DEVICE.n_readings == before
    assert score == pytest.approx(MetaTrainer(settings, distribution).validate(start.phi), rel=1e-3)


def test_imitation_waits_once_in_an_unroll(cupy):
    settings, distribution, readings = replace(SETTINGS, imitation=1.0), Distribution("tiny", TINY), []
    for truncation in (5, 10):
        settings = replace(settings, truncation_steps=truncation)
        _, start, n_readings = assert_as_on_the_cpu(settings, distribution, cupy)
        readings.append(n_readings)
    n_unrolls = [SETTINGS.horizon_steps // truncation for truncation in (5, 10)]
    of_unroll = 1 + len(start.phi)  # its distance, and whether phi's gradients are finite
    assert readings == [n * of_unroll for n in n_unrolls]


def test_a_task_that_is_no_number_counts_as_on_the_cpu(cupy, monkeypatch):
    distribution = Distribution("tiny", TINY)
    for trainer in (
        MetaTrainer(SETTINGS, distribution),
        MetaTrainer(SETTINGS, distribution, Execution(**ON_A_GPU), cupy),
    ):
        phi = {key: np.nan * value for key, value in trainer.start().phi.items()}
        assert trainer.validate(phi) == pytest.approx(10.0)
