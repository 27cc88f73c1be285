"""Layers, losses and their passes; `l2lnp.layers.base` explains them."""

from l2lnp.layers.activation import FUNCTIONS, Activation
from l2lnp.layers.base import Layer
from l2lnp.layers.conv import Conv2D
from l2lnp.layers.fully_connected import FullyConnected
from l2lnp.layers.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from l2lnp.layers.lstm import LSTM
from l2lnp.layers.pooling import AvgPool2D, MaxPool2D
from l2lnp.layers.routing import Flatten, Rows

__all__ = [
    "FUNCTIONS",
    "LSTM",
    "Activation",
    "AvgPool2D",
    "Conv2D",
    "Flatten",
    "FullyConnected",
    "Layer",
    "Loss",
    "MaxPool2D",
    "MeanSquaredError",
    "Rows",
    "SoftmaxCrossEntropy",
]
