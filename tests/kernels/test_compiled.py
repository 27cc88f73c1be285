"""The loops compiled by Numba against NumPy's passes in float64."""

import subprocess
import sys

import numpy as np
import pytest

from l2lnp.benchmarks.problems import step_problem
from l2lnp.execution import Execution
from l2lnp.kernels import compiled_for, lstm, lstm_adjoint
from l2lnp.workspace import Workspace

compiled = pytest.importorskip("l2lnp.kernels.compiled", reason="Numba is not installed (extra 'fast')")

SINGLE = np.zeros(1, np.float32)


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


def part_of_a_wider_one(a):
    n = a.shape[1]
    part = np.zeros((len(a), 3 * n), np.float32)[:, n : 2 * n]
    part[...] = a
    return part


@pytest.fixture(params=[np.float32, part_of_a_wider_one], ids=["whole", "part"])
def agree(request):
    """The function that runs another on arrays by NumPy in float64, and by Numba, and compares them."""

    def run(function, arrays, atol):
        single = [request.param(a) for a in arrays]
        assert compiled_for(arrays[0]) is None
        assert compiled_for(single[0]) is compiled
        function(*arrays)
        function(*single)
        for a, b in zip(arrays, single, strict=True):
            np.testing.assert_allclose(b, a, rtol=2e-6, atol=atol)

    return run


def test_the_cell(agree):
    agree(lstm.cell, cell_arrays(np.random.default_rng(0)), 1e-6)


def test_the_adjoint_of_the_cell(agree):
    rng = np.random.default_rng(0)
    gates, before, after, tanh_after, hidden = cell_arrays(rng)
    lstm.cell(gates, before, after, tanh_after, hidden)
    a_hidden, a_cell = rng.normal(size=(2, *hidden.shape))
    arrays = [gates, before, tanh_after, hidden, a_hidden, a_cell, np.zeros_like(gates)]
    agree(lambda *arrays: lstm_adjoint.cell_adjoint(*arrays, Workspace()), arrays, 3e-6)


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
