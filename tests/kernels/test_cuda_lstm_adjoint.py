"""The reverse of the coordinatewise LSTM's steps in CUDA, run on the CPU, against its twin in float64."""

import numpy as np
import pytest
from moving import moved

from l2lnp.kernels import lstm, lstm_adjoint, twin
from l2lnp.kernels.cuda import lstm_adjoint as cuda_adjoint
from l2lnp.kernels.cuda.lstm_adjoint import ReverseTiling
from l2lnp.workspace import Workspace

PAPER = (20, 20)
SMALL = lstm.Sizes(3, (4, 5))
KINDS = [  # features, units, coordinates, steps
    *((1, (2, 2), n, 1) for n in (1, 3, 127)),
    *((11, (4, 6), n, 3) for n in (1, 3, 127, 129)),
    (4, (6, 4), 1000, 2),
    (4, PAPER, 129, 2),
    (11, PAPER, 65, 2),
]


def problem(sizes, n, n_steps, dtype, seed=0):
    """Draw weights, features (T, F, n), a state, and cotangents of outputs and of the last state."""
    rng = np.random.default_rng(seed)
    weights = {path: (0.5 * rng.normal(size=shape)).astype(dtype) for path, shape in sizes.shapes().items()}
    features = rng.normal(size=(n_steps, sizes.n_features, n)).astype(dtype)
    state, a_state = rng.normal(size=(2, 2 * sizes.n_hidden, n)).astype(dtype)
    return weights, features, state, list(rng.normal(size=(n_steps, n)).astype(dtype)), a_state


def reversed_steps(sizes, weights, features, state, a_outputs, a_state, asks_for_features=True):
    """Return the cotangents of weights, of the state before the first step, and of the features."""
    kernels, adjoint, space = twin(lstm, state), twin(lstm_adjoint, state), Workspace()
    tape = kernels.blank_tape(sizes, len(features), state.shape[1], state, space)
    folded, a_before = kernels.fold(weights), a_state.copy()
    kernels.begin(sizes, tape, state)
    for t, rows in enumerate(features):
        tape.features(t)[...] = rows
        kernels.advance(folded, tape, t)
    a_features = features.copy() if asks_for_features else None
    a = adjoint.reverse(sizes, folded, tape, a_outputs, a_before, space, a_features)
    return kernels.unfold(a) | {"a_state": a_before} | ({"a_x": a_features} if asks_for_features else {})


def assert_as_the_twin(cupy, sizes, n, n_steps, dtype):
    arguments = problem(sizes, n, n_steps, dtype)
    ours = reversed_steps(sizes, *moved(cupy, arguments))
    weights, features, state, a_outputs, a_state = arguments
    wide = {key: w.astype(np.float64) for key, w in weights.items()}
    others = (a.astype(np.float64) for a in (features, state, np.array(a_outputs), a_state))
    tolerance = 1e-11 if dtype == np.float64 else 3e-5
    for name, expected in reversed_steps(sizes, wide, *others).items():
        mine = ours[name].get()
        assert mine.dtype == dtype
        assert mine.shape == expected.shape
        assert np.abs(mine - expected).max() <= tolerance * max(1.0, np.abs(expected).max()), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_features", "units", "n", "n_steps"), KINDS)
def test_sizes_and_numbers(cupy, n_features, units, n, n_steps, dtype):
    assert_as_the_twin(cupy, lstm.Sizes(n_features, units), n, n_steps, dtype)


TILINGS = [
    ReverseTiling(4, 64, shares_weights=False, shares_tile=True),
    ReverseTiling(16, 32, shares_weights=True, shares_tile=False),
    ReverseTiling(8, 96, shares_weights=False, shares_tile=False),
    ReverseTiling(64, 256, shares_weights=True, shares_tile=True),
]


