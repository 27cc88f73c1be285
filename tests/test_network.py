"""The sweep and its adjoint on whole networks."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from networks_of_all_kinds import NETWORKS, convolutional, draw_batch, fully_connected, max_pooling, row_lstm

from l2lnp.checking import slope
from l2lnp.curvature import ADJOINT_MODES
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.layers import (
    FUNCTIONS,
    Activation,
    Conv2D,
    Flatten,
    FullyConnected,
    MaxPool2D,
    MeanSquaredError,
    SoftmaxCrossEntropy,
)
from l2lnp.network import Sequential
from l2lnp.workspace import Workspace

CUT = Execution(micro_batch=3, lanes=2)
CLOSE = {"rtol": 1e-6, "atol": 1e-7}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def test_g_is_the_slope_of_the_loss(network):
    theta, x, targets = draw_batch(network)
    d = np.random.default_rng(1).normal(size=theta.shape)
    g = network.evaluate(theta, x, targets, None, CUT).g
    numeric = slope(lambda v: network.evaluate(v, x, targets, None, CUT).loss, theta, d)
    np.testing.assert_allclose(g @ d, numeric, **CLOSE)


@pytest.mark.parametrize("mode", ADJOINT_MODES)
@pytest.mark.parametrize("seed", range(3))
def test_adjoint_is_the_slope_of_loss_g_and_h(network, mode, seed):
    theta, x, targets = draw_batch(network, seed)
    rng = np.random.default_rng(seed + 10)
    a_loss, (a_g, a_h, d) = rng.normal(), rng.normal(size=(3, *theta.shape))

    def projection(v):
        loss, g, h = network.evaluate(v, x, targets, mode, CUT)
        return a_loss * loss + a_g @ g + a_h @ h

    a_theta = network.adjoint(theta, x, targets, a_loss, a_g, a_h, mode, CUT)
    np.testing.assert_allclose(a_theta @ d, slope(projection, theta, d, step=1e-6), rtol=1e-6, atol=1e-6)


def test_adjoint_of_the_loss_alone_is_g(network):
    theta, x, targets = draw_batch(network)
    g = network.evaluate(theta, x, targets).g
    np.testing.assert_allclose(network.adjoint(theta, x, targets, a_loss=1.0), g, rtol=1e-12, atol=1e-15)


def test_hessian_vector_products_are_symmetric_and_slopes_of_g(network):
    theta, x, targets = draw_batch(network)
    u, v = np.random.default_rng(2).normal(size=(2, *theta.shape))
    h_u, h_v = (network.adjoint(theta, x, targets, a_g=d, execution=CUT) for d in (u, v))
    np.testing.assert_allclose(u @ h_v, v @ h_u, rtol=1e-10)
    g = lambda w: network.evaluate(w, x, targets, None).g
    numeric = (g(theta + 1e-5 * v) - g(theta - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(h_v, numeric, **CLOSE)


def test_micro_batches_add_up_to_the_batch(network):
    theta, x, targets = draw_batch(network)
    whole = network.evaluate(theta, x, targets, execution=Execution(micro_batch=7))
    for cut in (Execution(micro_batch=3, lanes=2), Execution(micro_batch=1, lanes=5)):
        for part, expected in zip(network.evaluate(theta, x, targets, execution=cut), whole, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        network.predict(theta, x, CUT), network.predict(theta, x, Execution(micro_batch=7)), rtol=1e-10
    )


def test_moments_of_micro_batches_add_up_and_change_nothing_else(network):
    theta, x, targets = draw_batch(network)
    evaluation, whole = network.evaluate_with_moments(theta, x, targets, 100, execution=CUT)
    for part, expected in zip(evaluation, network.evaluate(theta, x, targets, execution=CUT), strict=True):
        np.testing.assert_array_equal(part, expected)
    _, parts = network.evaluate_with_moments(theta, x, targets, 100, None, Execution(micro_batch=2, lanes=3))
    modes = {(t.layer, k): width for t in network.layout.tensors for k, width in enumerate(t.modes)}
    assert {key: len(factor) for key, factor in whole.items()} == modes
    for key, factor in whole.items():
        np.testing.assert_allclose(parts[key], factor, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(factor, factor.T, rtol=1e-12)


def test_the_outputs_factor_of_the_last_layer_comes_from_per_sample_gradients(network):
    """Of the loss of each sample alone: a factor N is needed for the mean loss of the batch."""
    theta, x, targets = draw_batch(network)
    last = max(network.layout.layers)
    _, moments = network.evaluate_with_moments(theta, x, targets, 100, None)
    expected = 0
    for n in range(x.shape[-1]):
        one = slice(n, n + 1)
        _, of_one = network.evaluate_with_moments(theta, x[..., one], targets[..., one], 100, None)
        expected = expected + of_one[last, 0] / x.shape[-1]
    np.testing.assert_allclose(moments[last, 0], expected, rtol=1e-10, atol=1e-14)


def test_threads_change_no_byte(network):
    theta, x, targets = draw_batch(network, n_samples=40, dtype=np.float32)
    results = []
    for threads in (1, 2, 3):
        execution = Execution(threads=threads, micro_batch=4, lanes=4)
        loss, g, h = network.evaluate(theta, x, targets, execution=execution)
        a_theta = network.adjoint(theta, x, targets, 1.0, g, h, execution=execution)
        results.append((loss, g.tobytes(), h.tobytes(), a_theta.tobytes()))
    assert results[0] == results[1] == results[2]


def test_an_arena_changes_no_byte_and_nothing_returned_lies_in_it(network):
    theta, x, targets = draw_batch(network, dtype=np.float32)
    params = network.layout.split(theta)
    fresh = network.sweep(params, x, targets, 7, "hesscale")
    arena = Workspace()
    for _ in range(2):
        used = network.sweep(params, x, targets, 7, "hesscale", arena)
    for left, right in zip(fresh[1:], used[1:], strict=True):
        for i in left:
            for name in left[i]:
                np.testing.assert_array_equal(left[i][name], right[i][name])
    kept = network.evaluate(theta, x, targets, execution=CUT)
    copies = [np.copy(v) for v in kept]
    network.evaluate(-theta, 2 * x, targets, execution=CUT)
    for value, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


def test_nothing_given_is_changed(network):
    theta, x, targets = draw_batch(network)
    for a in (theta, x, targets):
        a.flags.writeable = False
    _, g, h = network.evaluate(theta, x, targets, execution=CUT)
    g.flags.writeable = h.flags.writeable = False
    network.adjoint(theta, x, targets, 1.0, g, h, execution=CUT)
    network.predict(theta, x)


def test_float32_follows_float64(network):
    theta, x, targets = draw_batch(network, dtype=np.float32)
    single = network.evaluate(theta, x, targets)
    wide = targets if targets.dtype.kind == "i" else targets.astype(np.float64)
    double = network.evaluate(theta.astype(np.float64), x.astype(np.float64), wide)
    assert single.g.dtype == single.h.dtype == np.float32
    for ours, reference in zip(single, double, strict=True):
        assert np.abs(ours - reference).max() <= 1e-5 * np.abs(reference).max()


def test_adjoint_of_a_batch_is_the_mean_over_its_samples():
    network = max_pooling("tanh")
    theta, x, targets = draw_batch(network, n_samples=4)
    v = np.random.default_rng(3).normal(size=theta.shape)
    one_by_one = [
        network.adjoint(theta, x[..., n : n + 1], targets[n : n + 1], a_g=v) for n in range(x.shape[-1])
    ]
    np.testing.assert_allclose(network.adjoint(theta, x, targets, a_g=v), np.mean(one_by_one, 0), rtol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_an_activation_and_a_max_pooling_may_change_places(activation):
    network = max_pooling(activation)
    conv, f, pool, *rest = network.layers
    as_written = Sequential((conv, f, Activation("identity"), pool, *rest), network.loss, network.input_shape)
    assert network.schedule[1:3] == (pool, f)
    assert as_written.schedule[1] == f
    theta, x, targets = draw_batch(network)
    for mode in ("hesscale", "gauss_newton", "exact"):
        results = zip(
            network.evaluate(theta, x, targets, mode),
            as_written.evaluate(theta, x, targets, mode),
            strict=True,
        )
        for swapped, written in results:
            np.testing.assert_allclose(swapped, written, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_activations_that_rise_change_places_with_a_max_pooling(name, monkeypatch):
    x = np.linspace(-5, 5, 1001)
    assert FUNCTIONS[name].is_monotone == bool(
        (np.diff(FUNCTIONS[name].value(x, np.empty_like(x))) >= 0).all()
    )
    monkeypatch.setitem(FUNCTIONS, name, FUNCTIONS[name]._replace(is_monotone=False))
    network = max_pooling(name)
    assert network.schedule == network.layers


def test_initial_weights_have_the_stated_spread():
    network = Sequential((Flatten(), FullyConnected(400, 300)), SoftmaxCrossEntropy(), (1, 20, 20))
    params = network.layout.split(network.init(np.random.default_rng(0), np.float64))
    assert params[1]["w"].std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    assert not params[1]["b"].any()
    lstm = row_lstm()
    b = lstm.layout.split(lstm.init(np.random.default_rng(0)))[1]["b"]
    np.testing.assert_array_equal(b, [0] * 3 + [1] * 3 + [0] * 6)


def test_the_same_seed_gives_the_same_weights_in_both_dtypes():
    network = convolutional()
    single = network.init(np.random.default_rng(5), np.float32)
    double = network.init(np.random.default_rng(5), np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Conv2D(1, 2, 3), Conv2D(2, 2, 9)), "layer 2 of 2: conv layer: its window of 9 x 9 does not fit"),
        ((Flatten(), FullyConnected(63, 2)), "layer 2 of 2: fully connected layer: takes (63,) features"),
        ((Flatten(), Activation("relu")), "needs at least one layer with parameters"),
        ((Conv2D(1, 2, 3), Activation("relu")), "must give one number per class, not (2, 6, 6)"),
    ],
)
def test_impossible_networks_are_refused_by_layer(layers, message):
    with pytest.raises(InputError) as error:
        Sequential(layers, SoftmaxCrossEntropy(), (1, 8, 8))
    assert message in str(error.value)


def test_the_adjoint_refuses_labels_that_are_no_class():
    network = convolutional()
    theta, x, targets = draw_batch(network)
    with pytest.raises(InputError, match="targets must be class numbers from 0 to"):
        network.adjoint(theta, x, targets + 99, a_g=theta)


def test_wrong_arrays_are_refused():
    network = fully_connected()
    theta, x, targets = draw_batch(network)
    with pytest.raises(InputError, match="vector of 115 parameters, not"):
        network.evaluate(theta[:-1], x, targets)
    with pytest.raises(InputError, match="samples must be"):
        network.evaluate(theta, x[:, 1:], targets)
    with pytest.raises(InputError, match="one dtype"):
        network.evaluate(theta, x.astype(np.float32), targets)
    for call in (network.evaluate, network.adjoint):
        with pytest.raises(InputError, match="samples, but targets for 1"):
            call(theta, x, targets[..., :1])
    with pytest.raises(InputError, match="has no exact meta-gradient"):
        network.adjoint(theta, x, targets, a_h=theta, curvature="exact")
    with pytest.raises(InputError, match="a_g must be a vector of 115 parameters, not"):
        network.adjoint(theta, x, targets, a_g=np.append(theta, 0.0))
    with pytest.raises(InputError, match="theta and a_h must be of one dtype, not float64 and float32"):
        network.adjoint(theta, x, targets, a_h=theta.astype(np.float32))


def test_targets_of_another_precision_are_refused():
    network = replace(fully_connected(), loss=MeanSquaredError())
    theta, x, _ = draw_batch(network)
    targets = np.zeros((*network.output_shape, x.shape[-1]), np.float32)
    with pytest.raises(InputError, match="samples and targets must be of one dtype, not float64 and float32"):
        network.evaluate(theta, x, targets)


class OfNoKind(FullyConnected):
    kind = ""


def test_a_layer_with_parameters_says_its_kind():
    with pytest.raises(InputError, match="layer 1 of 1: a layer with parameters must say its kind"):
        Sequential((OfNoKind(4, 2),), SoftmaxCrossEntropy(), (4,))


@pytest.mark.parametrize("mode", [None, "hesscale", "exact", "monte_carlo"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_pooled_convolution_by_pixel_of_the_pooling_is_the_same(monkeypatch, mode, padding):
    layers = (
        Conv2D(2, 3, 3, padding="same"),
        Activation("tanh"),
        MaxPool2D((2, 3)),
        Conv2D(3, 4, 3, padding=padding),
        MaxPool2D(2),
        Activation("relu"),
        Flatten(),
        FullyConnected(4 * 3 * 2 if padding == "same" else 4 * 2, 4),
    )
    network = Sequential(layers, SoftmaxCrossEntropy(), (2, 12, 12))
    theta, x, labels = draw_batch(network)
    execution = Execution(micro_batch=3)
    pooled = [getattr(layer, "pooled", None) for layer in network.schedule_for(x)]
    assert pooled[:4] == [(2, 3), None, None, (2, 2)]

    def results():
        evaluation, moments = network.evaluate_with_moments(theta, x, labels, 64, mode, execution)
        a = np.random.default_rng(1).normal(size=(2, theta.size))
        adjoint = network.adjoint(theta, x, labels, 0.3, *a, execution=execution)
        return *evaluation, *moments.values(), adjoint

    by_pixel = results()
    monkeypatch.setattr(Sequential, "schedule_for", lambda self, x: self.schedule)
    for ours, expected in zip(by_pixel, results(), strict=True):
        if expected is not None:
            np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_layers_of_ones_own_and_large_windows_get_images_in_row_major_order():
    class Own(MaxPool2D):
        pass

    x = np.zeros((1, 8, 8, 2))
    for pool, is_by_pixel in (
        (MaxPool2D(2), True),
        (Own(2), False),
        (MaxPool2D(4), False),
        (MaxPool2D(2, padding=1), False),
        (MaxPool2D(2, stride=1), False),
    ):
        layers = (
            Conv2D(1, 2, 3, padding="same"),
            pool,
            Flatten(),
            FullyConnected(prod(pool.output_shape((2, 8, 8))), 3),
        )
        conv, *_ = Sequential(layers, SoftmaxCrossEntropy(), (1, 8, 8)).schedule_for(x)
        assert (conv.pooled != (1, 1)) == is_by_pixel
