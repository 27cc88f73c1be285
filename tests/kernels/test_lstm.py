"""The folded, blocked LSTM against one written out gate by gate, coordinate by coordinate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.kernels import lstm
from l2lnp.workspace import Workspace


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(w, b, x, hidden, c):
    i, f, o, n = np.split(w @ np.concatenate([x, hidden]) + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(n)
    return sigmoid(o) * np.tanh(c), c


def reference(weights, sizes, features, state):
    """Run one step for every coordinate by itself."""
    outputs, after = [], []
    for x, column in zip(features.T, state.T, strict=True):
        hidden1, hidden2, c1, c2 = lstm.parts(sizes, column[:, None])
        hidden1, c1 = cell(weights["lstm1/w"], weights["lstm1/b"], x, hidden1[:, 0], c1[:, 0])
        hidden2, c2 = cell(weights["lstm2/w"], weights["lstm2/b"], hidden1, hidden2[:, 0], c2[:, 0])
        outputs.append(weights["head/w"] @ hidden2 + weights["head/b"])
        after.append(np.concatenate([hidden1, hidden2, c1, c2]))
    return np.concatenate(outputs), np.stack(after, axis=1)


def problem(rng, sizes, n, dtype=np.float64):
    weights = {path: rng.normal(size=shape).astype(dtype) for path, shape in sizes.shapes().items()}
    features = rng.normal(size=(sizes.n_features, n)).astype(dtype)
    return weights, features, rng.normal(size=(2 * sizes.n_hidden, n)).astype(dtype)


def run(weights, sizes, features, state, space):
    tape, after = lstm.blank_tape(sizes, 1, state.shape[1], state, space), np.empty_like(state)
    lstm.begin(sizes, tape, state, after)
    tape.features(0)[...] = features
    output = lstm.advance(lstm.fold(weights), tape, 0)
    lstm.end(sizes, tape, after)
    return output, after


@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_a_step_is_the_textbook_lstm(n_features, n_units, n, seed):
    sizes = lstm.Sizes(n_features, n_units)
    weights, features, state = problem(np.random.default_rng(seed), sizes, n)
    for ours, theirs in zip(
        run(weights, sizes, features, state, Workspace()),
        reference(weights, sizes, features, state),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [lstm.BLOCK - 1, lstm.BLOCK, 2 * lstm.BLOCK + 3])
def test_blocks_and_their_rest(n):
    sizes = lstm.Sizes(2, (20, 20))
    weights, features, state = problem(np.random.default_rng(0), sizes, n, np.float32)
    for ours, theirs in zip(
        run(weights, sizes, features, state, Workspace()),
        reference(weights, sizes, features, state),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_leftovers_in_the_arena_do_not_matter():
    sizes, space = lstm.Sizes(2, (3, 2)), Workspace()
    rng = np.random.default_rng(0)
    weights, features, state = problem(rng, sizes, 7)
    expected = run(weights, sizes, features, state, space)
    run(*(sizes if part is sizes else part for part in (weights, sizes, 5 * features, 5 * state)), space)
    for ours, theirs in zip(run(weights, sizes, features, state, space), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_unfold_is_the_adjoint_of_fold():
    rng = np.random.default_rng(0)
    weights, _, _ = problem(rng, lstm.Sizes(2, (3, 2)), 1)
    folded = lstm.fold(weights)
    a = lstm.Weights(*(rng.normal(size=w.shape) for w in folded))
    inner = sum(np.vdot(x, y) for x, y in zip(a, folded, strict=True))
    unfolded = lstm.unfold(a)
    assert inner == pytest.approx(sum(np.vdot(unfolded[key], weights[key]) for key in weights), rel=1e-12)
