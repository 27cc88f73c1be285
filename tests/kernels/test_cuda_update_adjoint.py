"""The reverse of the learned optimizer's steps in one CUDA kernel a step, run on the CPU, against NumPy."""

import numpy as np
import pytest
from moving import moved
from stand_in.graphs import DEVICE

from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda import lstm_adjoint, lstm_update_adjoint
from l2lnp.meta.settings import UNIVERSAL
from l2lnp.optimizers import make_optimizer
from l2lnp.optimizers.base import Context, Inputs
from l2lnp.optimizers.features import FEATURES
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [
        ("conv", {"w": (3, 4), "b": (3,)}),
        ("fully_connected", {"w": (2, 150), "b": (2,)}),
        ("conv", {"w": (1, 2), "b": (1,)}),
    ]
)
MANY_LAYERS = Layout.of_layers([("fully_connected", {"w": (3,), "b": (1,)}) for _ in range(10)])
SMALL = {"n_units": (3, 2), "per": "kind"}
MANY = tuple(UNIVERSAL["slstm"]["features"])
KINDS = [
    {},
    {"features": tuple(FEATURES), "step_unit": "weights", "weight_decay": 0.3, "schedule": "cosine"},
    {"features": MANY, "head": "linear", "per": "layer"},
    {"features": ("rnnprop",), "per": "layer", "n_units": (2, 5)},
    {"features": ("log_sign_g",), "n_units": (4, 4)},
]
N_STEPS = 3
TOLERANCES = {np.float32: 1e-4, np.float64: 1e-11}


def problem(dtype, settings, execution, layout=LAYOUT):
    """Return a learned optimizer and the arguments of `unroll_adjoint`."""
    optimizer = make_optimizer("slstm", layout, execution, **SMALL | settings)
    rng, n = np.random.default_rng(3), layout.n_coordinates
    phi = {
        key: (v + 0.3 * rng.normal(size=v.shape)).astype(dtype) for key, v in optimizer.init_phi(rng).items()
    }
    steps, theta = [], rng.normal(size=n).astype(dtype)
    for t in range(N_STEPS):
        g, h = (0.1 * rng.normal(size=(2, n))).astype(dtype)
        seen = theta if optimizer.uses_theta else None
        steps.append(Inputs(float(rng.uniform(0.5, 2)), g, h, seen, Context(5 + t, 40, 7, 70)))
    state = optimizer.init_state(theta)
    state["moments"] += abs(rng.normal(size=state["moments"].shape)).astype(dtype)
    state["lstm"] += rng.normal(size=state["lstm"].shape).astype(dtype)
    a_u = list(rng.normal(size=(N_STEPS, n)).astype(dtype))
    a_state = {"lstm": rng.normal(size=state["lstm"].shape).astype(dtype)}
    return optimizer, phi, {**state, "t": 5}, steps, a_u, a_state


def reversed_steps(optimizer, phi, state, steps, a_u, a_state, keep=False):
    states = [state]
    for inputs in steps:
        states.append(optimizer.update(phi, states[-1], inputs)[1])
    a_phi, a = optimizer.unroll_adjoint(phi, state, steps, a_u, a_state, states[1:] if keep else None)
    return a_phi | {"state": optimizer.coordinatewise({**state, "lstm": a["lstm"]})}


def both(xp, dtype, settings, layout=LAYOUT, keep=True):
    optimizer, *arguments = problem(np.float64, settings, Execution(chunk=1 << 24), layout)
    expected = reversed_steps(optimizer, *arguments)
    optimizer, *arguments = problem(dtype, settings, Execution(**ON_A_GPU), layout)
    return reversed_steps(optimizer, *moved(xp, tuple(arguments)), keep), expected


def assert_close(ours, expected, dtype):
    assert set(ours) == set(expected)
    for name, value in expected.items():
        mine = ours[name].get()
        assert mine.dtype == dtype
        assert mine.shape == value.shape
        assert np.abs(mine - value).max() <= TOLERANCES[dtype] * max(1.0, np.abs(value).max()), name


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_features_heads_and_units(cupy, settings, keep):
    assert_close(*both(cupy, np.float64, settings, keep=keep), np.float64)


@pytest.mark.parametrize("settings", KINDS[:3], ids=str)
def test_in_single_precision(cupy, settings):
    assert_close(*both(cupy, np.float32, settings), np.float32)


def test_more_layers_than_a_launch_takes(cupy):
    settings = {"per": "layer", "features": ("rnnprop",)}
    assert_close(*both(cupy, np.float64, settings, MANY_LAYERS), np.float64)


def test_layers_of_two_kinds_that_alternate(cupy, monkeypatch):
    monkeypatch.setattr(lstm_adjoint, "_MOST_BLOCKS", 2)  # each takes several tiles
    assert_close(*both(cupy, np.float64, {"per": "kind"}), np.float64)


def test_a_feature_that_is_not_in_cuda(cupy, monkeypatch):
    monkeypatch.setattr(lstm_update_adjoint, "is_for", lambda features: False)
    assert_close(*both(cupy, np.float64, {}), np.float64)


def test_a_step_back_is_one_launch(cupy):
    optimizer, *arguments = problem(np.float32, {"features": ("rnnprop",)}, Execution(**ON_A_GPU))
    phi, state, steps, a_u, _ = moved(cupy, tuple(arguments))
    states = [state]
    for inputs in steps:
        states.append(optimizer.update(phi, states[-1], inputs)[1])
    before = DEVICE.n_launches
    optimizer.unroll_adjoint(phi, state, steps, a_u, {}, states[1:])
    assert DEVICE.n_launches - before == N_STEPS + 2  # zeros, and the sums over blocks


def test_numbers_may_lie_on_the_device(cupy):
    optimizer, *arguments = problem(np.float64, KINDS[1], Execution(**ON_A_GPU))
    phi, state, steps, a_u, a_state = moved(cupy, tuple(arguments))

    def there(x):
        return cupy.asarray(np.array(float(x)))

    on_device = [
        s._replace(loss=there(s.loss), context=s.context._replace(step=there(s.context.step))) for s in steps
    ]
    expected = reversed_steps(optimizer, phi, state, steps, a_u, a_state, keep=True)
    ours = reversed_steps(optimizer, phi, {**state, "t": there(5)}, on_device, a_u, a_state, keep=True)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name].get(), value.get(), rtol=1e-10, atol=1e-12)


PLANTED = {
    "slope of the head": ("(1 - headed * headed)", "(1 - headed)"),
    "unit of another tensor": ("seen.unit(seen.tensor(at))", "seen.unit(0)"),
    "statistics of another tensor": ("{statistics + of,", "{statistics,"),
    "features of another coordinate": ("= g[at];", "= g[0];"),
    "features without bias correction": ("+ at] / corrections[i]", "+ at]"),
    "cotangents of another chunk": ("* a_u[at];", "* a_u[i];"),
    "states of another chunk": ("before + chunk.state,", "before,"),
    "slots of another chunk": ("(mine.first_slot + block)", "block"),
    "the scale": ("REAL a = common *", "REAL a ="),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, plant, name):
    plant("lstm_update_adjoint.cu", *PLANTED[name])
    ours, expected = both(cupy, np.float64, KINDS[1])
    with pytest.raises(AssertionError):
        assert_close(ours, expected, np.float64)
