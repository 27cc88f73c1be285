"""The library over the stand-in for CuPy: the same numbers, and no array on the wrong side."""

import numpy as np
import pytest
from moving import assert_same, moved
from networks_of_all_kinds import NETWORKS, convolutional, draw_batch, max_pooling

from l2lnp import basis
from l2lnp.checking import gradcheck_all
from l2lnp.curvature import ADJOINT_MODES, BASIS_MODES, MODES
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.meta.joint import JointLearner
from l2lnp.meta.unroll import meta_gradient, unroll
from l2lnp.optimizers import OPTIMIZERS, Inputs, make_optimizer
from l2lnp.tasks.classification import Batch, Classification
from l2lnp.tasks.quadratic import Quadratic
from l2lnp.tree import Layout

CUT = Execution(micro_batch=3, lanes=2, chunk=40)
BY_ARRAYS = "L2LNP_CUDA_KERNELS", "0"  # axes of like eigenvalues turn with the last bit of a product
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
LAYOUT = Layout.of_layers([("conv", {"w": (4, 9), "b": (4,)}), ("fully_connected", {"w": (7, 6), "b": (7,)})])
LEARNED = [
    ("lstm", {"n_units": (4, 3)}),
    ("slstm", {"n_units": (4, 3)}),
    ("slstm", {"features": ("log_sign_g", "log_sign_h"), "head": "linear", "per": "kind", "n_units": (2, 2)}),
    ("slstm", {"step_unit": "weights", "n_units": (2, 3)}),
]
EVERY_OPTIMIZER = [(name, {}) for name, kind in OPTIMIZERS.items() if not kind.learned] + LEARNED


@pytest.mark.parametrize("mode", [None, *(mode for mode in MODES if mode not in BASIS_MODES)])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_g_and_h(cupy, name, mode):
    network = NETWORKS[name]()
    batch = draw_batch(network)
    if mode == "exact" and "lstm" in name:
        with pytest.raises(InputError):
            network.evaluate(*moved(cupy, batch), mode, CUT)
        return
    expected = network.evaluate(*batch, mode, CUT)
    assert_same(network.evaluate(*moved(cupy, batch), mode, CUT), expected, cupy, **CLOSE)
    theta, x, _ = batch
    assert_same(network.predict(*moved(cupy, (theta, x)), CUT), network.predict(theta, x, CUT), cupy, **CLOSE)


