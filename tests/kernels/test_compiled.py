"""The loops compiled by Numba against NumPy's passes in float64."""

import os
import subprocess
import sys

import numpy as np
import pytest
from lstm_problem import problem

from l2lnp.benchmarks.problems import step_problem
from l2lnp.errors import InputError
from l2lnp.execution import Execution
from l2lnp.kernels import compiled_for, lstm, lstm_adjoint
from l2lnp.optimizers import SLSTM
from l2lnp.tree import Layout
from l2lnp.workspace import Workspace

compiled = pytest.importorskip("l2lnp.kernels.compiled", reason="Numba is not installed (extra 'fast')")

SINGLE = np.zeros(1, np.float32)
LAYOUT = Layout.of_layers(
    [
        ("conv", {"w": (8, 40), "b": (8,)}),
        ("fully_connected", {"w": (30, 25)}),
        ("conv", {"w": (1, 256), "b": (1,)}),
    ]
)


def tanh(x):
    return np.array([compiled.tanh(value) for value in x.astype(np.float32)])


def test_tanh_is_within_6_units_in_the_last_place():
    x = np.concatenate([np.linspace(-12, 12, 20_001), np.geomspace(1e-30, 1, 2_001)]).astype(np.float32)
    exact = np.tanh(x.astype(float))
    assert np.max(np.abs(tanh(x) - exact) / np.spacing(np.abs(exact).astype(np.float32))) < 6


def test_tanh_of_what_is_no_number_stays_that():
    found = tanh(np.array([np.nan, np.inf, -np.inf, 1e30, 0.0, -0.0]))
    np.testing.assert_allclose(found, [np.nan, 1, -1, 1, 0, 0], rtol=2e-7)
    assert np.signbit(found[-1])


def cell_arrays(rng, s=3, n=301):
    """Pre-activations and cells, among them far ones, and what is to be filled; exact in float32."""
    gates = rng.normal(size=(4 * s, n)) * 10 ** rng.uniform(-3, 1.5, n)
    cells = rng.normal(size=(s, n))
    return [a.astype(np.float32).astype(float) for a in (gates, cells, *np.zeros((3, s, n)))]


def agree(numpy, loops, arrays, atol):
    """Run ``numpy`` on arrays in float64, and ``loops`` in float32, and compare what became of them."""
    single = [a.astype(np.float32) for a in arrays]
    numpy(*arrays)
    loops(*single)
    for a, b in zip(arrays, single, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-6, atol=atol)


def test_the_cell():
    agree(lstm.cell, compiled.cell, cell_arrays(np.random.default_rng(0)), 1e-6)


def test_the_adjoint_of_the_cell():
    rng = np.random.default_rng(0)
    gates, before, after, tanh_after, hidden = cell_arrays(rng)
    lstm.cell(gates, before, after, tanh_after, hidden)
    a_hidden, a_cell = rng.normal(size=(2, *hidden.shape))
    arrays = [gates, before, tanh_after, hidden, a_hidden, a_cell, np.zeros_like(gates)]
    agree(
        lambda *arrays: lstm_adjoint.cell_adjoint(*arrays, Workspace()), compiled.cell_adjoint, arrays, 3e-6
    )


def both(optimizer, n_steps, run):
    """Return what ``run`` gives in float64 by NumPy and in float32 by loops, as lists of arrays."""
    results = []
    for dtype in (np.float64, np.float32):
        arguments = problem(optimizer, n_steps, dtype)
        assert (compiled_for(arguments[1]["lstm"]) is compiled) == (dtype == np.float32)
        results.append([np.asarray(a) for a in run(*arguments)])
    return zip(*results, strict=True)


def close(exact, single):
    np.testing.assert_allclose(single, exact, rtol=1e-4, atol=2e-5 * np.abs(exact).max())