@pytest.mark.parametrize("most_blocks", [1, 3, 512])
@pytest.mark.parametrize("tiling", TILINGS, ids=str)
def test_however_a_step_is_dealt_out(cupy, monkeypatch, tiling, most_blocks):
    monkeypatch.setattr(cuda_adjoint, "tiling_for", lambda *of: tiling)
    monkeypatch.setattr(cuda_adjoint, "_MOST_BLOCKS", most_blocks)
    assert_as_the_twin(cupy, SMALL, 70, 2, np.float64)


def test_what_a_tile_takes_chooses_how_a_step_is_dealt_out():
    def chosen(*sizes, dtype=np.float32):
        return cuda_adjoint.tiling_for(lstm.Sizes(*sizes), np.dtype(dtype))

    assert chosen(11, PAPER) == ReverseTiling(64, 160, shares_weights=True, shares_tile=True, blocks=4)
    assert chosen(11, PAPER, dtype=np.float64).tile < 64
    assert chosen(4, (60, 60)).shares_tile
    assert not chosen(4, (60, 60)).shares_weights
    assert not chosen(4, (1000, 500)).shares_tile


@pytest.mark.parametrize("n", [1, 70])
def test_a_reverse_that_asks_for_no_features(cupy, n):
    arguments = moved(cupy, problem(SMALL, n, 3, np.float32))
    asked = reversed_steps(SMALL, *arguments)
    for name, a in reversed_steps(SMALL, *arguments, asks_for_features=False).items():
        assert a.get().tobytes() == asked[name].get().tobytes()


def test_other_coordinates_change_nothing_in_one(cupy):
    weights, features, state, a_outputs, a_state = moved(cupy, problem(SMALL, 70, 2, np.float32))
    features[:, :, 69] = a_state[:, 69] = np.nan
    spoilt = reversed_steps(SMALL, weights, features, state, a_outputs, a_state)
    assert np.isfinite(spoilt["a_state"].get()[:, :69]).all()
    assert np.isnan(spoilt["lstm1/w"].get()).all()


PLANTED = {
    "slope of tanh": ("1 - g.n * g.n", "1 - g.n"),
    "slope of a sigmoid": ("s * g.o * (1 - g.o)", "s * g.o"),
    "cell not carried": ("a_cell *= g.f;", ""),
    "second layer's inputs": ("k < S1 ? of_hidden + a : a;", "a;"),
    "what the output says": ("w3[j] * tile.a_output[c]", "w3[j]"),
    "coordinates left out": (
        "c < TILE; c += 4) {\n            Four x[4];",
        "c < 4; c += 4) {\n            Four x[4];",
    ),
    "the second of two units": ("if (u && j == j0) break;", "if (u) break;"),
    "another input": ("if (i && k[i] == k0) break;", "if (i == 3) break;"),
    "no bias": ("tile.stage_ones(tile.x, HIDDEN);", "tile.stage_ones(tile.x, 0);"),
    "another step forgotten": ("is_new ? x : total + x", "x"),
    "tiles not added": ("is_new = false;", ""),
    "blocks left out": ("slot += SUMS_ROWS", "slot += 2 * SUMS_ROWS"),
    "rows left out": ("r < SUMS_ROWS; ++r", "r < 3; ++r"),
    "hidden states of the step before": (
        "tile.stage(tile.x, 0, S1, states.after,",
        "tile.stage(tile.x, 0, S1, states.before,",
    ),
    "all cotangents to one feature": ("take(k, first + c, a);", "take(0, first + c, a);"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, monkeypatch, plant, name):
    tiling = ReverseTiling(8, 32, shares_weights=True, shares_tile=True)
    monkeypatch.setattr(cuda_adjoint, "tiling_for", lambda *of: tiling)
    monkeypatch.setattr(cuda_adjoint, "_MOST_BLOCKS", 10)
    plant("lstm_adjoint.cu", *PLANTED[name])
    with pytest.raises(AssertionError):
        assert_as_the_twin(cupy, SMALL, 140, 2, np.float64)
