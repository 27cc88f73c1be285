"""Every optimizer's update_adjoint against central differences, in phi, state, loss, g and h."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.checking import slope
from l2lnp.execution import Execution
from l2lnp.optimizers import FEATURES, OPTIMIZERS, Context, Inputs, make_optimizer
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [("conv", {"w": (2, 3), "b": (2,)}), ("", {}), ("fully_connected", {"w": (3, 2)}), ("conv", {"b": (1,)})]
)
P = LAYOUT.n_coordinates
SMALL = {"n_units": (3, 2)}
CONTEXT = Context(step=7, n_steps=20, batch_size=16)


def projection(optimizer, a_u, a_state, phi, state, inputs):
    """A scalar of everything that an update gives."""
    u, after = optimizer.update(phi, state, inputs)
    return a_u @ u + sum(np.vdot(a, after[key]) for key, a in a_state.items())


def draw(optimizer, rng, t, counts=None):
    """phi, a state after ``t`` steps, inputs, and cotangents; v and its like are positive."""
    phi = {key: 0.5 * rng.normal(size=value.shape) for key, value in optimizer.init_phi(rng).items()}
    state = {
        key: value if isinstance(value, int) else rng.uniform(0.5, 1.5, size=value.shape)
        for key, value in optimizer.init_state(np.zeros(P)).items()
    }
    if "t" in state:
        state["t"] = t
    state |= counts or {}
    inputs = Inputs(rng.uniform(0.5, 2.0), *rng.normal(size=(3, P)), CONTEXT)
    a_state = {
        key: rng.normal(size=value.shape) for key, value in state.items() if not isinstance(value, int)
    }
    return phi, state, inputs, rng.normal(size=P), a_state


def check(optimizer, seed, t, counts=None):
    rng = np.random.default_rng(seed)
    phi, state, inputs, a_u, a_state = draw(optimizer, rng, t, counts)
    a = optimizer.update_adjoint(phi, state, inputs, a_u, a_state)

    def close(analytic, v, function):
        d = rng.normal(size=np.shape(v))
        np.testing.assert_allclose(
            np.vdot(analytic, d), slope(function, v, d, step=1e-6), rtol=1e-6, atol=1e-7
        )

    def of(phi=phi, state=state, inputs=inputs):
        return projection(optimizer, a_u, a_state, phi, state, inputs)

    for key, value in phi.items():
        close(a.phi[key], value, lambda v, key=key: of(phi=phi | {key: v}))
    for key in a_state:
        analytic = a.state.get(key, np.zeros_like(state[key]))
        close(analytic, state[key], lambda v, key=key: of(state=state | {key: v}))
    for name, value in inputs._replace(context=None)._asdict().items():
        if value is None:
            continue
        found = getattr(a, name)
        analytic = np.zeros_like(value) if found is None else found
        close(analytic, value, lambda v, name=name: of(inputs=inputs._replace(**{name: v})))
    assert set(a.phi) == set(phi)
    assert all(a.phi[key].shape == value.shape for key, value in phi.items())


@given(
    st.sampled_from([name for name, optimizer in OPTIMIZERS.items() if not optimizer.learned]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.sampled_from(["constant", "cosine"]),
)
def test_hand_designed(name, seed, t, schedule):
    check(make_optimizer(name, LAYOUT, schedule=schedule), seed, t)


@given(
    st.sampled_from(["lstm", "slstm"]),
    st.sampled_from(["tanh", "linear"]),
    st.sampled_from(["layer", "kind"]),
    st.sampled_from(["fixed", "weights"]),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
)
def test_learned(name, head, per, unit, full_width, chunk, seed, t):
    schedule = "cosine" if seed % 2 else "constant"
    settings = {"head": head, "per": per, "step_unit": unit, "full_width": full_width, "schedule": schedule}
    optimizer = make_optimizer(name, LAYOUT, execution=Execution(chunk=chunk), **settings, **SMALL)
    check(optimizer, seed, t)


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("name", ["sou", "slstm"])
def test_h_that_is_held(name, is_fresh):
    own = SMALL if name == "slstm" else {}
    optimizer = make_optimizer(name, LAYOUT, curvature_every=2, **own)
    check(optimizer, 5, 3, {"curvature/step": 4 if is_fresh else 3})


@given(
    st.sets(st.sampled_from(sorted(FEATURES)), min_size=1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
)
def test_any_combination_of_features(names, seed, t):
    check(make_optimizer("slstm", LAYOUT, features=tuple(sorted(names)), **SMALL), seed, t)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_missing_cotangent_of_the_state_is_zero(name):
    optimizer = make_optimizer(name, LAYOUT)
    phi, state, inputs, a_u, a_state = draw(optimizer, np.random.default_rng(0), 1)
    zeros = {key: np.zeros_like(a) for key, a in a_state.items()}
    ours = optimizer.update_adjoint(phi, state, inputs, a_u, {})
    theirs = optimizer.update_adjoint(phi, state, inputs, a_u, zeros)
    np.testing.assert_array_equal(ours.g, theirs.g)
    for key in a_state:
        np.testing.assert_array_equal(ours.state.get(key, 0.0), theirs.state.get(key, 0.0))