@pytest.fixture(params=[("tanh", 300, 4), ("tanh", 2048, 1), ("linear", 2048, 1)])
def optimizer(request):
    """An LSTM over pieces of 256 coordinates, shorter ones and one of 1, with layers of unlike sizes."""
    head, chunk, lanes = request.param
    execution = Execution(chunk=chunk, lanes=lanes, threads=2)
    return SLSTM(LAYOUT, head=head, per="kind", n_units=(4, 3), execution=execution)


def test_a_step(optimizer):
    def run(phi, state, steps, a_u, a_state):
        u, after = optimizer.update(phi, state, steps[0])
        return u, optimizer.coordinatewise(after)

    for exact, single in both(optimizer, 1, run):
        close(exact, single)


@pytest.mark.parametrize("n_steps", [1, 5])
def test_several_steps_there_and_back(optimizer, n_steps):
    def run(*arguments):
        a_phi, a_state = optimizer.unroll_adjoint(*arguments)
        return *a_phi.values(), optimizer.coordinatewise(a_state | {"chunk": arguments[1]["chunk"]})

    for exact, single in both(optimizer, n_steps, run):
        close(exact, single)


def test_weights_of_another_precision_and_order(optimizer):
    phi, state, steps, a_u, a_state = problem(optimizer, 2, np.float32)
    other = {path: np.asfortranarray(w.astype(float)) for path, w in phi.items()}
    a, of_other = (optimizer.unroll_adjoint(p, state, steps, a_u, a_state)[0] for p in (phi, other))
    for path, value in a.items():
        np.testing.assert_array_equal(of_other[path], value)
    np.testing.assert_array_equal(*(optimizer.update(p, state, steps[0])[0] for p in (phi, other)))


def test_weights_of_other_sizes_are_refused(optimizer):
    phi, state, steps, _, _ = problem(optimizer, 1, np.float32)
    with pytest.raises(InputError, match=r"phi's conv/head/w must have shape \(1, 3\), not \(1, 4\)"):
        optimizer.update(phi | {"conv/head/w": np.zeros((1, 4), np.float32)}, state, steps[0])


def test_a_step_there_and_back_to_what_it_read(optimizer):
    def run(phi, state, steps, a_u, a_state):
        a = optimizer.update_adjoint(phi, state, steps[0], a_u[0], a_state)
        return *a.phi.values(), a.state["lstm"], a.state["moments"], a.g, a.h

    for exact, single in both(optimizer, 1, run):
        close(exact, single)


def test_the_blas_of_the_loops_is_held_to_one_thread_as_numpys():
    code = """
from threadpoolctl import threadpool_info
from l2lnp.execution import Execution
def pools(i):
    import scipy.linalg.cython_blas  # as Numba does for its first product
    return threadpool_info()
[found] = Execution().map(pools, 1)
assert {pool["num_threads"] for pool in found if pool["user_api"] == "blas"} == {1}, found
"""
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_step_of_the_optimizer(monkeypatch):
    problem = step_problem(5_000, Execution())

    def step():
        return problem.optimizer.update(problem.phi, problem.state, problem.inputs)

    u, state = step()
    monkeypatch.setenv("L2LNP_NUMBA", "0")
    assert compiled_for(SINGLE) is None
    other_u, other_state = step()
    np.testing.assert_allclose(u, other_u, atol=1e-6 * np.abs(other_u).max())
    np.testing.assert_allclose(state["lstm"], other_state["lstm"], atol=1e-6)
    assert not np.array_equal(u, other_u)  # it was another computation


def test_without_numba_numpy_does_it():
    code = """
import sys
sys.modules["numba"] = None
import numpy as np
from l2lnp.kernels import compiled_for, numba_version
assert compiled_for(np.zeros(1, np.float32)) is None
assert numba_version() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_nothing_can_be_kept_it_is_compiled_each_time(monkeypatch):
    jit, asked = compiled.numba.njit, []

    def njit(**options):
        asked.append(options)
        if "cache" in options:
            raise RuntimeError("no locator available")
        return jit(**options)

    monkeypatch.setattr(compiled.numba, "njit", njit)
    assert compiled._compiled(lambda x: x + 1)(1) == 2
    assert [options.get("cache") for options in asked] == [True, None]
