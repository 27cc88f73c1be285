"""Where tensors lie in theta."""

import numpy as np

from l2lnp.tree import Layout, add_params

LAYOUT = Layout.of_layers(
    [("conv", {"w": (2, 3), "b": (2,)}), ("", {}), ("fully_connected", {"w": (4, 1), "b": (4,)})]
)


def test_tensors_lie_one_after_the_other():
    assert [(t.layer, t.kind, t.name, t.start, t.stop) for t in LAYOUT.tensors] == [
        (0, "conv", "w", 0, 6),
        (0, "conv", "b", 6, 8),
        (2, "fully_connected", "w", 8, 12),
        (2, "fully_connected", "b", 12, 16),
    ]
    assert LAYOUT.n_coordinates == 16
    assert LAYOUT.layers == {0: ("conv", slice(0, 8)), 2: ("fully_connected", slice(8, 16))}


def test_the_weights_of_a_layer_are_w_or_else_its_first_tensor():
    layout = Layout.of_layers(
        [("conv", {"b": (2,), "w": (2, 3, 4)}), ("", {}), ("scale", {"gain": (3, 2), "offset": (3,)})]
    )
    assert layout.weights == {0: 1, 2: 2}
    assert layout.weights_of_tensors == (1, 1, 2, 2)
    assert layout.fan_ins == (12, 12, 2, 2)


def test_split_gives_views_and_join_is_its_inverse():
    theta = np.arange(16.0)
    params = LAYOUT.split(theta)
    assert params[2]["w"].shape == (4, 1)
    params[0]["b"][0] = -1
    assert theta[6] == -1
    joined = LAYOUT.join(params)
    np.testing.assert_array_equal(joined, theta)
    assert not np.shares_memory(joined, theta)


def test_a_plain_vector_is_one_tensor():
    layout = Layout.of_vector(5)
    assert layout.n_coordinates == 5
    np.testing.assert_array_equal(layout.split(np.arange(5.0))[0]["w"], np.arange(5.0))


def test_missing_tensors_count_as_zero():
    assert add_params({"w": 1, "b": 2}, {"w": 10}) == {"w": 11, "b": 2}
    assert add_params({}, {"w": 10}) == {"w": 10}
