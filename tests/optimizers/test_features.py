"""Features: their formulas, their adjoints off the beaten track, and that they stay finite."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.checking import slope
from l2lnp.errors import InputError
from l2lnp.optimizers import FEATURES, Context, Inputs
from l2lnp.optimizers.features.tensor import Shape
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.optimizers.signals import Segments
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers([("conv", {"w": (60,), "b": (1,)}), ("fully_connected", {"w": (4,)})])
P = LAYOUT.n_coordinates
WHOLE = Segments.of(LAYOUT, slice(0, P))
UNITS = np.array([0.3, 0.3, 2.0])
CONTEXT = Context(step=3, n_steps=12, batch_size=32)


def rows_after(name, moments, inputs, t=1, units=UNITS):
    """The feature's rows in a first step, or step t, from zero moments."""
    features = Preprocessing.named([name], decay=0.9)
    dtype = inputs.g.dtype
    moments = np.zeros((len(features.averages), P), dtype) if moments is None else moments
    after = features.advance(moments, inputs)
    inputs = inputs._replace(context=CONTEXT)
    statistics = features.statistics(after, t, inputs, units.astype(dtype), WHOLE)
    rows = np.empty((features.n_rows, P), dtype)
    features.fill(rows, after, t, inputs, statistics, WHOLE)
    return rows


