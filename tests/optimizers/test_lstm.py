"""LSTM and SLSTM: groups, chunks, threads, and the unroll that recomputes against the one that keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lstm_problem import problem

from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.optimizers import FEATURES, LSTM, SLSTM, Context, Inputs, Optimizer, make_optimizer
from l2lnp.optimizers.chunks import cut, join
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [
        ("conv", {"w": (4, 9), "b": (4,)}),
        ("", {}),
        ("conv", {"w": (3, 5)}),
        ("fully_connected", {"w": (7, 6), "b": (7,)}),
        ("conv", {"b": (1,)}),
    ]
)
P = LAYOUT.n_coordinates
ALL_FEATURES = tuple(FEATURES)


@given(
    st.sampled_from([LSTM, SLSTM]),
    st.sampled_from(["tanh", "linear"]),
    st.sampled_from(["layer", "kind"]),
    st.integers(1, 6),
    st.integers(5, 90),
    st.integers(0, 2**32 - 1),
)
def test_unroll_adjoint_agrees_with_step_by_step(kind, head, per, n_steps, chunk, seed):
    settings = {"schedule": "cosine", "step_unit": "weights"} if seed % 2 else {}
    optimizer = kind(LAYOUT, head=head, per=per, n_units=(4, 3), execution=Execution(chunk=chunk), **settings)
    arguments = problem(optimizer, n_steps, seed=seed)
    a_phi, a_state = optimizer.unroll_adjoint(*arguments)
    expected_phi, expected_state = Optimizer.unroll_adjoint(optimizer, *arguments)
    assert set(a_phi) == set(expected_phi)
    for key, value in a_phi.items():
        np.testing.assert_allclose(value, expected_phi[key], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(a_state["lstm"], expected_state["lstm"], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["lstm", "slstm"])
def test_threads_do_not_change_a_byte(name):
    layout = Layout.of_layers([("conv", {"w": (700,), "b": (8,)}), ("fully_connected", {"w": (1500,)})])
    results = []
    for threads in (1, 2, 3):
        optimizer = make_optimizer(name, layout, Execution(threads=threads, chunk=256))
        phi, state, steps, a_u, a_state = problem(optimizer, 3, np.float32)
        u, after = optimizer.update(phi, state, steps[0])
        a = optimizer.update_adjoint(phi, state, steps[0], a_u[0], a_state)
        a_phi, a_start = optimizer.unroll_adjoint(phi, state, steps, a_u, a_state)
        arrays = [u, after["lstm"], after["moments"], a.g, *a.phi.values(), *a_phi.values(), a_start["lstm"]]
        results.append([array.tobytes() for array in arrays])
    assert results[0] == results[1] == results[2]


def test_chunks_change_only_the_last_bits():
    results = []
    for chunk in (7, 30, 1000):
        optimizer = SLSTM(LAYOUT, features=ALL_FEATURES, execution=Execution(chunk=chunk))
        phi, _, steps, _, _ = problem(optimizer, 2)
        state = optimizer.init_state(np.zeros(P))
        for inputs in steps:
            u, state = optimizer.update(phi, state, inputs)
        results.append(np.vstack([u, optimizer.coordinatewise(state)]))
    np.testing.assert_allclose(results[0], results[2], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(results[1], results[2], rtol=1e-10, atol=1e-12)


def test_chunks_that_are_cut_for_long_unrolls_find_their_state():
    optimizer = LSTM(Layout.of_vector(1300), n_units=(2, 3), execution=Execution(chunk=512))
    arguments = problem(optimizer, 17)
    a_phi, a_state = optimizer.unroll_adjoint(*arguments)
    expected_phi, expected_state = Optimizer.unroll_adjoint(optimizer, *arguments)
    for key, value in a_phi.items():
        np.testing.assert_allclose(value, expected_phi[key], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(a_state["lstm"], expected_state["lstm"], rtol=1e-9, atol=1e-10)


def test_a_state_in_other_chunks_is_refused():
    phi, state, steps, a_u, a_state = problem(SLSTM(LAYOUT, execution=Execution(chunk=7)), 1)
    optimizer = SLSTM(LAYOUT, execution=Execution(chunk=8))
    for go_on in (
        lambda: optimizer.update(phi, state, steps[0]),
        lambda: optimizer.unroll_adjoint(phi, state, steps, a_u, a_state),
    ):
        with pytest.raises(InputError, match="laid out in chunks of 7 coordinates"):
            go_on()


def test_a_state_is_never_overwritten_while_anyone_has_it():
    optimizer = SLSTM(LAYOUT, execution=Execution(chunk=16))
    phi, state, steps, _, _ = problem(optimizer, 6)
    kept = [state]
    for inputs in steps:
        kept.append(optimizer.update(phi, kept[-1], inputs)[1])
    for before, inputs, after in zip(kept, steps, kept[1:], strict=False):
        np.testing.assert_array_equal(optimizer.update(phi, before, inputs)[1]["lstm"], after["lstm"])


@given(st.sampled_from(["layer", "kind"]), st.integers(1, 100), st.integers(1, 40), st.integers(1, 4))
def test_chunks_cover_every_coordinate_once_and_stay_within_a_group(per, size, multiple, lanes):
    chunks = cut(LAYOUT, per, size, multiple)
    assert [i for c in chunks for i in range(c.coordinates.start, c.coordinates.stop)] == list(range(P))
    spans = join(LAYOUT, chunks, 3, lanes)
    assert [chunk for span in spans for chunk in span.chunks] == chunks
    assert max(len(span.chunks) for span in spans) <= 3
    assert len(spans) % lanes == 0 or len(spans) == len(chunks)
    for group, span, block in chunks:
        assert span.stop - span.start <= size
        assert block == span
        owners = [t for t in LAYOUT.tensors if t.start < span.stop and t.stop > span.start]
        assert {str(t.layer) if per == "layer" else t.kind for t in owners} == {group}
    for span in spans:
        inside = [
            t for t in LAYOUT.tensors if t.start < span.coordinates.stop and t.stop > span.coordinates.start
        ]
        assert span.tensors.first == LAYOUT.tensors.index(inside[0])
        assert sum(span.tensors.sizes) == span.n == sum(chunk.n for chunk in span.chunks)


def test_each_group_has_an_lstm_of_its_own():
    assert SLSTM(LAYOUT, per="layer").groups == ("0", "2", "3", "4")
    by_kind = SLSTM(LAYOUT, per="kind")
    assert by_kind.groups == ("conv", "fully_connected")
    phi, state, steps, _, _ = problem(by_kind, 1)
    before, _ = by_kind.update(phi, state, steps[0])
    phi = {key: 2 * v if key.startswith("conv/") else v for key, v in phi.items()}
    changed = by_kind.update(phi, state, steps[0])[0] != before
    conv = np.concatenate([np.full(t.stop - t.start, t.kind == "conv") for t in LAYOUT.tensors])
    np.testing.assert_array_equal(changed, conv)


def test_initial_phi():
    optimizer = SLSTM(LAYOUT)
    phi = optimizer.init_phi(np.random.default_rng(0))
    assert {key: v.shape for key, v in phi.items()} == optimizer.phi_shapes()
    assert all(v.dtype == np.float32 for v in phi.values())
    assert phi["0/lstm1/w"].shape == (80, 4 + 20)
    np.testing.assert_array_equal(phi["3/lstm2/b"], np.repeat([0, 1, 0, 0], 20))  # gates i, f, o, n
    np.testing.assert_array_equal(phi["3/head/b"], [0])


def test_the_tanh_head_bounds_the_update():
    optimizer = SLSTM(LAYOUT, output_scale=0.3)
    phi, state, steps, _, _ = problem(optimizer, 1)
    phi = {key: 1e3 * v if "head" in key else v for key, v in phi.items()}
    u, _ = optimizer.update(phi, state, steps[0])
    np.testing.assert_allclose(abs(u), 0.3, rtol=1e-3)


@pytest.mark.parametrize("name", ["lstm", "slstm"])
def test_half_way_through_a_run_a_cosine_halves_the_update(name):
    layout, rng = Layout.of_vector(6), np.random.default_rng(0)
    theta, g, h = rng.normal(size=(3, 6))
    inputs = Inputs(1.0, g, h if name == "slstm" else None, theta, Context(step=50, n_steps=100))
    made = [make_optimizer(name, layout, schedule=schedule) for schedule in ("constant", "cosine")]
    phi = made[0].init_phi(np.random.default_rng(1), np.float64)
    whole, half = (optimizer.update(phi, optimizer.init_state(theta), inputs)[0] for optimizer in made)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-12)
    assert np.abs(whole).min() > 0


def test_arguments_are_left_as_they_are():
    optimizer = SLSTM(LAYOUT)
    phi, state, steps, a_u, a_state = problem(optimizer, 2)
    arrays = [*phi.values(), state["lstm"], state["moments"], a_state["lstm"], *a_u]
    for a in (*arrays, *(a for step in steps for a in (step.g, step.h))):
        a.flags.writeable = False
    optimizer.update(phi, state, steps[0])
    optimizer.update_adjoint(phi, state, steps[0], a_u[0], a_state)
    optimizer.unroll_adjoint(phi, state, steps, a_u, a_state)


def test_arrays_that_do_not_go_together_are_refused():
    lstm = LSTM(LAYOUT)
    phi, state, (step,), _, _ = problem(lstm, 1)
    theta = np.ones(step.g.size + 1)
    with pytest.raises(InputError, match=f"theta must be a vector of {step.g.size} parameters, not"):
        lstm.step(phi, state, step, theta)
    with pytest.raises(InputError, match="g and theta must be of one dtype, not float64 and float32"):
        lstm.step(phi, state, step, theta[1:].astype(np.float32))
    with pytest.raises(InputError, match="g must be a vector"):
        lstm.update(phi, state, step._replace(g=theta))


def test_moving_averages_decay_as_the_setting_says():
    lstm = LSTM(LAYOUT, features=("rnnprop",), decay=0.25)
    phi, _, (step,), _, _ = problem(lstm, 1)
    _, state = lstm.update(phi, lstm.init_state(step.g), step)
    rows = {tuple(row) for row in state["moments"]}
    assert rows == {tuple(0.75 * step.g), tuple(0.75 * step.g**2)}


def test_the_lstm_needs_no_h_and_the_slstm_says_that_it_does():
    lstm, slstm = LSTM(LAYOUT), SLSTM(LAYOUT)
    phi, state, (step,), (a_u,), a_state = problem(lstm, 1)
    without = step._replace(h=None)
    np.testing.assert_array_equal(lstm.update(phi, state, without)[0], lstm.update(phi, state, step)[0])
    assert lstm.update_adjoint(phi, state, without, a_u, a_state).h is None
    phi, state, _, _, _ = problem(slstm, 1)
    with pytest.raises(InputError, match="slstm needs second derivatives"):
        slstm.update(phi, state, without)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lstm", {"features": ("log_noise",)}, "use the optimizer 'slstm'"),
        ("slstm", {"features": ("rnnprob",)}, "did you mean 'rnnprop'"),
        ("slstm", {"features": ()}, "name one or more features"),
        ("slstm", {"features": ("rnnprop", "rnnprop")}, "each once"),
        ("slstm", {"head": "tan"}, "did you mean 'tanh'"),
        ("slstm", {"per": "tensor"}, "unknown grouping of layers 'tensor'"),
        ("slstm", {"n_units": (20,)}, "two hidden layers"),
        ("slstm", {"n_units": (2**62, 2)}, "two hidden layers of 1 to 65,536 units each, not"),
        ("slstm", {"output_scale": 0.0}, "output scale and the unit.s limit must be positive"),
        ("slstm", {"unit_limit": 0.0}, "not 0.1, 0.0 and 0.95"),
        ("slstm", {"full_width": -1}, "0 or more inputs, not -1"),
        ("slstm", {"decay": 1.0}, "decay in"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(name, settings, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(name, LAYOUT, **settings)
