"""A step of the learned optimizer in one CUDA kernel, run on the CPU, against array passes on NumPy."""

from dataclasses import replace

import numpy as np
import pytest
from moving import moved
from stand_in.graphs import DEVICE

from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda import lstm as cuda_lstm
from l2lnp.kernels.cuda import lstm_update, preprocessing, signals
from l2lnp.meta.settings import UNIVERSAL
from l2lnp.optimizers import make_optimizer
from l2lnp.optimizers.base import Context, Inputs
from l2lnp.optimizers.features import FEATURES, Feature
from l2lnp.optimizers.preprocessing import Preprocessing
from l2lnp.tree import Layout

LAYOUT = Layout.of_layers(
    [
        ("conv", {"w": (3, 4), "b": (3,)}),
        ("fully_connected", {"w": (2, 300), "b": (2,)}),
        ("fully_connected", {"w": (1, 2), "b": (1,)}),
    ]
)
CONTEXT = Context(5, 40, 7, 70)
SMALL = {"n_units": (3, 2), "per": "kind"}
MANY = tuple(UNIVERSAL["slstm"]["features"])
KINDS = [
    *({"features": (name,)} for name in FEATURES),
    {},
    {"features": tuple(FEATURES), "step_unit": "weights", "weight_decay": 0.3, "schedule": "cosine"},
    {"features": ("momenta",), "step_unit": "weights", "full_width": 2},
    {"features": MANY, "head": "linear", "per": "layer"},
    {"features": ("rnnprop", "momenta"), "decay": 0.9, "weight_decay": 0.3},
]
TOLERANCES = {np.float32: 3e-5, np.float64: 1e-11}


def problem(dtype, settings, execution=None, layout=LAYOUT):
    """Return a learned optimizer, phi, a state after a few steps, inputs and theta."""
    optimizer = make_optimizer("slstm", layout, execution, **SMALL | settings)
    rng, n = np.random.default_rng(3), layout.n_coordinates
    phi = {
        key: (v + 0.3 * rng.normal(size=v.shape)).astype(dtype) for key, v in optimizer.init_phi(rng).items()
    }
    g, h, theta = rng.normal(size=(3, n)).astype(dtype)
    g[:3], h[1:4] = 0, (0, -1, 30)  # clipped, and divided by next to nothing
    theta[:15] *= 0.5  # a layer whose unit is within its bounds; the next one's is beyond
    theta[-3:] *= 1e-5  # a layer whose weights nearly vanish
    inputs = Inputs(1.7, 0.1 * g, h, theta if optimizer.uses_theta else None, CONTEXT)
    state = optimizer.init_state(theta)
    state["moments"] += abs(rng.normal(size=state["moments"].shape)).astype(dtype)
    state["lstm"] += rng.normal(size=state["lstm"].shape).astype(dtype)
    return optimizer, phi, {**state, "t": 5}, inputs, theta


def results(made, optimizer):
    result, state = made
    return {"result": result, "moments": state["moments"], "lstm": optimizer.coordinatewise(state)}


def both(xp, dtype, settings, with_theta=True):
    """Return what the kernels give, and what array passes on NumPy do in float64."""
    optimizer, *arguments = problem(np.float64, settings, Execution(chunk=1 << 24))
    expected = stepped(optimizer, with_theta, *arguments)
    optimizer, *arguments = problem(dtype, settings, Execution(**ON_A_GPU))
    return stepped(optimizer, with_theta, *moved(xp, tuple(arguments))), expected


def stepped(optimizer, with_theta, phi, state, inputs, theta):
    made = optimizer.step(phi, state, inputs, theta) if with_theta else optimizer.update(phi, state, inputs)
    return results(made, optimizer)


def assert_close(ours, expected, dtype):
    for name, value in expected.items():
        mine = ours[name].get()
        assert mine.dtype == dtype
        assert np.abs(mine - value).max(initial=0) <= TOLERANCES[dtype] * np.abs(value).max(initial=1), name


@pytest.mark.parametrize("with_theta", [True, False])
@pytest.mark.parametrize("settings", KINDS, ids=lambda s: "-".join(map(str, s.values())) or "default")
def test_every_feature_head_and_unit(cupy, settings, with_theta):
    assert_close(*both(cupy, np.float64, settings, with_theta), np.float64)


@pytest.mark.parametrize("settings", KINDS[-4:], ids=str)
def test_in_single_precision(cupy, monkeypatch, settings):
    assert_close(*both(cupy, np.float32, settings), np.float32)
    monkeypatch.setattr(lstm_update, "tiling_for", lambda *of: cuda_lstm.Tiling(2, 1, 64))
    assert_close(*both(cupy, np.float32, settings), np.float32)


