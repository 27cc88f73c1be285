"""Networks by name and from TOML: their sizes, and one clear sentence for each that cannot be."""

import re
from pathlib import Path

import numpy as np
import pytest

from l2lnp.errors import InputError
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
from l2lnp.networks import NETWORKS, NetworkFile, find_network
from l2lnp.networks.reader import ACTIVATIONS, KINDS

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def build(text, shape=(1, 6, 6), n_classes=10):
    return NetworkFile("net.toml", text).build(shape, n_classes)


def layer(**settings):
    return "[[layer]]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())


HEAD = layer(kind='"flatten"') + layer(kind='"fully_connected"', n_out='"classes"')


@pytest.mark.parametrize(
    ("name", "shape", "n_parameters"),
    [
        ("small", DIGITS, 8 * 9 + 8 + 10 * 128 + 10),
        ("small", MNIST, 16 * 25 + 16 + 10 * 2304 + 10),
        ("small", CIFAR, 16 * 75 + 16 + 10 * 16 * 14**2 + 10),
        ("big", DIGITS, 80 + 16 * 73 + 16 * 145 + 32 * 65 + 330),
        ("big", MNIST, 160 + 32 * 145 + 32 * 289 + 128 * (32 * 9 + 1) + 1290),
        ("row-lstm", DIGITS, 4 * 64 * (8 + 64 + 1) + 650),
    ],
)
def test_named_networks_have_the_sizes_agreed_on(name, shape, n_parameters):
    network = find_network(name, shape).build(shape, 10)
    assert network.layout.n_coordinates == n_parameters
    assert network.output_shape == (10,)


def test_the_small_network_for_digits_layer_by_layer():
    network = find_network("small", DIGITS).build(DIGITS, 10)
    assert network.layers == (
        Conv2D(1, 8, 3, 1, "same"),
        Activation("relu"),
        MaxPool2D(2, 2),
        Flatten(),
        FullyConnected(128, 10),
    )
    assert network.loss == SoftmaxCrossEntropy()


def test_every_kind_and_setting_is_read():
    text = (
        'name = "all"\ndescription = "every kind"\nloss = "mean_squared_error"\n'
        + layer(kind='"conv"', n_out=4, size="[3, 1]", stride="[1, 2]", padding="[1, 0]")
        + "".join(layer(kind=f'"{name}"') for name in ACTIVATIONS)
        + layer(kind='"max_pool"', size=2, stride=1, padding=1)
        + layer(kind='"avg_pool"', size=2)
        + layer(kind='"rows"')
        + layer(kind='"lstm"', n_units=5, returns='"all"')
        + layer(kind='"lstm"', n_units=3)
        + layer(kind='"fully_connected"', n_out='"classes"')
    )
    assert build(text).layers == (
        Conv2D(1, 4, (3, 1), (1, 2), (1, 0)),
        *(Activation(name) for name in ACTIVATIONS),
        MaxPool2D(2, 1, 1),
        AvgPool2D(2, 2),
        Rows(),
        LSTM(8, 5, "all"),
        LSTM(5, 3, "last"),
        FullyConnected(3, 10),
    )
    assert build(text).loss == MeanSquaredError()


