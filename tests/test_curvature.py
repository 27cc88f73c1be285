"""The curvature modes against the Hessian, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from networks_of_all_kinds import NETWORKS, convolutional, curved_head, draw_batch, fully_connected, row_lstm

from l2lnp import basis, curvature
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.layers import Activation, Flatten, FullyConnected, Layer, SoftmaxCrossEntropy
from l2lnp.network import Sequential

CUT = Execution(micro_batch=3, lanes=2)


def hessian(network, theta, x, targets):
    """The Hessian (P, P) from differences of the gradient."""
    g = lambda v: network.evaluate(v, x, targets, None).g
    rows = [(g(theta + 1e-5 * e) - g(theta - 1e-5 * e)) / 2e-5 for e in np.eye(theta.size)]
    return np.stack(rows)


def gauss_newton_diagonal(network, theta, x, targets):
    """diag(mean over samples of J^T H_z J) with the Jacobian J from differences of the outputs."""
    z = lambda v: network.predict(v, x)
    jacobian = np.stack([(z(theta + 1e-5 * e) - z(theta - 1e-5 * e)) / 2e-5 for e in np.eye(theta.size)])
    if network.loss != SoftmaxCrossEntropy():
        return (jacobian**2).sum((1, 2)) / x.shape[-1]
    p = np.exp(z(theta)) / np.exp(z(theta)).sum(0)
    return ((p * jacobian**2).sum(1) - (p * jacobian).sum(1) ** 2).mean(1)


@pytest.mark.parametrize("name", ["convolutional", "max_pooling", "fully_connected", "curved_head"])
def test_exact_is_the_diagonal_of_the_hessian(name):
    network = NETWORKS[name]()
    theta, x, targets = draw_batch(network)
    h = network.evaluate(theta, x, targets, "exact", CUT).h
    np.testing.assert_allclose(h, np.diag(hessian(network, theta, x, targets)), rtol=1e-5, atol=1e-8)


def test_exact_agrees_with_hessian_vector_products():
    network = convolutional()
    theta, x, targets = draw_batch(network)
    h = network.evaluate(theta, x, targets, "exact").h
    products = [network.adjoint(theta, x, targets, a_g=e)[i] for i, e in enumerate(np.eye(theta.size))]
    np.testing.assert_allclose(h, products, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_monte_carlo_is_unbiased_for_the_gauss_newton_diagonal(name):
    network = NETWORKS[name]()
    theta, x, targets = draw_batch(network, n_samples=3)
    draws = [
        network.evaluate(theta, x, targets, "monte_carlo", CUT, np.random.default_rng(i), n_draws=2).h
        for i in range(300)
    ]
    assert_unbiased(draws, gauss_newton_diagonal(network, theta, x, targets))


@pytest.mark.parametrize("name", ["convolutional", "fully_connected", "row_lstm"])
def test_hutchinson_is_unbiased_for_the_diagonal(name):
    network = NETWORKS[name]()
    theta, x, targets = draw_batch(network, n_samples=3)
    draws = [
        network.evaluate(theta, x, targets, "hutchinson", CUT, np.random.default_rng(i), n_draws=2).h
        for i in range(300)
    ]
    assert_unbiased(draws, np.diag(hessian(network, theta, x, targets)))


def assert_unbiased(draws, expected):
    standard_error = np.std(draws, 0) / np.sqrt(len(draws))
    scores = (np.mean(draws, 0) - expected) / (standard_error + 1e-7 * np.abs(expected).max())
    assert np.abs(scores).max() < 5.5
    assert np.sqrt(np.mean(scores**2)) < 1.6
    assert np.abs(expected).max() > 10 * standard_error.mean()  # the draws say something


def test_hesscale_is_exact_at_the_last_layer():
    network = convolutional()
    theta, x, targets = draw_batch(network)
    last = network.layout.layers[6][1]
    exact = network.evaluate(theta, x, targets, "exact").h[last]
    np.testing.assert_allclose(network.evaluate(theta, x, targets).h[last], exact, rtol=1e-10)


def test_exact_head_is_exact_where_one_hidden_layer_has_one_path_each():
    """With one hidden unit nothing but the head's products is dropped, and exact_head keeps those."""
    layers = (Flatten(), FullyConnected(4, 1), Activation("tanh"), FullyConnected(1, 3))
    network = Sequential(layers, SoftmaxCrossEntropy(), (1, 2, 2))
    theta, x, targets = draw_batch(network)
    exact = network.evaluate(theta, x, targets, "exact").h
    first = network.layout.layers[1][1]
    head, scale = (network.evaluate(theta, x, targets, m).h for m in ("exact_head", "hesscale"))
    np.testing.assert_allclose(head, exact, rtol=1e-9)
    assert np.abs(scale[first] - exact[first]).max() > 0.01 * np.abs(exact[first]).max()


