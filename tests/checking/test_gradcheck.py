"""The checks themselves: they pass on the library, and find what is wrong in a layer of one's own."""

from dataclasses import dataclass

import numpy as np
import pytest

from l2lnp.checking import distinct_values, gradcheck, gradcheck_all, second_slope, slope
from l2lnp.errors import InputError
from l2lnp.layers import FullyConnected, Layer


def test_the_library_passes():
    checks = list(gradcheck_all())
    assert [c for c in checks if not c.passed] == []
    assert {c.layer for c in checks} >= {
        "conv",
        "lstm",
        "max_pool",
        "softplus",
        "mean_squared_error",
        "network",
    }
    assert all(c.passed for c in gradcheck_all(dtype=np.float32))


def test_one_layer_can_be_named():
    assert {c.layer for c in gradcheck_all("conv")} == {"conv"}
    with pytest.raises(InputError, match="did you mean 'conv'"):
        list(gradcheck_all("cnov"))


@dataclass(frozen=True)
class Square(Layer):
    """y = x^2, each of its passes with a factor that is right at 1."""

    backward_factor: float = 1
    curvature_factor: float = 1
    backward_adjoint_factor: float = 1
    curvature_adjoint_factor: float = 1

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, params, x, space=None):
        return x**2, x

    def backward(self, params, cache, g_y, space=None, wants_x=True):
        return self.backward_factor * 2 * cache * g_y, {}

    def curvature(self, params, cache, g_y, h_y, space=None, wants_x=True):
        h_x = 4 * cache**2 * h_y + (0 if g_y is None else 2 * g_y)
        return self.curvature_factor * h_x, {}

    def backward_adjoint(self, params, cache, g_y, a_g_x, a_g):
        return 2 * cache * a_g_x, self.backward_adjoint_factor * 2 * g_y * a_g_x, {}

    def curvature_adjoint(self, params, cache, g_y, h_y, a_h_x, a_h):
        a_x = self.curvature_adjoint_factor * 8 * cache * h_y * a_h_x
        return 4 * cache**2 * a_h_x, None if g_y is None else 2 * a_h_x, a_x, {}


def test_a_right_layer_of_ones_own_passes():
    assert all(c.passed for c in gradcheck(Square(), (3,)))


class Forgetful(FullyConnected):
    """Gives no derivatives of its biases."""

    def backward(self, *args, **kwargs):
        g_x, g = super().backward(*args, **kwargs)
        return g_x, {"w": g["w"]}

    def curvature(self, *args, **kwargs):
        h_x, h = super().curvature(*args, **kwargs)
        return h_x, {"w": h["w"]}

    def squared_gradients(self, *args, **kwargs):
        return {"w": super().squared_gradients(*args, **kwargs)["w"]}


def test_a_derivative_that_is_not_given_is_found():
    failed = {c.name for c in gradcheck(Forgetful(4, 3), (4,)) if not c.passed}
    assert {"backward", "curvature"} <= failed


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("backward_factor", "backward"),
        ("curvature_factor", "curvature"),
        ("backward_adjoint_factor", "backward_adjoint"),
        ("curvature_adjoint_factor", "curvature_adjoint"),
    ],
)
@pytest.mark.parametrize("factor", [1.001, -1, float("nan")])
def test_a_wrong_pass_is_found(wrong, found, factor):
    failed = {c.name for c in gradcheck(Square(**{wrong: factor}), (3,)) if not c.passed}
    assert found in failed


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spoiled", ["backward", "curvature", "backward_adjoint", "curvature_adjoint"])
def test_a_number_that_is_none_is_found_wherever_it_stands(spoiled, dtype):
    class Spoiled(FullyConnected):
        pass

    def run(self, *args, **options):
        *others, params = getattr(FullyConnected, spoiled)(self, *args, **options)
        return *others, {name: np.nan * value for name, value in params.items()}

    setattr(Spoiled, spoiled, run)
    failed = {c.name for c in gradcheck(Spoiled(3, 2), (3,), dtype=dtype) if not c.passed}
    assert spoiled in failed


def test_a_pass_that_changes_its_arguments_is_found():
    class InPlace(Square):
        def backward(self, params, cache, g_y, space=None, wants_x=True):
            g_y *= 2 * cache
            return g_y, {}

    with pytest.raises(ValueError, match="read-only"):
        gradcheck(InPlace(), (3,))


def test_slopes_of_a_cubic():
    x, d = np.array([2.0]), np.array([1.0])
    assert slope(lambda v: (v**3).sum(), x, d) == pytest.approx(12)
    assert second_slope(lambda v: (v**3).sum(), x, d) == pytest.approx(12)


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 5), (2, 3, 4)])
def test_distinct_values_are_apart_and_not_zero(shape):
    values = np.sort(distinct_values(np.random.default_rng(0), shape).ravel())
    assert np.abs(values).min() > 0.2 / values.size
    assert values.size == 1 or np.diff(values).min() > 1 / values.size
