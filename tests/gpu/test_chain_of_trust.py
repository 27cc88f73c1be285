"""NumPy in float64 is checked by differences; from there one link after the other to the GPU in float32."""

import numpy as np
import pytest
from moving import moved
from networks_of_all_kinds import NETWORKS, draw_batch

from l2lnp.backend import to_host
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.data import load_dataset
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.networks import find_network
from l2lnp.optimizers import OPTIMIZERS, make_optimizer
from l2lnp.optimizers.base import Context, Inputs
from l2lnp.optimizers.features import FEATURES
from l2lnp.pretrained import load_learned_optimizer
from l2lnp.tasks.classification import Batch, Classification

pytestmark = pytest.mark.gpu

# of so few samples many eigenvalues are alike, and the axes, and what lies along them, turn with the last bit
IN_THE_BASIS = ("soap",)

LINKS = {  # library, dtype, largest error relative to the largest number, against NumPy in float64
    "numpy32": (False, np.float32, 1e-4),
    "cupy64": (True, np.float64, 1e-9),
    "cupy32": (True, np.float32, 1e-4),
}


@pytest.fixture(params=LINKS)
def link(request, gpu):
    on_gpu, dtype, tolerance = LINKS[request.param]
    execution = Execution(**ON_A_GPU) if on_gpu else Execution()
    return (gpu if on_gpu else np), dtype, tolerance, execution


def assert_near(ours, expected, tolerance):
    error, size = np.abs(to_host(ours) - expected).max(), np.abs(expected).max()
    assert error <= tolerance * max(size, 1e-3), (error, size)


def cast(tree, dtype):
    """Return ``tree`` with its floating-point arrays in ``dtype``."""
    if isinstance(tree, np.ndarray):
        return tree.astype(dtype) if tree.dtype.kind == "f" else tree
    if isinstance(tree, dict):
        return {key: cast(value, dtype) for key, value in tree.items()}
    if isinstance(tree, tuple):
        parts = [cast(value, dtype) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


@pytest.mark.parametrize("mode", ADJOINT_MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_g_h_and_adjoint(link, name, mode):
    xp, dtype, tolerance, execution = link
    network, rng = NETWORKS[name](), np.random.default_rng(1)
    batch = draw_batch(network, dtype=np.float32)
    a_g, a_h = rng.normal(size=(2, *batch[0].shape)).astype(np.float32)
    wide, (theta, x, targets) = cast(batch, np.float64), moved(xp, cast(batch, dtype))
    expected = network.evaluate(*wide, mode)
    ours = network.evaluate(theta, x, targets, mode, execution)
    assert abs(ours.loss - expected.loss) <= tolerance * abs(expected.loss)
    assert_near(ours.g, expected.g, tolerance)
    assert_near(ours.h, expected.h, tolerance)
    expected = network.adjoint(*wide, 0.7, *cast((a_g, a_h), np.float64), mode)
    arguments = 0.7, *moved(xp, cast((a_g, a_h), dtype)), mode, execution
    assert_near(network.adjoint(theta, x, targets, *arguments), expected, tolerance)


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in IN_THE_BASIS])
def test_meta_gradients(link, name, second_derivatives):
    xp, dtype, tolerance, execution = link
    network = NETWORKS["convolutional"]()
    theta, x, labels = draw_batch(network, dtype=np.float32)
    phi = make_optimizer(name, network.layout).init_phi(np.random.default_rng(2))
    results = []
    for library, kind, how in ((np, np.float64, Execution()), (xp, dtype, execution)):
        optimizer = make_optimizer(name, network.layout, how)
        task = Classification(network, execution=how)
        theta_, phi_, x_, labels_ = moved(library, cast((theta, phi, x, labels), kind))
        batches = [Batch(t, x_ * (1 + 0.1 * t), labels_) for t in range(4)]
        end = unroll(optimizer, phi_, task, theta_, optimizer.init_state(theta_), batches)
        a = meta_gradient(optimizer, phi_, task, end.tape, end.theta, second_derivatives=second_derivatives)
        results.append(np.concatenate([to_host(a.phi[key]).reshape(-1) for key in sorted(a.phi)]))
    # the logarithms of tiny gradients, and their slopes, keep fewer digits
    assert_near(results[1], results[0], 100 * tolerance if second_derivatives else 10 * tolerance)


def test_trajectory_on_the_digits(link):
    xp, dtype, tolerance, execution = link
    dataset, learned = load_dataset("digits"), load_learned_optimizer("slstm-coordinates")
    network = find_network("small", (1, 8, 8)).build((1, 8, 8), 10)
    theta = network.init(np.random.default_rng(0))
    losses, tenth = [], []
    for library, kind, how in ((np, np.float64, Execution()), (xp, dtype, execution)):
        optimizer = make_optimizer(learned.name, network.layout, how, **learned.settings)
        learner = JointLearner(optimizer, frozen=True, n_steps=100, batch_size=64, n_samples=1500)
        task = Classification(network, execution=how)
        phi = learned.fitted(optimizer.init_phi(np.random.default_rng(0)))
        training = learner.start(*moved(library, cast((theta, phi), kind)))
        drawn = dataset.split("train").batches(0, 64, 0, library, kind)
        for step in range(100):
            training, report = learner.step(training, task, Batch(step, *next(drawn)))
            if step == 9:
                tenth.append(to_host(training.theta))
        losses.append(report.loss)
    norm = np.linalg.norm(tenth[0])
    assert np.linalg.norm(tenth[1] - tenth[0]) <= tolerance * norm
    assert abs(losses[1] - losses[0]) <= 1e3 * tolerance * abs(losses[0])


@pytest.mark.parametrize(
    "settings", [{"features": tuple(FEATURES), "step_unit": "weights"}, {"head": "linear"}]
)
def test_a_step_in_one_kernel_against_array_passes_on_the_device(gpu, monkeypatch, settings):
    network = NETWORKS["convolutional"]()
    optimizer = make_optimizer("slstm", network.layout, Execution(**ON_A_GPU), per="kind", **settings)
    rng = np.random.default_rng(0)
    g, h, theta = rng.normal(size=(3, network.layout.n_coordinates)).astype(np.float32)
    phi = {
        key: v + 0.1 * rng.normal(size=v.shape).astype(v.dtype) for key, v in optimizer.init_phi(rng).items()
    }
    inputs, state, phi, theta = moved(
        gpu, (Inputs(1.5, g, h, theta, Context(0, 30, 8, 80)), optimizer.init_state(theta), phi, theta)
    )
    results = []
    for kernels in ("1", "0"):
        monkeypatch.setenv("L2LNP_CUDA_KERNELS", kernels)
        there, after = optimizer.step(phi, state, inputs, theta)
        results.append([to_host(v) for v in (there, after["moments"], optimizer.coordinatewise(after))])
    for ours, expected in zip(*results, strict=True):
        assert_near(ours, expected, 1e-5)


def test_kernels_against_array_passes_on_the_device(gpu, monkeypatch):
    network, results = NETWORKS["max_pooling"](), []
    batch = moved(gpu, draw_batch(network, dtype=np.float32))
    for kernels in ("1", "0"):
        monkeypatch.setenv("L2LNP_CUDA_KERNELS", kernels)
        results.append([to_host(v) for v in network.evaluate(*batch)[1:]])
    for ours, expected in zip(*results, strict=True):
        assert_near(ours, expected, 1e-5)
