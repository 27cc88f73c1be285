"""Optimizers in the curvature basis: what must not change, what turns, and what stays with its column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_tasks import N, Task, enlivened, make, run
from networks_of_all_kinds import NETWORKS, draw_batch

from l2lnp import basis
from l2lnp.checking import slope
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.layers import Activation, FullyConnected, SoftmaxCrossEntropy
from l2lnp.network import Sequential
from l2lnp.optimizers import OPTIMIZERS, Context, InBasis, Inputs, make_optimizer, settings_of
from l2lnp.tree import Layout

NAMES = sorted(OPTIMIZERS)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_sgd_goes_the_same_way(name):
    task = Task.of(name)
    theta, *_ = draw_batch(task.network)
    ways = []
    for in_basis in ("coordinates", "kronecker"):
        optimizer = make("sgd", task.layout, in_basis)
        ways.append(run(optimizer, enlivened(optimizer), task, theta, 25))
    np.testing.assert_allclose(ways[0][0], ways[1][0], rtol=1e-9)
    np.testing.assert_allclose(ways[0][2], ways[1][2], rtol=1e-9, atol=1e-12)


def rotated_inputs(seed, n_in=7):
    """A fully connected network, theta and batches, and the same with inputs and first weights rotated."""
    network = Sequential(
        (FullyConnected(n_in, 5), Activation("tanh"), FullyConnected(5, 3)), SoftmaxCrossEntropy(), (n_in,)
    )
    rng = np.random.default_rng(seed)
    theta = network.init(rng, np.float64)
    deviations = rng.uniform(0.5, 2.0, size=(n_in, 1))
    batches = [(deviations * rng.normal(size=(n_in, 20)), rng.integers(0, 3, 20)) for _ in range(3)]
    r = np.linalg.qr(rng.normal(size=(n_in, n_in)))[0]
    params = network.layout.split(theta)
    turned = {**params, 0: {**params[0], "w": params[0]["w"] @ r.T}}
    same = Task(network, [(r @ x, labels) for x, labels in batches])
    return Task(network, batches), theta, same, network.layout.join(turned)


@pytest.mark.parametrize("name", ["adam", "lstm", "slstm"])
def test_a_rotation_of_the_inputs_changes_nothing_in_the_basis_and_much_in_coordinates(name):
    task, theta, turned_task, turned_theta = rotated_inputs(seed=1)
    for in_basis, is_equivariant in (("kronecker", True), ("coordinates", False)):
        optimizer = make(name, task.layout, in_basis)
        phi = enlivened(optimizer)
        losses, _, _ = run(optimizer, phi, task, theta, 15)
        turned_losses, _, _ = run(optimizer, phi, turned_task, turned_theta, 15)
        assert turned_losses[0] == pytest.approx(losses[0])
        assert np.allclose(turned_losses, losses, rtol=1e-6) == is_equivariant


def test_momentum_survives_a_refresh_which_turns_no_column_over():
    """All that is linear in g is, turned back, the same vector after a refresh; all else stays."""
    task = Task.of("max_pooling")
    theta, *_ = draw_batch(task.network)
    optimizer = make("lstm", task.layout)
    _, state, theta = run(optimizer, enlivened(optimizer), task, theta, 12)
    state = {**state, "basis/step": 20}
    _, after = optimizer.look(task, theta, 1, Context(20, 30, N), state)
    averages = optimizer.inner._preprocessing.averages
    assert {"g", "g^2"} <= {average.of for average in averages}
    moved = 0.0
    for row, average in enumerate(averages):
        old, new = state["moments"][row], after["moments"][row]
        if average.of == "g":
            back = basis.rotate_back(task.layout, optimizer._axes(after), new, Execution())
            there = basis.rotate_back(task.layout, optimizer._axes(state), old, Execution())
            np.testing.assert_allclose(back, there, atol=1e-12)
            moved += abs(new - old).max()
        else:
            np.testing.assert_array_equal(new, old)
    assert moved > 1e-4
    np.testing.assert_array_equal(after["lstm"], state["lstm"])
    for key, q in optimizer._axes(after).items():
        assert (np.diag(q.T @ optimizer._axes(state)[key]) > 0).all(), "a column was turned over"


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_momentum_of_hand_designed_optimizers_survives_a_refresh(name):
    task = Task.of("convolutional")
    theta, *_ = draw_batch(task.network)
    optimizer = make(name, task.layout)
    _, state, theta = run(optimizer, enlivened(optimizer), task, theta, 4)  # a refresh is due at step 4
    _, after = optimizer.look(task, theta, 1, Context(4, 30, N), state)
    assert abs(after["m"] - state["m"]).max() > 1e-3
    there, back = (
        basis.rotate_back(task.layout, optimizer._axes(s), s["m"], Execution()) for s in (state, after)
    )
    np.testing.assert_allclose(back, there, atol=1e-12)


def test_when_the_basis_is_refreshed_and_that_h_is_never_asked_for():
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    optimizer = make("slstm", task.layout, basis_every=3, basis_max_width=10)
    _, state, _ = run(optimizer, enlivened(optimizer), task, theta, 11)
    assert task.asked == [(False, 10 if step in (0, 1, 2, 3, 4, 6, 9) else 0) for step in range(11)]
    assert (state["basis/step"], state["basis/refreshes"]) == (11, 7)
    assert "basis/axes/1/2" not in state  # 16 wide
    assert state["basis/moment/1/2"].shape == (1, 1)


def test_h_in_the_basis_is_the_diagonal_of_the_kronecker_product():
    task = Task.of("max_pooling", 1)
    theta, *_ = draw_batch(task.network)
    optimizer = make("slstm", task.layout)
    inputs, state = optimizer.look(task, theta, 0, Context(0, 30, N), optimizer.init_state(theta))
    h = task.layout.split(optimizer._rotated_inputs(state, optimizer._axes(state), inputs).h)
    _, moments = task.network.evaluate_with_moments(theta, *task.batches[0], 100, None)
    spectra = {key: np.linalg.eigvalsh(m)[::-1] for key, m in moments.items()}
    assert all(d.min() > 1e-6 * d.sum() or key == (4, 0) for key, d in spectra.items())
    spectra[4, 0][-1] = 1e-6 * spectra[4, 0].sum()  # the softmax does not see what all outputs have in common
    outputs, patches = spectra[0, 0], spectra[0, 1]
    np.testing.assert_allclose(h[0]["w"], np.outer(outputs, patches), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(h[0]["b"], outputs)
    product = np.einsum("i,j,k", *(spectra[4, k] for k in range(3))) / spectra[4, 1].sum()
    np.testing.assert_allclose(h[4]["w"].reshape(product.shape), product, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(("recency", "share"), [(1.0, 1 / 2), (3.0, 3 / 4)])
def test_later_moments_count_for_more_if_asked_to(recency, share):
    task = Task.of("max_pooling", 2)
    theta, *_ = draw_batch(task.network)
    optimizer = make("adam", task.layout, basis_recency=recency)
    states = [optimizer.init_state(theta)]
    for step in (0, 1):
        inputs, state = optimizer.look(task, theta, step, Context(step, 30, N), states[-1])
        states.append(optimizer.update(enlivened(optimizer), state, inputs)[1])
    _, moments = task.evaluate_with_moments(theta, 1, False, 512)
    for (layer, mode), new in moments.items():
        path = f"basis/moment/{layer}/{mode}"
        expected = (1 - share) * states[1][path] + share * new
        np.testing.assert_allclose(states[2][path], expected, rtol=1e-12, atol=1e-15)


def test_h_of_single_samples_is_taken_along_the_new_axes():
    task = Task.of("max_pooling", 2)
    task.has_h_in_basis = True
    theta, *_ = draw_batch(task.network)
    optimizer = make("slstm", task.layout, basis_every=3)
    state = optimizer.init_state(theta)
    for step in range(6):
        before = state
        inputs, state = optimizer.look(task, theta, step % 2, Context(step, 30, N), state)
        assert (state is before) == (step == 5)
        axes = optimizer._axes(state)
        expected, _ = task.network.evaluate_with_moments(
            theta, *task.batches[step % 2], 0, "ekfac", axes=axes
        )
        np.testing.assert_array_equal(inputs.h, expected.h)
        np.testing.assert_array_equal(inputs.g, expected.g)
        np.testing.assert_array_equal(optimizer._rotated_inputs(state, axes, inputs).h, expected.h)
        u, state = optimizer.update(enlivened(optimizer), state, inputs)
        theta = theta + u
    adam = make("adam", task.layout)
    assert adam.look(task, theta, 0, Context(), adam.init_state(theta))[0].h is None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "soap"])
@pytest.mark.parametrize("step", [0, 5])
def test_update_adjoint_is_the_slope_of_update(name, step):
    task = Task.of("max_pooling")
    theta, *_ = draw_batch(task.network)
    optimizer = make(name, task.layout)
    phi = enlivened(optimizer)
    _, state, theta = run(optimizer, phi, task, theta, step)
    context = Context(step, 20, N)
    inputs, state = optimizer.look(task, theta, 1, context, state)
    rng = np.random.default_rng(0)
    arrays = [key for key, v in state.items() if isinstance(v, np.ndarray) and not key.startswith("basis/")]
    # sqrt(v) has no slope at 0, and is near it where there is no curvature
    state = {**state, **{key: state[key] + rng.uniform(0.5, 1, state[key].shape) for key in arrays}}
    a_u, a_state = rng.normal(size=theta.size), {key: rng.normal(size=state[key].shape) for key in arrays}

    def projection(phi=phi, state=state, inputs=inputs):
        u, after = optimizer.update(phi, state, inputs)
        return a_u @ u + sum(np.vdot(a, after[key]) for key, a in a_state.items())

    a = optimizer.update_adjoint(phi, state, inputs, a_u, a_state)
    assert a.h is None
    checks = [(a.g, inputs.g, lambda v: projection(inputs=inputs._replace(g=v)))]
    checks += [
        (a.phi[key], value, lambda v, key=key: projection(phi={**phi, key: v})) for key, value in phi.items()
    ]
    checks += [
        (a.state[key], state[key], lambda v, key=key: projection(state={**state, key: v})) for key in arrays
    ]
    if a.theta is not None:
        checks += [(a.theta, theta, lambda v: projection(inputs=inputs._replace(theta=v)))]
    for analytic, value, function in checks:
        d = rng.normal(size=value.shape)
        numeric = slope(function, value, d, step=1e-6)
        np.testing.assert_allclose(np.vdot(analytic, d), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["momentum", "adam", "lstm", "slstm"])
def test_the_adjoint_of_a_refresh(name):
    task = Task.of("max_pooling")
    theta, *_ = draw_batch(task.network)
    optimizer = make(name, task.layout)
    _, state, theta = run(optimizer, enlivened(optimizer), task, theta, 4)
    key = "m" if "m" in state else "moments"
    rng = np.random.default_rng(0)
    a, d = rng.normal(size=(2, *state[key].shape))
    _, after = optimizer.look(task, theta, 1, Context(4, 20, N), state)
    moved, _ = optimizer.look(task, theta, 1, Context(4, 20, N), {**state, key: state[key] + d})[1], None
    a_state = optimizer.look_adjoint(state, after, {key: a})
    assert np.vdot(a_state[key], d) == pytest.approx(np.vdot(a, moved[key] - after[key]))
    assert optimizer.look_adjoint(state, after, {}) == {}
    assert optimizer.look_adjoint(state, state, a_state) is a_state


BAD = {
    "a constant feature": lambda x: np.concatenate([np.ones_like(x[:1]), x[1:]]),
    "features that are all zero": np.zeros_like,
    "huge": lambda x: 1e12 * x,
    "tiny": lambda x: 1e-25 * x,
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["adam", "lstm", "slstm"])
@pytest.mark.parametrize("n_samples", [1, 5])
def test_degenerate_inputs_make_no_nan(bad, name, n_samples):
    network = Sequential(
        (FullyConnected(6, 4), Activation("relu"), FullyConnected(4, 2)), SoftmaxCrossEntropy(), (6,)
    )
    rng = np.random.default_rng(0)
    theta = network.init(rng)
    dead = network.layout.split(theta)  # one unit that never fires
    dead[0]["w"][1], dead[0]["b"][1] = 0, -1
    x = BAD[bad](rng.normal(size=(6, n_samples)).astype(np.float32))
    task = Task(network, [(x, np.zeros(n_samples, int))])
    optimizer = make(name, task.layout)
    phi = {key: v.astype(np.float32) for key, v in enlivened(optimizer).items()}
    _, state, theta = run(optimizer, phi, task, theta, 8)
    assert np.isfinite(theta).all()
    assert all(np.isfinite(v).all() for v in state.values())
    for q in optimizer._axes(state).values():
        np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=1e-5)


@pytest.mark.parametrize("n_steps", [0, 3])
def test_nan_from_the_network_leaves_moments_and_axes_as_they_were(n_steps):
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    optimizer = make("adam", task.layout)
    _, state, theta = run(optimizer, enlivened(optimizer), task, theta, n_steps)
    state = {**state, "basis/step": 4}
    nan = {key: np.full((1, 1), np.nan) for key in basis.mode_widths(task.layout)}
    after = optimizer.refreshed(state, np.full_like(theta, np.nan), nan)
    for key, value in after.items():
        assert np.isfinite(value).all(), key
        if key.startswith("basis/moment"):
            np.testing.assert_array_equal(value, state[key])


def test_a_layout_without_modes_is_left_in_its_coordinates():
    layout = Layout.of_vector(5)
    g = np.arange(5.0)
    for name in ("adam", "slstm"):
        plain, turned = make(name, layout, "coordinates"), make(name, layout)
        phi = enlivened(plain)
        inputs = Inputs(1.0, g, g, np.ones(5), Context(0, 5, 5))
        u, _ = plain.update(phi, plain.init_state(g), inputs)
        np.testing.assert_array_equal(turned.update(phi, turned.init_state(g), inputs)[0], u)
        assert turned.uses_curvature == plain.uses_curvature


def test_an_update_before_the_basis_is_formed_is_refused():
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    optimizer = make("adam", task.layout)
    with pytest.raises(InputError, match="the basis is formed by `look`"):
        optimizer.update(enlivened(optimizer), optimizer.init_state(theta), Inputs(1.0, theta, None))


def test_gradients_of_another_length_are_refused():
    optimizer = make_optimizer("soap", Layout.of_vector(5))
    g, theta = np.ones(6), np.ones(5)
    with pytest.raises(InputError, match="g must be a vector of 5 parameters, not"):
        optimizer.update(optimizer.init_phi(None), optimizer.init_state(theta), Inputs(1.0, g, None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_basis", ["coordinates", "kronecker"])
def test_settings_make_the_same_optimizer_again(name, in_basis):
    layout = Layout.of_vector(5)
    optimizer = make(name, layout, in_basis, **({"basis_every": 7} if in_basis == "kronecker" else {}))
    assert isinstance(optimizer, InBasis) == (in_basis == "kronecker")
    assert make_optimizer(name, layout, **settings_of(optimizer)) == optimizer


def test_soap_is_adam_in_the_basis():
    layout = Layout.of_vector(5)
    assert isinstance(make_optimizer("soap", layout), InBasis)
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    phi = {"learning_rate": np.asarray(0.01)}
    both = make("adam", task.layout), make_optimizer("soap", task.layout)
    ways = [run(optimizer, phi, task, theta, 12)[2] for optimizer in both]
    np.testing.assert_array_equal(*ways)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"basis": "kroneker"}, "unknown basis 'kroneker': did you mean 'kronecker'"),
        ({"basis_every": 0}, "adam: basis_every and basis_max_width must be positive, not 0 and 512"),
        ({"basis_max_width": -1}, "must be positive, not 10 and -1"),
        ({"basis_recency": 0.9}, "adam: basis_recency must be 1 or more, not 0.9"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make_optimizer("adam", Layout.of_vector(5), **{"basis": "kronecker", **settings})


@given(st.sampled_from(NAMES), seeds)
def test_arguments_are_left_as_they_are(name, seed):
    task = Task.of("max_pooling")
    theta, *_ = draw_batch(task.network, seed)
    optimizer = make(name, task.layout)
    phi = enlivened(optimizer)
    state = optimizer.init_state(theta)
    for step in range(2):
        for a in (theta, *phi.values(), *(v for v in state.values() if isinstance(v, np.ndarray))):
            a.flags.writeable = False
        inputs, state = optimizer.look(task, theta, step, Context(step, 20, N), state)
        for a in (inputs.g, *(v for v in state.values() if isinstance(v, np.ndarray))):
            a.flags.writeable = False
        _, state = optimizer.update(phi, state, inputs)
