"""Tiny networks that together hold every kind of layer, each with a batch that fits it."""

import numpy as np

from l2lnp.layers import (
    LSTM,
    Activation,
    AvgPool2D,
    Conv2D,
    Flatten,
    FullyConnected,
    MaxPool2D,
    MeanSquaredError,
    Rows,
    SoftmaxCrossEntropy,
)
from l2lnp.network import Sequential

SHAPE = (2, 4, 4)
CROSS_ENTROPY = SoftmaxCrossEntropy()


def convolutional(activation="tanh"):
    f = Activation(activation)
    layers = (
        Conv2D(2, 3, 3, padding="same"),
        f,
        AvgPool2D(2),
        Conv2D(3, 2, 2),
        f,
        Flatten(),
        FullyConnected(2, 4),
    )
    return Sequential(layers, CROSS_ENTROPY, SHAPE)


def max_pooling(activation="relu"):
    layers = (
        Conv2D(2, 3, 3, padding="same"),
        Activation(activation),
        MaxPool2D(2),
        Flatten(),
        FullyConnected(12, 4),
    )
    return Sequential(layers, CROSS_ENTROPY, SHAPE)


def fully_connected(activation="softplus"):
    layers = (Flatten(), FullyConnected(32, 3), Activation(activation), FullyConnected(3, 4))
    return Sequential(layers, MeanSquaredError(), SHAPE)


def curved_head():
    layers = (Flatten(), FullyConnected(32, 4), Activation("sigmoid"))
    return Sequential(layers, CROSS_ENTROPY, SHAPE)


def row_lstm():
    return Sequential((Rows(), LSTM(8, 3), FullyConnected(3, 4)), CROSS_ENTROPY, SHAPE)


def stacked_lstm():
    return Sequential((Rows(), LSTM(8, 3, "all"), LSTM(3, 4)), CROSS_ENTROPY, SHAPE)


NETWORKS = {
    f.__name__: f for f in (convolutional, max_pooling, fully_connected, curved_head, row_lstm, stacked_lstm)
}


def draw_batch(network, seed=0, n_samples=7, dtype=np.float64):
    """Return theta, x and targets; theta away from its start so that biases matter."""
    rng = np.random.default_rng(seed)
    theta = network.init(rng, dtype)
    theta = (theta + 0.1 * rng.normal(size=theta.shape)).astype(dtype)
    x = rng.normal(size=(*network.input_shape, n_samples)).astype(dtype)
    if network.loss == CROSS_ENTROPY:
        return theta, x, rng.integers(0, network.output_shape[0], n_samples)
    return theta, x, rng.normal(size=(*network.output_shape, n_samples)).astype(dtype)