@pytest.mark.parametrize("name", NETWORKS)
def test_named_networks_predict_for_every_shape_of_image(name):
    for shape in (DIGITS, MNIST, CIFAR):
        network = find_network(name, shape).build(shape, 7)
        theta = network.init(np.random.default_rng(0))
        assert network.predict(theta, np.ones((*shape, 2), np.float32)).shape == (7, 2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x = =\n", ["not valid TOML", "line 1"]),
        ("", ["no layer", "[[layer]]"]),
        ("layer = 3", ["no layer"]),
        ("layers = 3", ["unknown key 'layers'", "'layer'"]),
        ('loss = "hinge"\n' + HEAD, ["unknown loss 'hinge'", "softmax_cross_entropy"]),
        (layer(size=3), ["layer 1", "no kind"]),
        (layer(kind='["conv"]'), ["net.toml, layer 1: kind must be one of conv, ", "not ['conv']"]),
        (layer(kind='"conv"', n_out=10**26, size=3), ["n_out must be a whole number up to 2147483648"]),
        (layer(kind='"conv"', n_out=4, size=f"[3, {10**26}]"), ["up to 2147483648 or two of them"]),
        (layer(kind='"conv"', n_out=1, size=1, padding=10**9), ["layer 1 (conv): its output would be"]),
        (layer(kind='"rows"') + layer(kind='"lstm"', n_units=10**9), ["layer 2 (lstm): its w", "numbers"]),
        (HEAD + layer(kind='"conf"'), ["layer 3 (conf)", "did you mean 'conv'"]),
        (layer(kind='"conv"', size=3), ["layer 1 (conv)", "needs n_out"]),
        (layer(kind='"conv"'), ["needs n_out and size"]),
        (layer(kind='"conv"', n_out=4, sise=3), ["unknown setting 'sise'", "'size'"]),
        (layer(kind='"flatten"', size=3), ["layer 1 (flatten)", "no setting 'size'"]),
        (layer(kind='"conv"', n_out="true", size=3), ["n_out must be a whole number", "True"]),
        (layer(kind='"conv"', n_out="2.5", size=3), ["n_out must be a whole number", "2.5"]),
        (layer(kind='"conv"', n_out=4, size="[3, 3, 3]"), ["size must be", "two of them"]),
        (layer(kind='"conv"', n_out=4, size=3, padding='"full"'), ["padding must be", "'same' or 'valid'"]),
        (layer(kind='"conv"', n_out=0, size=3), ["layer 1 (conv)", "n_out", "0"]),
        (layer(kind='"conv"', n_out=4, size=7), ["layer 1 (conv)", "7 x 7", "6 x 6"]),
        (layer(kind='"conv"', n_out=4, size=3, stride=0), ["layer 1 (conv)", "stride"]),
        (layer(kind='"max_pool"', size=2, padding=2), ["layer 1 (max_pool)", "padding"]),
        (layer(kind='"fully_connected"', n_out=3), ["layer 1", "1 x 6 x 6", "flatten layer before"]),
        (layer(kind='"lstm"', n_units=3), ["layer 1 (lstm)", "rows layer before"]),
        (HEAD + layer(kind='"conv"', n_out=4, size=1), ["layer 3 (conv)", "an image", "vector", "of 10"]),
        (layer(kind='"rows"') + layer(kind='"lstm"', n_units=3, returns='"each"'), ["'last' or 'all'"]),
        (layer(kind='"flatten"'), ["the last layer gives a vector", "36", "10 classes"]),
        (layer(kind='"relu"'), ["the last layer gives an image", "1 x 6 x 6", "10 classes"]),
    ],
)
def test_an_impossible_network_file_gets_one_sentence(text, parts):
    with pytest.raises(InputError) as caught:
        build(text)
    message = str(caught.value)
    assert message.startswith("net.toml")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_network_with_nothing_to_learn_is_named():
    with pytest.raises(InputError, match=r"net\.toml: a network needs at least one layer with parameters"):
        build(layer(kind='"flatten"'), n_classes=36)


def test_images_too_small_for_a_named_network_are_said_to_be():
    with pytest.raises(
        InputError, match=r"network small, layer 1 \(conv\): its window of 5 x 5 does not fit"
    ):
        find_network("small", (1, 4, 4)).build((1, 4, 4), 10)


def test_unknown_names_and_missing_files(tmp_path):
    (tmp_path / "net.toml").write_text(HEAD)
    assert find_network(tmp_path / "net.toml", DIGITS) == NetworkFile(str(tmp_path / "net.toml"), HEAD)
    with pytest.raises(InputError, match="unknown network 'smal': did you mean 'small'"):
        find_network("smal", DIGITS)
    with pytest.raises(InputError, match=r"cannot read .*no\.toml: no such file"):
        find_network(str(tmp_path / "no.toml"), DIGITS)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        find_network(str(tmp_path / "latin.toml"), DIGITS)


def test_the_example_in_the_docs_is_a_network():
    page = (Path(__file__).parents[2] / "docs" / "network_files.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    network = build(example, (1, 28, 28))
    assert network.layers[2] == Conv2D(12, 12, (3, 5), 2)
    assert all(f"`{kind}`" in page for kind in KINDS)


def test_the_error_in_the_docs_is_the_one_that_is_given():
    text = (
        layer(kind='"conv"', n_out=4, size=3) + layer(kind='"relu"') + layer(kind='"conv"', n_out=4, size=9)
    )
    page = (Path(__file__).parents[2] / "docs" / "network_files.md").read_text()
    with pytest.raises(InputError) as caught:
        build(text)
    assert f"l2lnp: {caught.value}\n" in page
