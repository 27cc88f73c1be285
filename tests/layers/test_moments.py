"""Second moments of layers: against their definition, written out in loops."""

from itertools import product

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.layers import LSTM, Conv2D, FullyConnected, conv
from l2lnp.layers.conv import COLUMNS_PER_ROW, LEAST_POSITIONS, looked_at
from l2lnp.layers.fully_connected import cut_in_two

N = 12  # samples of the whole batch, of which a layer may see a part
seeds = st.integers(0, 2**32 - 1)


def run(layer, x, rng, modes=None, widest=1000):
    """Draw parameters and g_y; return them, the factors, and whatever else a test looks at."""
    params = {name: rng.normal(size=shape) for name, shape in layer.param_shapes().items()}
    y, cache = layer.forward(params, x)
    g_y = rng.normal(size=y.shape)
    modes = modes or layer.modes(x.shape[:-1])
    return params, cache, g_y, layer.moments(params, cache, g_y, N, modes, widest)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 5), seeds)
def test_fully_connected(n_out, n_in, n_samples, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_in, n_samples))
    layer = FullyConnected(n_in, n_out)
    modes = layer.modes((n_in,))
    _, _, g_y, factors = run(layer, x, rng)
    assert np.prod(modes) == n_in * n_out
    assert len(factors) == len(modes)
    np.testing.assert_allclose(factors[0], N * sum(np.outer(g, g) for g in g_y.T))
    tensors = x.T.reshape(n_samples, *modes[1:])
    for k in range(1, len(modes)):
        columns = np.moveaxis(tensors, k, -1).reshape(-1, modes[k])
        np.testing.assert_allclose(factors[k], sum(np.outer(c, c) for c in columns) / N)


@given(strategies.convolutions(), st.integers(1, 3), seeds)
def test_convolution(case, n_samples, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*shape, n_samples))
    _, _, g_y, factors = run(layer, x, rng)
    (top, bottom), (left, right) = layer.window.pads(shape[1:])
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (i, j), (s, t) = layer.window.size, layer.window.stride
    _, rows, columns, _ = g_y.shape
    outputs, inputs = np.zeros((layer.n_out, layer.n_out)), np.zeros((layer.fan_in, layer.fan_in))
    seen = looked_at(rows, columns, max(LEAST_POSITIONS, int(np.ceil(COLUMNS_PER_ROW * layer.fan_in / N))))
    for n, position in product(range(n_samples), seen):
        r, c = divmod(position, columns)
        patch = padded[:, r * s : r * s + i, c * t : c * t + j, n].reshape(-1)
        inputs += np.outer(patch, patch) / (N * len(seen))
        outputs += N * rows * columns / len(seen) * np.outer(g_y[:, r, c, n], g_y[:, r, c, n])
    assert layer.modes(shape) == (layer.n_out, layer.fan_in)
    np.testing.assert_allclose(factors[0], outputs, atol=1e-12)
    np.testing.assert_allclose(factors[1], inputs, atol=1e-12)


@pytest.mark.parametrize("picture", [(1, 1), (2, 3), (8, 8), (24, 24), (32, 32), (7, 40)])
@pytest.mark.parametrize("n", [1, 8, 17, 100])
def test_positions_that_are_looked_at_are_spread_over_the_picture(picture, n):
    rows, columns = picture
    seen = looked_at(rows, columns, n)
    assert len(set(seen)) == len(seen)
    assert seen.min() >= 0
    assert seen.max() < rows * columns
    assert len(seen) == rows * columns if rows * columns <= n else 0.7 * n <= len(seen) <= n
    if 8 <= n < rows * columns:
        for along, length in zip(np.divmod(seen, columns), picture, strict=True):
            assert 0.2 < (along >= length / 2).mean() < 0.8
            assert 0.2 < (along % 2).mean() < 0.8, "it falls in with a pooling over two"


def test_of_equal_positions_it_does_not_matter_how_many_are_looked_at(monkeypatch):
    rng = np.random.default_rng(0)
    layer = Conv2D(2, 3, 1)
    x = np.broadcast_to(rng.normal(size=(2, 1, 1, 5)), (2, 9, 9, 5))
    params = {name: rng.normal(size=shape) for name, shape in layer.param_shapes().items()}
    y, cache = layer.forward(params, x)
    g_y = np.broadcast_to(rng.normal(size=(3, 1, 1, 5)), y.shape)
    some = layer.moments(params, cache, g_y, N, (3, 2), 100)
    monkeypatch.setattr(conv, "LEAST_POSITIONS", 100)
    for key, factor in layer.moments(params, cache, g_y, N, (3, 2), 100).items():
        np.testing.assert_allclose(some[key], factor)