@pytest.mark.parametrize("tiling", [(1, 1, 64, 1), (2, 2, 128, 1)], ids=str)
@pytest.mark.parametrize("settings", KINDS[-4:], ids=str)
def test_by_tensor_cores(cupy, monkeypatch, settings, tiling):
    monkeypatch.setattr(lstm_update, "tiling_for", lambda *of: cuda_lstm.TensorTiling(*tiling))
    assert_close(*both(cupy, np.float32, settings | {"n_units": (12, 8)}), np.float32)


def test_weights_that_do_not_fit_in_shared_memory(cupy, monkeypatch):
    monkeypatch.setattr(cuda_lstm, "_MOST_SHARED_BYTES", 0)
    assert_close(*both(cupy, np.float64, {}), np.float64)


def test_an_lstm_reads_no_h(cupy):
    optimizer = make_optimizer("lstm", LAYOUT, Execution(**ON_A_GPU), **SMALL)
    phi, theta = optimizer.init_phi(np.random.default_rng(0), np.float64), np.ones(LAYOUT.n_coordinates)
    arguments = phi, optimizer.init_state(theta), Inputs(1.0, np.sin(np.arange(theta.size)), None), theta
    expected = stepped(optimizer, True, *arguments)
    assert_close(stepped(optimizer, True, *moved(cupy, arguments)), expected, np.float64)


def test_numbers_may_lie_on_the_device(cupy):
    settings = KINDS[len(FEATURES) + 1]
    optimizer, phi, state, inputs, theta = problem(np.float32, settings, Execution(**ON_A_GPU))
    phi, state, inputs, theta = moved(cupy, (phi, state, inputs, theta))
    there = inputs._replace(
        loss=cupy.asarray(np.array(1.7)), context=CONTEXT._replace(step=cupy.asarray(np.array(5.0)))
    )
    t = cupy.asarray(np.array(5.0))
    of_host = stepped(optimizer, True, phi, state, inputs, theta)
    of_device = stepped(optimizer, True, phi, {**state, "t": t}, there, theta)
    for name, value in of_host.items():
        np.testing.assert_allclose(of_device[name].get(), value.get(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "n_launches"),
    [
        ({"features": ("momenta", "significance", "log_noise", "clock")}, 2),  # averages; all layers
        ({"features": ("rnnprop", "signal_share")}, 3),  # and statistics
        ({}, 4),  # and sums that need means
        ({"features": ("rnnprop",), "step_unit": "weights"}, 3),
    ],
    ids=str,
)
def test_launches_of_a_step(cupy, settings, n_launches):
    optimizer, *arguments = problem(np.float32, settings, Execution(**ON_A_GPU))
    arguments = moved(cupy, tuple(arguments))
    before = DEVICE.n_launches
    optimizer.step(*arguments)
    assert DEVICE.n_launches - before == n_launches


def test_more_layers_than_a_launch_takes(cupy):
    layers = [("fully_connected", {"w": (3, k), "b": (3,)}) for k in range(1, 12)]
    layout, settings = Layout.of_layers(layers), {"per": "layer", "step_unit": "weights"}
    optimizer, *arguments = problem(np.float64, settings, Execution(chunk=1 << 24), layout)
    expected = stepped(optimizer, True, *arguments)
    ours, *arguments = problem(np.float64, settings, Execution(**ON_A_GPU), layout)
    assert_close(stepped(ours, True, *moved(cupy, tuple(arguments))), expected, np.float64)


def test_tensors_in_many_pieces(cupy, monkeypatch):
    """Cut into two pieces or more, which a block goes through in several turns."""
    monkeypatch.setattr(signals, "_MOST_PIECES", 2)
    signals._cuts.cache_clear()
    layout = Layout.of_layers([("fully_connected", {"w": (2, 900), "b": (2,)}), ("conv", {"w": (1, 300)})])
    assert signals._cuts((1800, 2, 300)) == ((0, 1280, 1800, 1802, 2102), (0, 2, 3, 4))
    settings = {"features": MANY, "step_unit": "weights"}
    optimizer, *arguments = problem(np.float64, settings, Execution(chunk=1 << 24), layout)
    expected = stepped(optimizer, True, *arguments)
    ours, *arguments = problem(np.float64, settings, Execution(**ON_A_GPU), layout)
    assert_close(stepped(ours, True, *moved(cupy, tuple(arguments))), expected, np.float64)
    signals._cuts.cache_clear()


def test_a_feature_that_is_not_in_cuda_goes_by_array_passes(cupy, monkeypatch):
    class Sign(Feature):
        def rows(self, signals, statistics):
            return [signals.g * 2.0]

    monkeypatch.setitem(FEATURES, "sign", Sign)
    assert {f.__name__ for f in FEATURES.values()} - preprocessing.in_cuda().keys() == {"Sign"}
    assert_close(*both(cupy, np.float64, {"features": ("sign", "rnnprop"), "weight_decay": 0.3}), np.float64)


