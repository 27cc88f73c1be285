"""The hand-designed optimizers: their first steps by hand, and how fast they go downhill."""

import numpy as np
import pytest

from l2lnp.errors import InputError
from l2lnp.optimizers import OPTIMIZERS, Inputs, make_optimizer
from l2lnp.optimizers.base import sqrt_adjoint
from l2lnp.tasks.quadratic import Quadratic
from l2lnp.tree import Layout

LAYOUT = Layout.of_vector(2)
G1, G2 = np.array([1.0, -2.0]), np.array([-0.5, 3.0])
H = np.array([4.0, -0.5])
HAND_DESIGNED = [name for name, optimizer in OPTIMIZERS.items() if not optimizer.learned]


def two_updates(name, **settings):
    optimizer = make_optimizer(name, LAYOUT, **settings)
    phi = optimizer.init_phi(np.random.default_rng(0), np.float64)
    u1, state = optimizer.update(phi, optimizer.init_state(np.zeros(2)), Inputs(1.0, G1, H))
    u2, state = optimizer.update(phi, state, Inputs(1.0, G2, H))
    return u1, u2


def test_sgd():
    np.testing.assert_allclose(two_updates("sgd", learning_rate=0.1), (-0.1 * G1, -0.1 * G2))


def test_momentum():
    expected = -0.1 * G1, -0.1 * (0.8 * G1 + G2)
    np.testing.assert_allclose(two_updates("momentum", learning_rate=0.1, momentum=0.8), expected)


def test_rmsprop():
    v1 = 0.2 * G1**2
    v2 = 0.8 * v1 + 0.2 * G2**2
    expected = -0.1 * G1 / (np.sqrt(v1) + 0.01), -0.1 * G2 / (np.sqrt(v2) + 0.01)
    settings = {"learning_rate": 0.1, "decay": 0.8, "epsilon": 0.01}
    np.testing.assert_allclose(two_updates("rmsprop", **settings), expected)


def test_adam():
    m2 = (0.8 * 0.2 * G1 + 0.2 * G2) / (1 - 0.8**2)
    v2 = (0.9 * 0.1 * G1**2 + 0.1 * G2**2) / (1 - 0.9**2)
    expected = -0.1 * G1 / (abs(G1) + 0.01), -0.1 * m2 / (np.sqrt(v2) + 0.01)
    settings = {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.01}
    np.testing.assert_allclose(two_updates("adam", **settings), expected)


def test_the_adjoint_of_a_root_is_zero_where_it_is():
    np.testing.assert_array_equal(sqrt_adjoint(np.array([0.0, 2.0]), np.array([3.0, 8.0])), [0.0, 2.0])


def test_sou_goes_downhill_where_h_is_negative():
    expected = -0.1 * G1 / np.array([4.2, 0.7]), -0.1 * G2 / np.array([4.2, 0.7])
    np.testing.assert_allclose(two_updates("sou", learning_rate=0.1, epsilon=0.2), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", HAND_DESIGNED)
def test_a_quadratic_is_brought_down(name, dtype):
    task = Quadratic.random(np.random.default_rng(1), 5, n_rows=20)
    task = Quadratic(task.w.astype(dtype), task.y.astype(dtype))
    optimizer = make_optimizer(name, task.layout, learning_rate=0.05)
    phi = optimizer.init_phi(np.random.default_rng(0), dtype)
    theta = np.full(5, 2.0, dtype)
    state = optimizer.init_state(theta)
    least = task.evaluate(np.linalg.lstsq(task.w, task.y)[0]).loss
    before = task.evaluate(theta).loss - least
    for _ in range(300):
        u, state = optimizer.update(phi, state, Inputs(*task.evaluate(theta)))
        assert u.dtype == dtype
        theta = theta + u
    assert task.evaluate(theta).loss - least < 0.02 * before


@pytest.mark.parametrize("name", HAND_DESIGNED)
def test_arguments_are_left_as_they_are(name):
    optimizer = make_optimizer(name, LAYOUT)
    phi = optimizer.init_phi(np.random.default_rng(0), np.float64)
    state = optimizer.init_state(np.zeros(2))
    g, h = G1.copy(), H.copy()
    for a in (g, h, phi["learning_rate"], *(a for a in state.values() if isinstance(a, np.ndarray))):
        a.flags.writeable = False
    _, after = optimizer.update(phi, state, Inputs(1.0, g, h))
    optimizer.update(phi, after, Inputs(1.0, g, h))


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("sgd", "learning_rate", -1.0, "must be positive"),
        *(
            (name, "epsilon", value, "must be positive")
            for name in ("adam", "rmsprop")
            for value in (-1, 0.0)
        ),
        ("sou", "epsilon", -5, "must be positive"),
        ("momentum", "momentum", 1.5, "must be at least 0 and less than 1"),
        ("rmsprop", "decay", 1.5, "must be at least 0 and less than 1"),
        ("adam", "beta_1", 1, "must be at least 0 and less than 1"),
        ("soap", "beta_2", -0.1, "must be at least 0 and less than 1"),
        ("adam", "beta_2", "0.9", "must be like 0.999"),
        ("sou", "epsilon", float("inf"), "must be like 0.1"),
    ],
)
def test_impossible_values_are_refused_by_name(name, setting, value, message):
    with pytest.raises(InputError, match=f"{name}: {setting} {message}.*, not {value!r}"):
        make_optimizer(name, LAYOUT, **{setting: value})


def test_bad_settings_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="did you mean 'adam'"):
        make_optimizer("adan", LAYOUT)
    with pytest.raises(InputError, match="did you mean 'beta_1'"):
        make_optimizer("adam", LAYOUT, beta1=0.5)
    with pytest.raises(InputError, match="sou needs second derivatives"):
        make_optimizer("sou", LAYOUT).update({"learning_rate": np.array(1.0)}, {}, Inputs(1.0, G1, None))
