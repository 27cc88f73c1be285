"""Errors planted in the code, one at a time: each must make the tests that watch over it fail."""

import pytest

from .planting import Planted, assert_caught

pytestmark = pytest.mark.slow

LAYERS = ("tests/layers",)
EKFAC = "tests/test_curvature.py::test_ekfac_is_the_mean_square_of_the_turned_gradients_of_single_samples"
GRAPHS = "tests/runs/test_blocks.py::test_a_graph_between_two_refreshes_of_the_basis"
COMPILED = "tests/kernels/test_compiled.py::"  # one test of it, which compiles no more than it needs
THERE_AND_BACK = (COMPILED + "test_several_steps_there_and_back",)
KERNELS = ("tests/kernels/test_convolution.py",)

PLANTED = [
    Planted("w for w^2", "layers/affine.py", "product(w * w, h_y", "product(w, h_y", LAYERS),
    Planted("x for x^2", "layers/affine.py", "multiply(x, x, out", "multiply(x, 1, out", LAYERS),
    Planted(
        "x for x^2 in convolutions",
        "kernels/convolution.py",
        "multiply(taps, taps, out",
        "multiply(taps, 1, out",
        LAYERS,
    ),
    Planted("missing factor 2", "layers/affine.py", "a_x = 2 * _values(x)", "a_x = _values(x)", LAYERS),
    Planted("bias forgotten", "layers/affine.py", ', b=a_h["b"])', ")", LAYERS),
    Planted(
        "square before the sum over positions",
        "layers/affine.py",
        "g_b_squared = signs * along_modes(g_y.sum(1), modes[:1], axes) ** 2",
        "g_b_squared = signs * (g_y**2).sum(1)",
        LAYERS,
    ),
    Planted(
        "a gate that keeps too much",
        "kernels/compiled.py",
        "* (f_k * c[k]",
        "* (i_k * c[k]",
        (COMPILED + "test_the_cell",),
    ),
    Planted(
        "slope of another gate",
        "kernels/compiled.py",
        "(_TWO - f[k]) *",
        "(_TWO - i[k]) *",
        (COMPILED + "test_the_adjoint_of_the_cell",),
    ),
    Planted(
        "hidden state not doubled",
        "kernels/compiled.py",
        "_fill(x2, s1 + 1, _TWO",
        "_fill(x2, s1 + 1, _ONE",
        (COMPILED + "test_a_step",),
    ),
    Planted(
        "features of another piece",
        "kernels/compiled.py",
        "_take(features[t], first + start,",
        "_take(features[t], first,",
        THERE_AND_BACK,
    ),
    Planted(
        "cotangent from the layer above forgotten",
        "kernels/compiled.py",
        "_add(a_hidden1, from_gates2)",
        "_add(from_gates2, a_hidden1)",
        THERE_AND_BACK,
    ),
    Planted(
        "another BLAS's threads forgotten",
        "execution.py",
        'import_module("scipy.linalg.cython_blas")',
        "pass",
        (COMPILED + "test_the_blas_of_the_loops_is_held_to_one_thread_as_numpys",),
    ),
    Planted("transposed tap", "kernels/windows.py", "columns[:, i, j]", "columns[:, j, i]", LAYERS),
    Planted("kernel not turned", "kernels/convolution.py", "[:, :, ::-1, ::-1]", "[:, :, ::-1]", KERNELS),
    Planted(
        "pixels of a pooling out of order",
        "kernels/convolution.py",
        "t * n_parts * along",
        "t * along",
        KERNELS,
    ),
    Planted(
        "margin left as it was",
        "kernels/convolution.py",
        "padded.fill(0.0)",
        "pass",
        KERNELS,
    ),
    Planted(
        "odd pixel at the start",
        "layers/window.py",
        "totals[0] // 2, (totals[0] + 1) // 2",
        "(totals[0] + 1) // 2, totals[0] // 2",
        LAYERS,
    ),
    Planted(
        "all equal maxima win",
        "kernels/windows.py",
        "xp.greater(is_there[:, tap], is_taken, out=is_there[:, tap])",
        "pass",
        LAYERS,
    ),
    Planted(
        "every part of the channels has the first one's weights",
        "kernels/windows.py",
        "w[:, start * i * j : (start + step) * i * j]",
        "w[:, : len(padded[start : start + step]) * i * j]",
        ("tests/kernels/test_windows.py",),
    ),
    Planted("max pooling padded with 0", "kernels/windows.py", "space, -xp.inf)", "space, 0.0)", LAYERS),
    Planted(
        "h by 1/k^2 in average pooling",
        "layers/routing.py",
        "self.weight**2, self.scatter",
        "self.weight, self.scatter",
        LAYERS,
    ),
    Planted(
        "f'' g_y dropped", "layers/activation.py", "h_x += self.function.second(*cache) * g_y", "pass", LAYERS
    ),
    Planted("wrong third derivative", "layers/activation.py", "(6 * y * y - 2)", "(6 * y * y + 2)", LAYERS),
    Planted("relu slope 1 at 0", "kernels/masks.py", "multiply(x > 0,", "multiply(x >= 0,", LAYERS),
    Planted("gates swapped", "layers/lstm_cell.py", '"ifon".index', '"fion".index', LAYERS),
    Planted(
        "product's square dropped",
        "layers/lstm_cell.py",
        "cell.partner() ** 2 * _carrier",
        "cell.partner() * _carrier",
        LAYERS,
    ),
    Planted(
        "tanh'' of the cell dropped",
        "layers/lstm_cell.py",
        "h_c_next = h_c_next - 2 * s * (1 - s**2) * g.s",
        "pass",
        LAYERS,
    ),
    Planted(
        "slope of the slope", "layers/lstm_cell.py", "1 - 6 * y + 6 * y**2", "1 - 6 * y + 3 * y**2", LAYERS
    ),
    Planted(
        "time steps not summed",
        "layers/lstm.py",
        "g, g_hidden, g_c = add_params(g, g_t),",
        "g, g_hidden, g_c = g_t,",
        LAYERS,
    ),
    Planted(
        "softmax coupling dropped", "layers/losses.py", "return v - cache.p * v.sum(0)", "return v", LAYERS
    ),
    Planted("(1 - 2p) forgotten", "layers/losses.py", "(1 - 2 * p) * a_h_z", "a_h_z", LAYERS),
    Planted(
        "mean over the part, not the batch",
        "kernels/losses.py",
        "* t).sum(0)).sum() / n_total",
        "* t).sum(0)).sum() / z.shape[1]",
        LAYERS,
    ),
    Planted(
        "adjoint of the head forgotten",
        "network.py",
        "total[i] = add_params(total[i], a_w)",
        "pass",
        ("tests/test_network.py",),
    ),
    Planted(
        "last lane lost",
        "execution.py",
        "range(n_lanes + 1)]",
        "range(n_lanes)] + [0]",
        ("tests/test_execution.py",),
    ),
    Planted(
        "sign of a curved unit",
        "curvature.py",
        "signs = array_module(row).sign(row)",
        "signs = array_module(row).ones_like(row)",
        ("tests/test_curvature.py",),
    ),
    Planted(
        "labels not drawn from p",
        "layers/losses.py",
        "cache.p.cumsum(0)[:-1] <= u",
        "cache.p.cumsum(0)[:-1] <= u / 2",
        LAYERS,
    ),
    Planted(
        "momentum forgets",
        "optimizers/sgd.py",
        "self.momentum * state",
        "state",
        ("tests/optimizers/test_hand_designed.py",),
    ),
    Planted(
        "Adam's bias not corrected",
        "optimizers/adam.py",
        "1.0 - self.beta_2**t",
        "1.0",
        ("tests/optimizers/test_hand_designed.py",),
    ),
    Planted(
        "SOU divides by h, not by its size",
        "optimizers/second_order.py",
        "abs(inputs.h)",
        "inputs.h",
        ("tests/optimizers/test_hand_designed.py",),
    ),
    Planted(
        "factor 2 of g^2 forgotten",
        "optimizers/signals.py",
        "2.0 * g * a_observed",
        "g * a_observed",
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "statistics of a tensor taken as constant",
        "optimizers/features/curvature.py",
        "(a_q - q * tensors.spread(tensors.mean(a_q * q)))",
        "a_q",
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "step unit taken as constant",
        "optimizers/weight_unit.py",
        "a_theta[w] += moving",
        "a_theta[w] += 0 * moving",
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "unit without its largest",
        "optimizers/lstm_forward.py",
        "WeightUnit(self.layout, self.unit_limit, self.full_width)",
        "WeightUnit(self.layout, full_width=self.full_width)",
        ("tests/optimizers/test_weight_unit.py",),
    ),
    Planted(
        "steps in wide layers as long as in others",
        "optimizers/lstm_forward.py",
        "self._weight_unit.of_steps(observed.units)",
        "observed.units",
        ("tests/optimizers/test_weight_unit.py",),
    ),
    Planted(
        "shorter steps in wide layers without their derivative",
        "optimizers/lstm.py",
        "like(self._factor(inputs), a_output) * self._weight_unit.step_shares(a_output)",
        "like(self._factor(inputs), a_output)",
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "a unit at its largest that still moves",
        "optimizers/weight_unit.py",
        "xp.where(units == rms, a_units, 0)",
        "a_units",
        ("tests/optimizers/test_weight_unit.py",),
    ),
    Planted(
        "folded halves not unfolded",
        "kernels/lstm.py",
        '"head/w": 0.5 * a.w3',
        '"head/w": a.w3',
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "last update gets no credit",
        "meta/unroll.py",
        "        a_u.append(a_theta)",
        "        a_u.append(0 * a_theta if not a_u else a_theta)",
        ("tests/meta/test_unroll.py",),
    ),
    Planted(
        "a held h counts for its first step alone",
        "optimizers/held_curvature.py",
        "a_state[_H] + a.h",
        "a.h",
        ("tests/optimizers/test_update_adjoint.py",),
    ),
    Planted(
        "imitation goes down half its slope",
        "meta/imitation.py",
        "like(2.0 * scale, error)",
        "like(scale, error)",
        ("tests/meta/test_imitation.py",),
    ),
    Planted(
        "weight decay left out of the meta-gradient",
        "meta/unroll.py",
        "a_theta = _through_decay(optimizer, step, a_theta)",
        "a_theta = 1.0 * a_theta",
        ("tests/meta/test_unroll.py",),
    ),
    Planted(
        "loss dropped from the exact meta-gradient",
        "meta/unroll.py",
        "step.weight + a.loss",
        "step.weight",
        ("tests/meta/test_unroll.py",),
    ),
    Planted(
        "state reset at a truncation",
        "meta/joint.py",
        "        self._tape = Tape(training.state)\n",
        "        training.state['lstm'][...] = 0\n        self._tape = Tape(training.state)\n",
        ("tests/meta/test_joint.py",),
    ),
    Planted(
        "cotangent of the update not rotated",
        "optimizers/in_basis.py",
        "inside, self._rotate(axes, a_u), a_state)",
        "inside, a_u, a_state)",
        ("tests/optimizers/test_in_basis.py",),
    ),
    Planted(
        "cotangents of an unroll not rotated",
        "optimizers/in_basis.py",
        "[self._rotate(axes, a) for a in a_u]",
        "list(a_u)",
        ("tests/meta/test_in_basis.py",),
    ),
    Planted(
        "cotangent of the state turned the wrong way",
        "optimizers/in_basis.py",
        "carried(a_state, lambda v: self._rotate_back(turn, v))",
        "carried(a_state, lambda v: self._rotate(turn, v))",
        ("tests/optimizers/test_in_basis.py",),
    ),
    Planted(
        "axes transposed",
        "kernels/products.py",
        "v = matmul(v.reshape(before, width), axes[k])",
        "v = matmul(v.reshape(before, width), axes[k].T)",
        ("tests/test_basis.py",),
    ),
    Planted(
        "a mode left out",
        "kernels/products.py",
        "if k in axes:",
        "if k < 2 and k in axes:",
        ("tests/test_basis.py",),
    ),
    Planted(
        "biases not rotated",
        "basis.py",
        "along_modes(v[t.coordinates], t.modes, of_layer(axes, t.layer))",
        'along_modes(v[t.coordinates], t.modes, of_layer(axes, t.layer) if t.name != "b" else {})',
        ("tests/test_basis.py",),
    ),
    Planted(
        "columns turned over at a refresh",
        "basis.py",
        "q = xp.ascontiguousarray(q * xp.where(d < 0, -1, 1).astype(q.dtype))",
        "q = xp.ascontiguousarray(q)",
        ("tests/test_basis.py",),
    ),
    Planted(
        "squares before they are turned",
        "layers/affine.py",
        "x_squared = along_modes(x[:, 0], modes[1:], of_inputs) ** 2",
        "x_squared = x[:, 0] ** 2",
        (EKFAC,),
    ),
    Planted(
        "squares of the batch's mean, not of samples",
        "curvature.py",
        "weights = n_total * array_module",
        "weights = array_module",
        (EKFAC,),
    ),
    Planted(
        "a refresh replayed as a step between",
        "optimizers/in_basis.py",
        "next(steps, most))",
        "most)",
        (GRAPHS,),
    ),
    Planted(
        "axes of the graph not renewed",
        "runs/captured.py",
        "self._sources.get(key) is not new:",
        "key not in self._sources:",
        (GRAPHS,),
    ),
    Planted("steps of the graph not counted", "runs/captured.py", "after[key] - n for", "0 for", (GRAPHS,)),
    Planted(
        "made on another device",
        "optimizers/features/tensor.py",
        "xp.ones_like(g)",
        "xp.ones(g.shape)",
        ("tests/backend/test_array_api_strict.py",),
    ),
    Planted(
        "the loss read at every step",
        "runs/blocks.py",
        "numbers[done] = report.loss",
        "numbers[done] = float(report.loss)",
        ("tests/meta/test_trainer_on_device.py", "tests/experiments/test_job.py"),
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_planted_error_is_caught(planted, tmp_path):
    if planted.tests[0].startswith(COMPILED):
        pytest.importorskip("numba", reason="Numba is not installed (extra 'fast')")
    assert_caught(planted, tmp_path)