@given(strategies.lstms(), st.integers(1, 3), seeds)
def test_lstm(case, n_samples, seed):
    layer, (n_in, n_steps) = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_in, n_steps, n_samples))
    params, cache, g_y, factors = run(layer, x, rng)
    # the gates' derivatives, one sample at a time, from the parameters' own: g_w = sum_t g_a z^T with z known
    inputs = sum(np.outer(z[:, n], z[:, n]) for z in cache.z for n in range(n_samples))
    np.testing.assert_allclose(factors[1], inputs / (N * n_steps))
    _, g = layer.backward(params, cache, g_y)
    if n_steps == n_samples == 1:
        np.testing.assert_allclose(factors[0], N * np.outer(g["b"], g["b"]))
    assert layer.modes((n_in, n_steps)) == g["w"].shape


def test_outputs_of_an_lstm_are_summed_over_time_steps():
    rng = np.random.default_rng(0)
    layer, x = LSTM(2, 3, "all"), rng.normal(size=(2, 4, 5))
    params, cache, g_y, factors = run(layer, x, rng)
    squares = layer.squared_gradients(params, cache, g_y, np.ones(5))
    gs, _, _ = layer._backward_through_time(params, cache, g_y)
    assert np.diag(factors[0]).sum() == pytest.approx(N * sum((g.a**2).sum() for g in gs))
    per_sample = sum(g.a for g in gs)
    np.testing.assert_allclose((per_sample**2).sum(1), squares["b"])  # the same g_a as there


@pytest.mark.parametrize("modes", [(2, 6), (2, 2, 3)])
def test_the_factors_are_those_of_the_fisher_matrix_where_inputs_and_gradients_are_independent(modes):
    rng = np.random.default_rng(1)
    of_inputs = [rng.normal(size=(3, width)) for width in modes[1:]]
    gs = rng.normal(size=(4, 2))
    n_total = 4 * 3 ** len(of_inputs)
    samples = [
        (np.multiply.outer(xs[0], xs[1]).reshape(-1) if len(xs) == 2 else xs[0], g)
        for g in gs
        for xs in product(*of_inputs)
    ]
    x, g_y = np.array([x for x, _ in samples]).T, np.array([g for _, g in samples]).T / n_total
    layer = FullyConnected(6, 2)
    factors = layer.moments({}, x, g_y, n_total, modes, 100)
    fisher = sum(np.outer(v, v) for v in (np.outer(g, x).reshape(-1) for x, g in samples)) / n_total
    kron = factors[0]
    for k in range(1, len(modes)):
        kron = np.kron(kron, factors[k])
    kron = kron / np.trace(factors[1]) ** (len(modes) - 2)
    np.testing.assert_allclose(kron, fisher, rtol=1e-10, atol=1e-12)


def test_of_a_mode_beyond_the_limit_only_the_mean_eigenvalue_is_known():
    rng = np.random.default_rng(0)
    layer, x = FullyConnected(6, 2), rng.normal(size=(6, 5))
    params, cache, g_y, whole = run(layer, x, rng, modes=(2, 6))
    narrow = layer.moments(params, cache, g_y, N, (2, 6), 5)
    np.testing.assert_array_equal(narrow[0], whole[0])
    assert narrow[1].shape == (1, 1)
    assert narrow[1].item() == pytest.approx(np.linalg.eigvalsh(whole[1]).mean())


@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ((8, 14, 14), (8, 196)),
        ((32, 7, 7), (32, 49)),
        ((1, 28, 28), (28, 28)),
        ((3, 32, 32), (96, 32)),
        ((128,), (8, 16)),
        ((10,), (2, 5)),
        ((13,), (13,)),
        ((194,), (194,)),
        ((6, 1, 1), (2, 3)),
        ((1,), (1,)),
    ],
)
def test_how_inputs_are_cut(shape, cut):
    assert cut_in_two(shape) == cut


def test_a_flatten_layer_hands_on_the_form_of_its_input():
    from networks_of_all_kinds import NETWORKS

    modes = {name: [t.modes for t in make().layout.tensors] for name, make in NETWORKS.items()}
    assert modes["max_pooling"] == [(3, 18), (3,), (4, 3, 4), (4,)]
    assert modes["fully_connected"] == [(3, 2, 16), (3,), (4, 3), (4,)]
    assert modes["row_lstm"] == [(12, 11), (12,), (4, 3), (4,)]
    assert Conv2D(2, 3, 3).modes((2, 4, 4)) == (3, 18)