def normal_inputs(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return Inputs(0.7, scale * rng.normal(size=P), scale * rng.normal(size=P))


def test_log_sign():
    x = np.zeros(P)
    x[:6] = [1.0, -np.exp(-5), np.exp(-10), -np.exp(-11), 0.0, np.e]
    expected = [[0, -0.5, -1, -1, -1, 0.1], [1, -1, 1, -np.exp(-1), 0, 1]]
    np.testing.assert_allclose(rows_after("log_sign_g", None, Inputs(1.0, x, x))[:, :6], expected, atol=1e-15)
    np.testing.assert_array_equal(
        rows_after("log_sign_g", None, Inputs(1.0, x, 0 * x)),
        rows_after("log_sign_h", None, Inputs(1.0, 0 * x, x)),
    )


def test_rnnprop_is_the_sign_in_the_first_step_and_corrected_later():
    first = normal_inputs()
    np.testing.assert_allclose(rows_after("rnnprop", None, first), np.sign(first.g) * np.ones((2, 1)))
    second = normal_inputs(seed=1)
    moments = np.stack([0.1 * first.g, 0.1 * first.g**2])
    m = (0.09 * first.g + 0.1 * second.g) / 0.19
    v = (0.09 * first.g**2 + 0.1 * second.g**2) / 0.19
    expected = [m / np.sqrt(v), second.g / np.sqrt(v)]
    np.testing.assert_allclose(rows_after("rnnprop", moments, second, t=2), expected)


def test_newton_ratio_is_clipped_and_has_rms_1_in_each_tensor():
    g, h = np.ones(P), np.ones(P)
    g[0] = -100.0
    (q,) = rows_after("newton_ratio", None, Inputs(1.0, g, -h))
    assert q[0] == -5.0
    np.testing.assert_allclose(q[61:], 1.0)
    np.testing.assert_allclose(q[1:60], 1 / np.sqrt((100.0**2 + 59) / 60))
    _, g, h, *_ = normal_inputs()
    (q,) = rows_after("newton_ratio", None, Inputs(1.0, g, h))
    step = g[:60] / (abs(h[:60]) + 0.1 * abs(h[:60]).mean())
    np.testing.assert_allclose(q[:60], np.clip(step / np.sqrt((step**2).mean()), -5, 5))


def test_newton_ratio_where_all_of_h_vanishes():
    """The step is huge then, in float32 its square would overflow; its direction counts."""
    g = normal_inputs().g.astype(np.float32)
    (q,) = rows_after("newton_ratio", None, Inputs(1.0, g, 0 * g))
    np.testing.assert_allclose(q[:60], g[:60] / np.sqrt((g[:60] ** 2).mean()), rtol=1e-4)


def test_log_noise():
    loss, g, h, *_ = normal_inputs()
    (row,) = rows_after("log_noise", None, Inputs(loss, g, h))
    np.testing.assert_allclose(row, np.log(g**2 / (abs(h) * loss)) / 5)


def test_momenta_agree_in_sign_and_forget_at_their_own_pace():
    first, second = normal_inputs(), normal_inputs(seed=1)
    np.testing.assert_allclose(rows_after("momenta", None, first), np.sign(first.g) * np.ones((3, 1)))
    features = Preprocessing.named(["momenta"], decay=0.9)
    after_first = features.advance(np.zeros((4, P)), first)
    v = (0.09 * first.g**2 + 0.1 * second.g**2) / 0.19
    fast = (0.09 * first.g + 0.1 * second.g) / 0.19
    slow = (0.0099 * first.g + 0.01 * second.g) / 0.0199
    v_slow = (0.0099 * first.g**2 + 0.01 * second.g**2) / 0.0199
    expected = [second.g / np.sqrt(v), fast / np.sqrt(v), slow / np.sqrt(v_slow)]
    np.testing.assert_allclose(rows_after("momenta", after_first, second, t=2), expected)


def test_significance_compares_with_the_noise_of_the_batch():
    loss, g, h, *_ = normal_inputs()
    of_g, of_m, excess = rows_after("significance", None, Inputs(loss, g, h))
    ratio = np.clip(g / np.sqrt(abs(h) / CONTEXT.batch_size), -6, 6) / 2
    np.testing.assert_allclose(of_g, ratio)
    np.testing.assert_allclose(of_m, ratio)  # in the first step the corrected mean is g
    np.testing.assert_allclose(excess, np.log(g**2 * CONTEXT.batch_size / abs(h)) / 4)
    assert abs(ratio).max() == 3.0


def test_what_tensors_have_in_common():
    loss, g, h, *_ = normal_inputs()
    inputs = Inputs(loss, g, h)
    np.testing.assert_allclose(rows_after("signal_share", None, inputs), 0.5, atol=1e-12)
    (size,) = rows_after("gradient_size", None, inputs)
    np.testing.assert_allclose(size[:60], np.log(np.sqrt((g[:60] ** 2).mean()) * UNITS[0] / loss) / 5)
    np.testing.assert_allclose(size[61:], np.log(np.sqrt((g[61:] ** 2).mean()) * UNITS[2] / loss) / 5)
    (size,) = rows_after("newton_size", None, inputs)
    newton = g[61:] / (abs(h[61:]) + 0.1 * abs(h[61:]).mean())
    np.testing.assert_allclose(size[61:], np.log(np.sqrt((newton**2).mean()) / UNITS[2]) / 5)


def test_the_signal_share_of_gradients_that_cancel_is_small():
    loss, g, h, *_ = normal_inputs()
    moments = Preprocessing.named(["signal_share"], 0.9).advance(np.zeros((2, P)), Inputs(loss, g, h))
    (share,) = rows_after("signal_share", moments, Inputs(loss, -g, h), t=2)
    m, v = 0.1 * (0.9 - 1.0) / 0.19, 0.1 * (0.9 + 1.0) / 0.19
    np.testing.assert_allclose(share, np.log(m**2 / v) / 3 + 0.5)


def test_the_clock():
    share, length = rows_after("clock", None, normal_inputs())
    np.testing.assert_allclose(share, 2 * 3 / 12 - 1)
    np.testing.assert_allclose(length, np.log(12 / 300) / 2)


@pytest.mark.parametrize(("name", "message"), [("clock", "how many steps"), ("significance", "batch size")])
def test_a_feature_says_what_it_has_to_be_told(name, message):
    features = Preprocessing.named([name], 0.9)
    inputs = normal_inputs()
    moments = features.advance(np.zeros((len(features.averages), P)), inputs)
    with pytest.raises(InputError, match=message):
        features.fill(np.empty((features.n_rows, P)), moments, 1, inputs, None, WHOLE)


@pytest.mark.parametrize("name", ["rnnprop", "momenta", "newton_ratio"])
def test_the_scale_of_the_loss_does_not_matter(name):
    loss, g, h, *_ = normal_inputs()
    scaled = Inputs(1e-3 * loss, 1e-3 * g, 1e-3 * h)
    np.testing.assert_allclose(
        rows_after(name, None, scaled), rows_after(name, None, Inputs(loss, g, h)), rtol=1e-9
    )


@given(st.floats(1e-3, 1e3), st.integers(0, 99))
def test_log_noise_does_not_change_when_theta_or_the_loss_is_rescaled(scale, seed):
    loss, g, h, *_ = normal_inputs(seed)
    expected = rows_after("log_noise", None, Inputs(loss, g, h))
    for other in (Inputs(loss, scale * g, scale**2 * h), Inputs(scale * loss, scale * g, scale * h)):
        np.testing.assert_allclose(rows_after("log_noise", None, other), expected, atol=1e-9)


def test_shape_and_loss_tell_where_a_tensor_and_the_run_stand():
    layers = [("conv", {"w": (8, 3, 5, 5), "b": (8,)}), ("fully_connected", {"w": (10, 64)})]
    layout = Layout.of_layers([("relu", {}), *layers, layers[1]])
    whole = Segments.of(layout, slice(0, layout.n_coordinates))
    g = np.zeros(layout.n_coordinates)
    features = Preprocessing.named(["shape", "loss"], decay=0.9)
    inputs = Inputs(0.7, g, g)
    statistics = features.statistics(np.zeros((0, g.size)), 1, inputs, None, whole)
    rows = np.empty((4, g.size))
    features.fill(rows, np.zeros((0, g.size)), 1, inputs, statistics, whole)
    of_conv = [np.log(75 / 64) / 3, 0.0, -1.0, np.log(0.75) / 2]
    for start, expected in ((0, of_conv), (600, of_conv), (608, [0, 0, 0]), (1248, [0, 0, 1])):
        np.testing.assert_allclose(rows[: len(expected), start], expected, atol=1e-15)
    only = Shape.of_layout(Layout.of_layers([layers[1]]), g)
    np.testing.assert_allclose(only, [[0.0], [np.log(1 / 3)], [1.0]])


EXTREMES = [0.0, -0.0, 1e-45, -1e-38, 1e-30, -1e-20, 1e-12, -1e-6, 1.0, -1e4, 1e8, -1e12]


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("loss", [0.0, 1e-30, -1.0, 1e6])
def test_features_and_adjoints_are_finite_at_extremes(name, loss):
    """Also with warnings as errors, in float32, with g and h of any sign, tiny, or zero."""
    pairs = np.array([(a, b) for a in EXTREMES for b in EXTREMES], np.float32)
    layout = Layout.of_layers([("conv", {"w": (len(pairs),), "b": (3,)}), ("conv", {"w": (4,)})])
    g = np.concatenate([pairs[:, 0], np.zeros(3, np.float32), pairs[:4, 0]])
    h = np.concatenate([pairs[:, 1], np.zeros(3, np.float32), 0 * pairs[:4, 1]])
    whole = Segments.of(layout, slice(0, layout.n_coordinates))
    features = Preprocessing.named([name], decay=0.95)
    moments = np.zeros((len(features.averages), g.size), np.float32)
    for t in (1, 2):
        inputs, units = Inputs(loss, g, h, context=CONTEXT), UNITS.astype(np.float32)
        before, moments = moments, features.advance(moments, inputs)
        statistics = features.statistics(moments, t, inputs, units, whole)
        rows = np.empty((features.n_rows, g.size), np.float32)
        features.fill(rows, moments, t, inputs, statistics, whole)
        assert np.isfinite(rows).all()
        a_rows = np.ones_like(rows)
        a_before, a = features.adjoint(a_rows, None, moments, t, inputs, units, statistics, whole)
        assert a_before.shape == before.shape
        assert all(np.isfinite(part).all() for part in (a.loss, a.g, a.h, a.units, a_before))


def sharp(rng):
    """Inputs with some entries below e^-10, and some Newton steps beyond the clip."""
    g, h = rng.normal(size=(2, P))
    g[:5] = rng.uniform(-0.9, 0.9, size=5) * np.exp(-10)
    h[3:9] = rng.uniform(-0.9, 0.9, size=6) * np.exp(-10)
    g[10] = 90.0
    return Inputs(-0.4, g, h, context=CONTEXT)


@pytest.mark.parametrize("name", FEATURES)
def test_adjoints_where_the_formula_has_another_branch(name):
    rng = np.random.default_rng(3)
    features = Preprocessing.named([name], decay=0.9)
    inputs = sharp(rng)
    a_rows = rng.normal(size=(features.n_rows, P))
    start = np.zeros((len(features.averages), P))
    moments = features.advance(start, inputs)
    statistics = features.statistics(moments, 1, inputs, UNITS, WHOLE)
    _, a = features.adjoint(a_rows, None, moments, 1, inputs, UNITS, statistics, WHOLE)
    d = rng.normal(size=UNITS.shape)
    numeric = slope(lambda v: np.vdot(a_rows, rows_after(name, None, inputs, units=v)), UNITS, d)
    np.testing.assert_allclose(np.vdot(a.units + 0 * UNITS, d), numeric, rtol=1e-6, atol=1e-7)
    for name_of, value in zip(("loss", "g", "h"), inputs, strict=False):
        d = rng.normal(size=np.shape(value)) * (1e-4 if name_of != "loss" else 1.0)
        numeric = slope(
            lambda v, n=name_of: np.vdot(a_rows, rows_after(name, None, inputs._replace(**{n: v}))),
            value,
            d,
        )
        np.testing.assert_allclose(np.vdot(getattr(a, name_of), d), numeric, rtol=1e-6, atol=1e-7)
