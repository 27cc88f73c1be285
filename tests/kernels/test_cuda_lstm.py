"""The CUDA kernels of the coordinatewise LSTM, run on the CPU, against their twins on NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import moved

from l2lnp.kernels import lstm, lstm_adjoint, twin
from l2lnp.kernels.cuda import lstm as cuda_lstm
from l2lnp.workspace import Workspace

FEW = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = lstm.Sizes(3, (4, 5))
N_STEPS = 3


def problem(sizes, n, dtype, seed=0):
    """Draw weights, features (T, F, n), a state, and cotangents of outputs and of the last state."""
    rng = np.random.default_rng(seed)
    weights = {path: (0.5 * rng.normal(size=shape)).astype(dtype) for path, shape in sizes.shapes().items()}
    features = rng.normal(size=(N_STEPS, sizes.n_features, n)).astype(dtype)
    state, a_state = rng.normal(size=(2, 2 * sizes.n_hidden, n)).astype(dtype)
    return weights, features, state, list(rng.normal(size=(N_STEPS, n)).astype(dtype)), a_state


def run(sizes, weights, features, state, a_outputs, a_state, empty_like):
    """Return everything that T steps and their reverse give; states lie in rows longer than they."""
    kernels, adjoint, space = twin(lstm, state), twin(lstm_adjoint, state), Workspace()
    n = state.shape[1]
    tape = kernels.blank_tape(sizes, len(features), n, state, space)
    after, a_features, a_before = empty_like(state), empty_like(features), empty_like(state)
    a_before[...] = a_state
    folded = kernels.fold(weights)
    kernels.begin(sizes, tape, state, after)
    outputs = []
    for t, rows in enumerate(features):
        tape.features(t)[...] = rows
        outputs.append(kernels.advance(folded, tape, t))
    kernels.end(sizes, tape, after)
    a = adjoint.reverse(sizes, folded, tape, a_outputs, a_before, space, a_features)
    return {
        "outputs": outputs,
        "after": after,
        "a": kernels.unfold(a),
        "a_state": a_before,
        "a_x": a_features,
    }


def both(cupy, sizes, n, dtype, seed=0):
    """Return the results of the kernels, as NumPy arrays, and those of their twins in float64."""
    arguments = problem(sizes, n, dtype, seed)
    wide = [_as(part, np.float64) for part in arguments]
    ours = run(sizes, *moved(cupy, arguments), lambda a: cupy.empty((*a.shape[:-1], n + 7), a.dtype)[..., :n])
    return ours, run(sizes, *wide, np.empty_like)


def _as(tree, dtype):
    if isinstance(tree, dict):
        return {key: value.astype(dtype) for key, value in tree.items()}
    return [v.astype(dtype) for v in tree] if isinstance(tree, list) else tree.astype(dtype)


def assert_close(ours, expected, dtype):
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_close(ours[name], value, dtype)
            continue
        theirs = np.stack(value) if isinstance(value, list) else value
        mine = np.stack([v.get() for v in ours[name]]) if isinstance(value, list) else ours[name].get()
        assert mine.shape == theirs.shape
        assert mine.dtype == dtype
        assert np.abs(mine - theirs).max() <= tolerance * max(1.0, np.abs(theirs).max()), name


@FEW
@given(st.integers(1, 300), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_steps_and_their_reverse(cupy, n, dtype, seed):
    assert_close(*both(cupy, SMALL, n, dtype, seed), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sizes_of_the_paper(cupy, dtype):
    assert_close(*both(cupy, lstm.Sizes(4, (20, 20)), 150, dtype), dtype)


TILINGS = [(1, 1, 64), (2, 1, 128), (4, 1, 64), (1, 4, 128), (2, 8, 64), (1, 4, 256)]


@pytest.mark.parametrize("n", [1, 128, 129, 400])
@pytest.mark.parametrize("tiling", TILINGS, ids=str)
def test_however_a_step_is_dealt_out(cupy, monkeypatch, tiling, n):
    tiling = cuda_lstm.Tiling(*tiling)
    monkeypatch.setattr(cuda_lstm, "tiling_for", lambda *of: tiling)
    assert_close(*both(cupy, SMALL, n, np.float32), np.float32)


@pytest.mark.parametrize("n", [1, 17, 128, 400])
@pytest.mark.parametrize("sizes", [(3, (4, 8)), (11, (20, 20)), (4, (20, 12)), (16, (8, 4))], ids=str)
@pytest.mark.parametrize("tiling", [(1, 1, 64, 1), (2, 1, 128, 1), (2, 3, 32, 1)], ids=str)
def test_by_tensor_cores(cupy, monkeypatch, tiling, sizes, n):
    tiling = cuda_lstm.TensorTiling(*tiling)
    monkeypatch.setattr(cuda_lstm, "tiling_for", lambda *of: tiling)
    assert_close(*both(cupy, lstm.Sizes(*sizes), n, np.float32), np.float32)


def test_sizes_and_numbers_choose_how_a_step_is_dealt_out(cupy, monkeypatch):
    def chosen(n=1000, dtype=np.float32, sizes=None):
        return cuda_lstm.tiling_for(cupy, sizes or lstm.Sizes(4, (20, 20)), n, np.dtype(dtype))

    assert isinstance(chosen(), cuda_lstm.Tiling)  # Turing has no tensor cores for numbers of 11 bits
    monkeypatch.setattr(cuda_lstm, "_has_tensor_cores", lambda xp: True)
    assert isinstance(chosen(), cuda_lstm.TensorTiling)
    assert chosen().tile < chosen(1 << 20).tile
    assert chosen(dtype=np.float64).parts > 1
    assert chosen(1 << 20, sizes=SMALL).columns > 1  # 5 units are not for four lanes
    assert isinstance(chosen(sizes=lstm.Sizes(4, (40, 40))), cuda_lstm.Tiling)
    assert cuda_lstm.Tiling(2, 1, 128).defines()["BOUNDS"] == 128
    assert cuda_lstm.Tiling(2, 1, 128, 3).defines()["BOUNDS"] == "128, 3"


def test_weights_that_do_not_fit_in_shared_memory(cupy, monkeypatch):
    monkeypatch.setattr(cuda_lstm, "_MOST_SHARED_BYTES", 0)
    assert_close(*both(cupy, SMALL, 30, np.float64), np.float64)


def test_a_reverse_that_asks_for_no_features(cupy):
    weights, features, state, a_outputs, a_state = moved(cupy, problem(SMALL, 9, np.float64))
    space = Workspace()
    tape = cuda_lstm.blank_tape(SMALL, N_STEPS, 9, state, space)
    cuda_lstm.begin(SMALL, tape, state)
    folded = cuda_lstm.fold(weights)
    for t, rows in enumerate(features):
        tape.features(t)[...] = rows
        cuda_lstm.advance(folded, tape, t)
    reverse = twin(lstm_adjoint, state).reverse
    with_features, without = (
        reverse(SMALL, folded, tape, a_outputs, a_state.copy(), space, a)
        for a in (cupy.empty(features.shape), None)
    )
    assert all(np.array_equal(x.get(), y.get()) for x, y in zip(with_features, without, strict=True))


def test_wrong_arguments_are_refused(cupy):
    weights, _, state, _, _ = moved(cupy, problem(SMALL, 9, np.float32))
    tape = cuda_lstm.blank_tape(SMALL, 1, 9, state, Workspace())
    folded = cuda_lstm.fold(weights)
    cuda_lstm.begin(SMALL, tape, state[:-1])
    with pytest.raises(ValueError, match="before must be"):
        cuda_lstm.advance(folded, tape, 0)
    cuda_lstm.begin(SMALL, tape, state.astype(np.float64))
    with pytest.raises(ValueError, match="float64"):
        cuda_lstm.advance(folded, tape, 0)
    cuda_lstm.begin(SMALL, tape, cupy.ascontiguousarray(state.T).T)
    with pytest.raises(ValueError, match="contiguous"):
        cuda_lstm.advance(folded, tape, 0)


PLANTED = {
    "forget gate on the cell of the next unit": ("a[v].f * c[v]", "a[v].f * next[v]"),
    "tanh of another": ("1 - 2 * inverse(1 + power_of_2(2 * LOG2_E", "1 - 2 * inverse(1 + power_of_2(LOG2_E"),
    "gates of another": ("const int next = k < K ? S * K : S;", "const int next = S;"),
    "bias forgotten": ("a[v] = bias;", "a[v] = {};"),
    "part forgotten": ("p < PARTS; ++p", "p < PARTS - 1; ++p"),
}


OF_TENSOR = {
    "low parts forgotten": ("multiply_add(a[i][tile], of_low, w_high.first, w_high.second);", ""),
    "low parts of weights forgotten": ("multiply_add(a[i][tile], of_high, w_low.first, w_low.second);", ""),
    "hidden states of the units beside": ("X + k - 4 * OF_X", "X + (k - 4 * OF_X) / 2"),
    "gates in another order": ("lane / 4 % 2 + 2 * tile", "lane / 4 % 2 * 2 + tile"),
    "one exponential for all": ("LOG2_E, 2 * LOG2_E};", "LOG2_E, LOG2_E};"),
    "bias of the first units": ("bias[4 * m + lane % 4]", "bias[lane % 4]"),
    "coordinates of another warp": ("const int warp = threadIdx.x / 32 * 32,", "const int warp = 0,"),
    "sum over two": ("x + __shfl_xor_sync(0xffffffff, x, 2)", "x"),
    "cells of the second layer": (
        "before + (HIDDEN + S1) * before_stride",
        "before + HIDDEN * before_stride",
    ),
    "another's output": ("output[v] : found", "output[0] : found"),
}


@pytest.mark.parametrize("name", OF_TENSOR)
def test_a_planted_error_of_tensor_cores_is_seen(cupy, plant, monkeypatch, name):
    tiling = cuda_lstm.TensorTiling(2, 1, 64, 1)
    monkeypatch.setattr(cuda_lstm, "tiling_for", lambda *of: tiling)
    plant("lstm.cu", *OF_TENSOR[name])
    ours, expected = both(cupy, lstm.Sizes(3, (8, 4)), 60, np.float32)
    with pytest.raises(AssertionError):
        assert_close(ours, expected, np.float32)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, plant, name):
    plant("lstm.cu", *PLANTED[name])
    dtype = np.float32 if "tanh" in name else np.float64
    ours, expected = both(cupy, SMALL, 40, dtype)
    with pytest.raises(AssertionError):
        assert_close(ours, expected, dtype)