def test_every_feature_is_in_cuda_with_its_numbers():
    for feature in FEATURES.values():
        counts = preprocessing.in_cuda()[feature.__name__]
        assert counts[:2] == (feature.n_rows, feature.n_statistics)
    told = lstm_update.compiled_for(Preprocessing.named(("rnnprop", "newton_ratio", "clock"), 0.9), "linear")
    assert told == {
        "AVERAGES": 3,
        "DECAYS": "0.9,0.9,0.9",
        "OBSERVED": "G,G_SQUARED,H_SIZE",
        "FEATURES": "RNNprop<0,1>,NewtonRatio<0,2>,Clock",
        "TANH": 0,
        "CHUNKS": 8,
    }


def test_wrong_arguments_are_refused(cupy):
    optimizer, phi, state, inputs, theta = problem(np.float32, {}, Execution(**ON_A_GPU))
    phi, state, inputs, theta = moved(cupy, (phi, state, inputs, theta))
    with pytest.raises(ValueError, match="theta must be"):
        optimizer.step(phi, state, inputs, theta.astype(np.float64))
    with pytest.raises(ValueError, match="h must be"):
        optimizer.update(phi, state, inputs._replace(h=inputs.h.astype(np.float64)))
    with pytest.raises(ValueError, match="lstm1/w must have shape"):
        replace(optimizer, n_units=(4, 2)).update(
            phi, {**state, "lstm": cupy.zeros(12 * theta.size, "f")}, inputs
        )


PLANTED = {
    "statistics of the next tensor": ("observed.cuh", "{statistics + of,", "{statistics + of + 1,"),
    "tensors by the chunk": (
        "lstm_update.cu",
        "seen.features(at, x)",
        "(seen.features(at, x), seen.tensor(at - chunk.first))",
    ),
    "first tensor for all": ("features.cuh", "low = middle;", "low = 0, high = 0;"),
    "first chunk for all": ("observed.cuh", "blockIdx.x) ++c;", "blockIdx.x) n_chunks = 0;"),
    "states of the first chunk": ("lstm_update.cu", "of_state = chunk.state + ", "of_state = "),
    "no correction": ("observed.cuh", "/ corrections[i];", ";"),
    "scale inside the tanh": (
        "lstm_update.cu",
        "scale * (TANH ? tanh(output)",
        "(TANH ? tanh(scale * output)",
    ),
    "theta kept whole": ("lstm_update.cu", "(kept_there, kept);", "(kept_there, 1.0);"),
    "statistics of the feature before": (
        "features.cuh",
        ", of.of_tensor += Features::STATISTICS * of.n_tensors",
        "",
    ),
    "means of the feature before": ("features.cuh", "later, of), means += Features::MEANS", "later, of)"),
    "terms of the feature before": ("features.cuh", "terms(s, x), x += Features::MEANS", "terms(s, x)"),
    "means where none are asked for": ("features.cuh", "REAL(0.1) * REAL(means[0])", "REAL(0.1)"),
    "units of each tensor's own": ("signals.cu", "int(weights[tensor])", "tensor"),
    "the first tensor's shape": ("signals.cu", "shapes[i * n_tensors + tensor]", "shapes[i * n_tensors]"),
    "no least unit": ("signals.cu", "rms < REAL(least_unit)", "rms < 0"),
    "sums, not means": ("signals.cu", "means[i] /= double(pieces[end] - pieces[first])", "means[i] *= 1"),
    "a piece too few": ("signals.cu", "p < end; p += THREADS", "p < end - (p > first); p += THREADS"),
    "half of a block": ("signals.cu", "int half = THREADS / 2;", "int half = THREADS / 4;"),
    "slow scale": ("features.cuh", "s.averages[V_SLOW] + TINY", "s.averages[V] + TINY"),
    "no clipping": ("features.cuh", "x < -limit ? -limit", "x < -limit ? x"),
    "noise of one sample": ("features.cuh", "/ s.samples", ""),
    "g for h": ("features.cuh", "log_sign(s.h, x)", "log_sign(s.g, x)"),
    "g not squared": ("signals.cu", "g * g :", "g :"),
    "decay the wrong way": ("signals.cu", "REAL(1 - decays[a]) *", "REAL(decays[a]) *"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_seen(cupy, plant, name):
    plant(*PLANTED[name])
    ours, expected = both(cupy, np.float64, KINDS[len(FEATURES) + 1])
    with pytest.raises(AssertionError):
        assert_close(ours, expected, np.float64)