def test_exact_head_is_hesscale_where_the_head_is_not_affine_or_the_error_squared():
    for network in (curved_head(), fully_connected()):
        theta, x, targets = draw_batch(network)
        head, scale = (network.evaluate(theta, x, targets, m).h for m in ("exact_head", "hesscale"))
        np.testing.assert_array_equal(head, scale)


def test_gauss_newton_is_never_negative_and_is_hesscale_for_piecewise_linear_networks():
    network = convolutional("tanh")
    theta, x, targets = draw_batch(network)
    assert (network.evaluate(theta, x, targets, "gauss_newton").h >= 0).all()
    assert (network.evaluate(theta, x, targets, "hesscale").h < 0).any()
    network = convolutional("relu")
    theta, x, targets = draw_batch(network)
    np.testing.assert_array_equal(
        network.evaluate(theta, x, targets, "gauss_newton").h, network.evaluate(theta, x, targets).h
    )


@pytest.mark.parametrize("mode", ["monte_carlo", "hutchinson"])
def test_random_modes_are_reproduced_by_their_generator(mode):
    network = row_lstm()
    theta, x, targets = draw_batch(network)
    first, again, other = (
        network.evaluate(theta, x, targets, mode, CUT, np.random.default_rng(seed)).h for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


class Swish(Layer):
    """A layer of one's own."""

    def output_shape(self, input_shape):
        return input_shape


def test_what_is_not_supported_is_refused_with_what_is():
    network = row_lstm()
    theta, x, targets = draw_batch(network)
    with pytest.raises(InputError, match=r"lstm layer.*use one of: hesscale, exact_head"):
        network.evaluate(theta, x, targets, "exact")
    own = Sequential((FullyConnected(4, 3), Swish(), FullyConnected(3, 2)), SoftmaxCrossEntropy(), (4,))
    curvature.check_supported("hesscale", own)
    with pytest.raises(InputError, match=r"does not know where a Swish is curved: use one of: hesscale"):
        curvature.check_supported("exact", own)
    with pytest.raises(InputError, match="did you mean 'hesscale'"):
        network.evaluate(theta, x, targets, "hessscale")


@pytest.mark.parametrize("mode", ["monte_carlo", "hutchinson"])
def test_no_draws_give_no_h(mode):
    network = NETWORKS["convolutional"]()
    theta, x, targets = draw_batch(network)
    with pytest.raises(InputError, match="n_draws must be a positive whole number, not 0"):
        network.evaluate(theta, x, targets, mode, n_draws=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("left_alone", [(), (0,), (1, 2)])
def test_ekfac_is_the_mean_square_of_the_turned_gradients_of_single_samples(name, left_alone):
    network = NETWORKS[name]()
    theta, x, targets = draw_batch(network)
    rng, layout = np.random.default_rng(0), network.layout
    axes = {
        (layer, mode): np.linalg.qr(rng.normal(size=(width, width)))[0]
        for (layer, mode), width in basis.mode_widths(layout).items()
        if mode not in left_alone
    }
    (loss, g, h), _ = network.evaluate_with_moments(theta, x, targets, 0, "ekfac", CUT, axes=axes)
    squares = np.zeros_like(theta)
    for n in range(x.shape[-1]):
        one = slice(n, n + 1)
        of_sample = network.evaluate(theta, x[..., one], targets[..., one], None).g
        squares += basis.rotate(layout, axes, of_sample, Execution()) ** 2 / x.shape[-1]
    np.testing.assert_allclose(h, squares, rtol=1e-9, atol=1e-14)
    plain = network.evaluate(theta, x, targets, None, CUT)
    assert loss == plain.loss
    np.testing.assert_array_equal(g, plain.g)


def test_modes_of_the_basis_and_of_coordinates_are_refused_in_the_other():
    network = NETWORKS["convolutional"]()
    theta, x, targets = draw_batch(network)
    with pytest.raises(InputError, match=r"of the curvature basis: give --basis kronecker.*hesscale"):
        network.evaluate(theta, x, targets, "ekfac")
    with pytest.raises(InputError, match=r"does not apply to the curvature basis.*by: ekfac"):
        network.evaluate_with_moments(theta, x, targets, 0, "hesscale", axes={})


def test_the_table_in_the_docs_is_the_one_of_the_code():
    page = Path(__file__).parent.parent / "docs" / "curvature_modes.md"
    assert curvature.support_table() in page.read_text()


def test_the_table_says_what_happens():
    network = row_lstm()
    theta, x, targets = draw_batch(network)
    for name, mode in curvature.MODES.items():
        axes = {} if mode.in_basis else None
        for allowed, run in (
            (
                mode.takes_lstm,
                lambda name=name, axes=axes: network.evaluate_with_moments(
                    theta, x, targets, 0, name, axes=axes
                ),
            ),
            (
                mode.has_adjoint,
                lambda name=name: network.adjoint(theta, x, targets, a_h=theta, curvature=name),
            ),
        ):
            try:
                run()
            except InputError:
                assert not allowed
            else:
                assert allowed
