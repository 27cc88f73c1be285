"""Optimizers and features use nothing but the array API standard, and stay on the device of their arrays.

What is left out is not standard: sums over tensors, products into given arrays, the adjoints (docs/gpu.md).
"""

import array_api_strict as strict
import numpy as np
import pytest

from l2lnp.backend import array_module
from l2lnp.optimizers import OPTIMIZERS, make_optimizer
from l2lnp.optimizers.base import Context, Inputs
from l2lnp.optimizers.features import FEATURES, Feature
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.optimizers.signals import look
from l2lnp.tree import Layout

HOST, DEVICE = strict.Device("CPU_DEVICE"), strict.Device("device1")
LAYOUT = Layout.of_layers([("fully_connected", {"w": (3, 4), "b": (3,)})])
N = LAYOUT.n_coordinates
CONTEXT = Context(5, 40, 7, 70)
HAND_DESIGNED = [name for name, optimizer in OPTIMIZERS.items() if not optimizer.learned]
ELEMENTWISE = [name for name, feature in FEATURES.items() if feature.statistics is Feature.statistics]


def there(tree, device=DEVICE):
    """Return ``tree`` with its arrays on a device."""
    if isinstance(tree, dict):
        return {key: there(value, device) for key, value in tree.items()}
    if isinstance(tree, Inputs):
        return Inputs(*(there(value, device) for value in tree[:-1]), tree.context)
    return strict.asarray(tree, device=device) if isinstance(tree, np.ndarray) else tree


def assert_equal(ours, expected):
    """Compare with NumPy's numbers, bit by bit; everything must lie on the device."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_equal(ours[key], value)
    elif isinstance(expected, np.ndarray):
        assert ours.device == DEVICE
        np.testing.assert_array_equal(np.from_dlpack(ours.to_device(HOST)), expected)
    else:
        assert ours == expected


def inputs():
    g, h, theta = np.random.default_rng(0).normal(size=(3, N))
    return Inputs(1.3, g, h, theta, CONTEXT)


def stepped(name, tree):
    """Return theta and the state after two steps; ``tree`` moves arrays."""
    optimizer = make_optimizer(name, LAYOUT, basis="coordinates", schedule="cosine", weight_decay=0.1)
    phi = optimizer.init_phi(np.random.default_rng(0), np.float64)
    phi = {key: np.asarray(value) for key, value in phi.items()}
    given, phi = tree(inputs()), tree(phi)
    theta, state = given.theta, optimizer.init_state(given.theta)
    for _ in range(2):
        theta, state = optimizer.step(phi, state, given, theta)
    return {"theta": theta, **state}


@pytest.mark.parametrize("name", HAND_DESIGNED)
def test_steps(name):
    assert_equal(stepped(name, there), stepped(name, lambda tree: tree))


def rows(name, tree):
    preprocessing = Preprocessing.named([name], 0.95)
    moments = abs(np.random.default_rng(1).normal(size=(len(preprocessing.averages), N)))
    given = tree(inputs())
    after = preprocessing.advance(tree(moments), given)
    seen = look(preprocessing.averages, after, 6, given)
    return {"moments": after, **dict(enumerate(preprocessing.features[0].rows(seen, None)))}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_features(name):
    assert_equal(rows(name, there), rows(name, lambda tree: tree))


def test_two_devices_do_not_mix():
    optimizer = make_optimizer("momentum", LAYOUT)
    phi = there({"learning_rate": np.asarray(0.1)})
    g = inputs().g
    with pytest.raises((ValueError, RuntimeError)):
        optimizer.update(phi, optimizer.init_state(there(g, HOST)), there(inputs()))
    features = Preprocessing.named(["log_noise"], 0.95)
    moments = there(np.ones((len(features.averages), N)), HOST)
    with pytest.raises((ValueError, RuntimeError)):
        features.advance(moments, there(inputs()))


def test_libraries_do_not_mix():
    assert array_module(there(np.ones(2))) is strict
    with pytest.raises(TypeError, match="one library"):
        array_module(there(np.ones(2)), np.ones(2))
    with pytest.raises(RuntimeError, match="to a NumPy array"):
        make_optimizer("momentum", LAYOUT).update(
            {"learning_rate": np.asarray(0.1)}, {"m": np.ones(N)}, there(inputs())
        )


def test_most_of_what_there_is_is_checked():
    assert len(HAND_DESIGNED) >= 6
    assert {"rnnprop", "momenta", "log_noise", "significance", "clock"} <= set(ELEMENTWISE)
