"""What the layers compute, against loops and formulas written out."""

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.errors import InputError
from l2lnp.layers import LSTM, Activation, AvgPool2D, Conv2D, Flatten, FullyConnected, MaxPool2D, Rows

seeds = st.integers(0, 2**32 - 1)


def padded_by_hand(x, layer, fill):
    """Pad (K, H, W, N) as documented: 'same' gives ceil(pixels / stride), the odd pixel at the end."""
    sizes, strides = layer.window.size, layer.window.stride
    pads = [(0, 0)]
    for axis in (0, 1):
        if layer.padding == "valid":
            pads.append((0, 0))
        elif layer.padding == "same":
            pixels = x.shape[1 + axis]
            outputs = int(np.ceil(pixels / strides[axis]))
            total = max(0, (outputs - 1) * strides[axis] + sizes[axis] - pixels)
            pads.append((total // 2, total - total // 2))
        else:
            pads.append((layer.padding[axis],) * 2)
    return np.pad(x, [*pads, (0, 0)], constant_values=fill)


def windows_by_hand(x, layer, fill=0.0):
    """Yield r, c and the window (K, I, J, N) at that position."""
    padded = padded_by_hand(x, layer, fill)
    (i, j), (s_r, s_c) = layer.window.size, layer.window.stride
    for r in range((padded.shape[1] - i) // s_r + 1):
        for c in range((padded.shape[2] - j) // s_c + 1):
            yield r, c, padded[:, r * s_r : r * s_r + i, c * s_c : c * s_c + j]


@given(strategies.convolutions(), seeds)
def test_convolution_against_loops(case, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*shape, 2))
    w, b = rng.normal(size=(layer.n_out, *shape[:1], *layer.window.size)), rng.normal(size=layer.n_out)
    y, _ = layer.forward({"w": w.reshape(layer.n_out, -1), "b": b}, x)
    assert y.shape[:-1] == layer.output_shape(shape)
    positions = 0
    for r, c, window in windows_by_hand(x, layer):
        for o in range(layer.n_out):
            expected = (w[o][..., None] * window).sum((0, 1, 2)) + b[o]
            np.testing.assert_allclose(y[o, r, c], expected, rtol=1e-12, atol=1e-12)
        positions += 1
    assert positions == y.shape[1] * y.shape[2]


@given(strategies.poolings(), seeds)
def test_pooling_against_loops(case, seed):
    layer, shape = case
    x = np.random.default_rng(seed).normal(size=(*shape, 2))
    y, _ = layer.forward({}, x)
    assert y.shape[:-1] == layer.output_shape(shape)
    is_max = isinstance(layer, MaxPool2D)
    for r, c, window in windows_by_hand(x, layer, -np.inf if is_max else 0.0):
        expected = window.max((1, 2)) if is_max else window.mean((1, 2))
        np.testing.assert_allclose(y[:, r, c], expected, rtol=1e-12, atol=1e-12)


def test_same_padding_of_an_even_window_puts_the_odd_pixel_at_the_end():
    layer = Conv2D(1, 1, 2, padding="same")
    x = np.arange(1.0, 4.0).reshape(1, 1, 3, 1)
    y, _ = layer.forward({"w": np.array([[1.0, 10.0, 0.0, 0.0]]), "b": np.zeros(1)}, x)
    np.testing.assert_array_equal(y.ravel(), [21.0, 32.0, 3.0])


def test_equal_maxima_go_to_the_first_in_row_major_order():
    layer = MaxPool2D(2)
    _, cache = layer.forward({}, np.ones((1, 2, 2, 1)))
    g_x, _ = layer.backward({}, cache, np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(g_x.ravel(), [1, 0, 0, 0])
    x = np.array([0.0, 2.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
    _, cache = layer.forward({}, x)
    h_x, _ = layer.curvature({}, cache, None, np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(h_x.ravel(), [0, 1, 0, 0])


def test_overlapping_windows_add_up_where_one_pixel_wins_both():
    layer = MaxPool2D((1, 2), stride=1)
    x = np.array([0.0, 5.0, 1.0]).reshape(1, 1, 3, 1)
    _, cache = layer.forward({}, x)
    g_x, _ = layer.backward({}, cache, np.array([2.0, 3.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(g_x.ravel(), [0, 5, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_has_slope_zero_at_zero(dtype):
    layer = Activation("relu")
    x = np.array([[-1.0, 0.0, 2.0]], dtype)
    _, cache = layer.forward({}, x)
    np.testing.assert_array_equal(layer.backward({}, cache, np.ones_like(x))[0], [[0, 0, 1]])


@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("identity", lambda x: x),
        ("relu", lambda x: np.where(x > 0, x, 0)),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softplus", lambda x: np.log(1 + np.exp(x))),
        ("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    ],
)
def test_activations_against_their_formulas(name, f):
    x = np.linspace(-5, 5, 41).reshape(1, -1)
    np.testing.assert_allclose(Activation(name).forward({}, x)[0], f(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "elu", "tanh"])
def test_activations_stay_finite_far_out(name):
    x = np.array([[-1e4, 1e4]], np.float32)
    layer = Activation(name)
    y, cache = layer.forward({}, x)
    h_x, _ = layer.curvature({}, cache, np.ones_like(x), np.ones_like(x))
    assert np.isfinite(y).all()
    assert np.isfinite(h_x).all()


@given(strategies.lstms(), seeds)
def test_lstm_against_its_equations(case, seed):
    layer, (k, n_steps) = case
    rng = np.random.default_rng(seed)
    s = layer.n_units
    x = rng.normal(size=(k, n_steps, 2))
    w, b = rng.normal(size=(4 * s, k + s)), rng.normal(size=4 * s)
    y, _ = layer.forward({"w": w, "b": b}, x)
    hidden = c = np.zeros((s, 2))
    hiddens = []
    for t in range(n_steps):
        a = w[:, :k] @ x[:, t] + w[:, k:] @ hidden + b[:, None]
        i, f, o = (1 / (1 + np.exp(-a[g * s : (g + 1) * s])) for g in range(3))
        c = f * c + i * np.tanh(a[3 * s :])
        hidden = o * np.tanh(c)
        hiddens.append(hidden)
    expected = hidden if layer.returns == "last" else np.stack(hiddens, 1)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_rows_reads_an_image_from_top_to_bottom():
    x = np.arange(2 * 3 * 2).reshape(2, 3, 2, 1).astype(float)
    y, _ = Rows().forward({}, x)
    assert y.shape == (4, 3, 1)
    np.testing.assert_array_equal(y[:, 1, 0], [*x[0, 1, :, 0], *x[1, 1, :, 0]])


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2D(3, 2, 5), (1, 8, 8), "takes 3 channels, not 1"),
        (Conv2D(1, 2, 9), (1, 8, 8), "9 x 9 does not fit an image of 8 x 8"),
        (Conv2D(1, 2, 3), (5,), "takes images"),
        (MaxPool2D(4), (1, 3, 8), "4 x 4 does not fit an image of 3 x 8"),
        (FullyConnected(4, 2), (5,), "takes (4,) features, not (5,)"),
        (FullyConnected(4, 2), (1, 2, 2), "put a flatten layer before it"),
        (LSTM(4, 2), (5, 3), "takes (4, time) sequences"),
        (Rows(), (5,), "takes images"),
    ],
)
def test_impossible_inputs_are_refused_with_the_sizes(layer, shape, message):
    with pytest.raises(InputError) as error:
        layer.output_shape(shape)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2D(0, 1, 3), "n_in must be a positive whole number, not 0"),
        (lambda: Conv2D(1, 1, 0), "size and stride must be at least 1"),
        (lambda: Conv2D(1, 1, 3, padding="some"), "padding must be 'same', 'valid' or pixels"),
        (lambda: Conv2D(1, 1, 3, padding=-1), "padding at least 0"),
        (lambda: Conv2D(1, 1, 2.5), "size must be a whole number or two of them, not 2.5"),
        (lambda: Conv2D(1, 1, (2,)), "size must be a whole number or two of them, not (2,)"),
        (lambda: Conv2D(1, 1, "same"), "size must be a whole number or two of them, not 'same'"),
        (lambda: MaxPool2D(2, stride=(2, "same")), "stride must be a whole number or two of them"),
        (lambda: Conv2D(1, 1, 3, padding=1.5), "padding must be a whole number or two of them, not 1.5"),
        (lambda: AvgPool2D(2, padding=2), "must be smaller than the window"),
        (lambda: Activation("rleu"), "did you mean 'relu'?"),
        (lambda: LSTM(1, 1, "lst"), "did you mean 'last'?"),
    ],
)
def test_impossible_layers_are_refused(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)


def test_flatten_keeps_the_order_of_channels_rows_columns():
    x = np.arange(8.0).reshape(2, 2, 2, 1)
    np.testing.assert_array_equal(Flatten().forward({}, x)[0].ravel(), np.arange(8))