@pytest.mark.parametrize("mode", ADJOINT_MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_adjoint(cupy, name, mode):
    network = NETWORKS[name]()
    batch = draw_batch(network)
    a_g, a_h = np.random.default_rng(1).normal(size=(2, *batch[0].shape))
    expected = network.adjoint(*batch, 0.7, a_g, a_h, mode, CUT)
    arguments = *moved(cupy, batch), 0.7, *moved(cupy, (a_g, a_h)), mode, CUT
    assert_same(network.adjoint(*arguments), expected, cupy, **CLOSE)


def test_float32_stays_float32(cupy):
    for make in NETWORKS.values():
        network = make()
        batch = draw_batch(network, dtype=np.float32)
        expected = network.evaluate(*batch, execution=CUT)
        assert_same(
            network.evaluate(*moved(cupy, batch), execution=CUT), expected, cupy, rtol=2e-4, atol=1e-5
        )


def test_every_derivative(cupy):
    for dtype in (np.float64, np.float32):
        checks = list(gradcheck_all(xp=cupy, dtype=dtype))
        assert len(checks) > 50
        assert [check for check in checks if not check.passed] == []


def steps_of(optimizer, n_steps=3):
    rng = np.random.default_rng(0)
    phi = optimizer.init_phi(rng, np.float64)
    theta, *signals = rng.normal(size=(2 * n_steps + 1, LAYOUT.n_coordinates))
    state = optimizer.init_state(theta)
    steps = [
        Inputs(float(rng.uniform(0.5, 2)), g, h, theta)
        for g, h in zip(signals[::2], signals[1::2], strict=True)
    ]
    a_u = list(rng.normal(size=(n_steps, theta.size)))
    return phi, state, steps, a_u


@pytest.mark.parametrize(("name", "settings"), EVERY_OPTIMIZER)
def test_optimizers(cupy, name, settings):
    optimizer = make_optimizer(name, LAYOUT, CUT, **settings)
    phi, state, steps, a_u = steps_of(optimizer)
    on_device = moved(cupy, (phi, state, steps, a_u))
    results = []
    for phi_, state_, steps_, a_u_ in ((phi, state, steps, a_u), on_device):
        states = [state_]
        updates = []
        for inputs in steps_:
            u, after = optimizer.update(phi_, states[-1], inputs)
            updates.append(u)
            states.append(after)
        adjoint = optimizer.update_adjoint(phi_, states[2], steps_[2], a_u_[2], {})
        unrolled = optimizer.unroll_adjoint(phi_, state_, steps_, a_u_, {})
        adjoint = adjoint._replace(loss=float(adjoint.loss))  # on a device an array ()
        results.append((updates, states, adjoint, unrolled))
    assert_same(results[1], results[0], cupy, **CLOSE)


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize(("name", "settings"), EVERY_OPTIMIZER)
def test_meta_gradient(cupy, monkeypatch, name, settings, second_derivatives):
    if name == "soap":
        monkeypatch.setenv(*BY_ARRAYS)
    network = convolutional()
    theta, x, labels = draw_batch(network, n_samples=40)  # so many that no two eigenvalues are 0
    task = Classification(network, execution=CUT)
    optimizer = make_optimizer(name, network.layout, CUT, **settings)
    phi, state = optimizer.init_phi(np.random.default_rng(2), np.float64), optimizer.init_state(theta)
    # sqrt(v) has no slope at 0, where it stays in the basis along what a softmax does not see
    state = {key: value + 0.1 if key == "v" else value for key, value in state.items()}
    batches = [Batch(t, x + 0.1 * t, labels) for t in range(3)]
    results = []
    for phi_, theta_, state_, batches_ in (
        (phi, theta, state, batches),
        moved(cupy, (phi, theta, state, batches)),
    ):
        end = unroll(optimizer, phi_, task, theta_, state_, batches_)
        results.append(
            meta_gradient(optimizer, phi_, task, end.tape, end.theta, second_derivatives=second_derivatives)
        )
    assert_same(results[1], results[0], cupy, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("name", "settings"), EVERY_OPTIMIZER)
def test_joint_learning(cupy, name, settings):
    network = max_pooling()
    theta, x, labels = draw_batch(network)
    task = Classification(network, execution=CUT)
    optimizer = make_optimizer(name, network.layout, CUT, **settings)
    phi = optimizer.init_phi(np.random.default_rng(2), np.float64)
    results = []
    for theta_, phi_, batch in (
        (theta, phi, Batch(0, x, labels)),
        moved(cupy, (theta, phi, Batch(0, x, labels))),
    ):
        learner = JointLearner(optimizer, frozen=not optimizer.learned)
        training = learner.start(theta_, phi_)
        for _ in range(5):
            training, _ = learner.step(training, task, batch)
        results.append(training)
    assert_same(results[1], results[0], cupy, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_basis_of_the_curvature(cupy, monkeypatch, name):
    monkeypatch.setenv(*BY_ARRAYS)
    network, results = NETWORKS[name](), []
    layout, batch = network.layout, draw_batch(network)
    (_, g_there, _), moments_there = network.evaluate_with_moments(*moved(cupy, batch), 64, execution=CUT)
    (_, g_here, _), moments_here = network.evaluate_with_moments(*batch, 64, execution=CUT)
    assert_same((g_there, moments_there), (g_here, moments_here), cupy, **CLOSE)
    # from here on the same moments: where eigenvalues are equal, last digits turn the axes
    here = batch, g_here, moments_here
    for arguments, g, moments in (here, moved(cupy, here)):
        square = {key: m for key, m in moments.items() if m.ndim == 2}
        signs = basis.references(layout, g)
        first = {key: basis.eigenvectors(m, signs[key])[0] for key, m in square.items()}
        axes, spectra = {}, {key: m for key, m in moments.items() if m.ndim != 2}
        for key, q in first.items():
            axes[key], spectra[key] = basis.iterated(square[key], q)
        rotated = basis.rotate(layout, axes, g, CUT)
        back = basis.rotate_back(layout, axes, rotated, CUT)
        averages = {key: basis.averaged(2, m, 2 * m) for key, m in square.items()}
        (_, _, h), _ = network.evaluate_with_moments(*arguments, 0, "ekfac", CUT, axes=axes)
        results.append((moments, averages, axes, rotated, back, basis.diagonal(layout, spectra, g), h))
    assert_same(results[1], results[0], cupy, rtol=1e-6, atol=1e-8)


def test_a_step_that_is_not_finite_goes_back(cupy):
    network = max_pooling()
    theta, x, labels = draw_batch(network)
    task, optimizer = Classification(network), make_optimizer("sgd", network.layout)
    learner = JointLearner(optimizer, frozen=True)
    phi = optimizer.init_phi(np.random.default_rng(0), np.float64)
    training = learner.start(*moved(cupy, (theta, phi)))
    training, report = learner.step(training, task, moved(cupy, Batch(0, np.nan * x, labels)))
    assert "not finite" in report.message
    np.testing.assert_array_equal(training.theta.get(), theta)


def test_a_loss_that_is_no_network(cupy):
    task = Quadratic.random(np.random.default_rng(0), 5)
    theta = np.ones(5)
    there = Quadratic(*moved(cupy, (task.w, task.y)))
    assert_same(there.evaluate(moved(cupy, theta)), task.evaluate(theta), cupy, **CLOSE)
    a_g = np.arange(5.0)
    expected = task.adjoint(theta, None, 0.3, a_g)
    assert_same(there.adjoint(*moved(cupy, (theta,)), None, 0.3, moved(cupy, a_g)), expected, cupy, **CLOSE)


def test_inputs_of_both_libraries_are_refused(cupy):
    network = convolutional()
    theta, x, targets = draw_batch(network)
    with pytest.raises(TypeError):
        network.evaluate(theta, *moved(cupy, (x, targets)))
    assert Inputs(0.0, theta, None).g is theta
