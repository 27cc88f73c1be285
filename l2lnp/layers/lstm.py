"""LSTM over a sequence, so that a row-by-row image classifier can be an optimizee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from l2lnp import initializers
from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError, check_positive, unknown_name
from l2lnp.layers import affine, lstm_cell
from l2lnp.layers.base import FRESH, Layer, Shape
from l2lnp.layers.lstm_cell import Backward, Cell, Cotangents, Curvature
from l2lnp.tree import Params, add_params
from l2lnp.workspace import Fresh


class LSTMCache(NamedTuple):
    """Per time step: the cell's values and z = [x; hidden before the step] (K + S, N)."""

    cells: list[Cell]
    z: list[Array]


@dataclass(frozen=True)
class LSTM(Layer):
    """LSTM over (features, time, batch) = (K, T, N); W (4 S, K + S), b (4 S,), gates in the order i, f, o, n.

    ``returns="last"`` gives the last hidden state (S, N), ``"all"`` every one (S, T, N).

    Notes
    -----
    ``curvature`` drops the products between gates, between units and between time steps.
    The parameters' derivatives are summed over time. The forget gate's bias starts at 1.

    References
    ----------
    Hochreiter & Schmidhuber (1997); Gers et al. (2000) for the forget gate.
    """

    n_in: int
    n_units: int
    returns: str = "last"

    kind: ClassVar[str] = "lstm"

    def __post_init__(self) -> None:
        check_positive("lstm layer", n_in=self.n_in, n_units=self.n_units)
        if self.returns not in ("last", "all"):
            raise unknown_name("value of 'returns' in an lstm layer", self.returns, ("last", "all"))

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2 or input_shape[0] != self.n_in:
            raise InputError(f"lstm layer: takes ({self.n_in}, time) sequences, not {input_shape}")
        return (self.n_units,) if self.returns == "last" else (self.n_units, input_shape[1])

    def param_shapes(self) -> dict[str, Shape]:
        return {"w": (4 * self.n_units, self.n_in + self.n_units), "b": (4 * self.n_units,)}

    def init_params(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        b = np.zeros(4 * self.n_units)
        b[self.n_units : 2 * self.n_units] = 1
        return {"w": initializers.glorot_uniform(rng, self.param_shapes()["w"]), "b": b}

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, LSTMCache]:
        xp = array_module(x)
        hidden = c = xp.zeros((self.n_units, x.shape[2]), x.dtype)
        hiddens, cells, zs = [], [], []
        for t in range(x.shape[1]):
            z = xp.concatenate([x[:, t], hidden])
            hidden, c, cell = lstm_cell.forward(affine.forward(params, z), c)
            hiddens.append(hidden)
            cells.append(cell)
            zs.append(z)
        y = hidden if self.returns == "last" else xp.stack(hiddens, axis=1)
        return y, LSTMCache(cells, zs)

    def backward(
        self,
        params: Params,
        cache: LSTMCache,
        g_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        _, g_zs, g = self._backward_through_time(params, cache, g_y)
        return self._inputs(g_zs), g

    def curvature(
        self,
        params: Params,
        cache: LSTMCache,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        gs = None if g_y is None else self._backward_through_time(params, cache, g_y)[0]
        _, h_zs, h = self._curvature_through_time(params, cache, gs, h_y)
        return self._inputs(h_zs), h

    def backward_adjoint(
        self, params: Params, cache: LSTMCache, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array, Array, Params]:
        gs, _, _ = self._backward_through_time(params, cache, g_y)
        a_g_y, mores, a_zs, a_params = self._backward_adjoint(params, cache, gs, a_g_x, a_g, None)
        a_x, a_params = self._through_values(params, cache, mores, a_zs, a_params)
        return a_g_y, a_x, a_params

    def curvature_adjoint(
        self,
        params: Params,
        cache: LSTMCache,
        g_y: Array | None,
        h_y: Array,
        a_h_x: Array | None,
        a_h: Params,
    ) -> tuple[Array, Array | None, Array, Params]:
        gs = None if g_y is None else self._backward_through_time(params, cache, g_y)[0]
        hs, _, _ = self._curvature_through_time(params, cache, gs, h_y)
        hidden = c = array_module(h_y).zeros_like(cache.cells[0].c)
        a_hiddens, mores, a_zs, a_gs = [], [], [], []
        a_params: Params = {}
        for t, (cell, z) in enumerate(zip(*cache, strict=True)):
            a_h_a, a_z, a_params_t = affine.curvature_adjoint(
                params, z, hs[t].a, self._cotangent_of_z(a_h_x, hidden, t), a_h
            )
            hidden, c, a_g, more = lstm_cell.curvature_adjoint(
                cell, None if gs is None else gs[t], hs[t], a_h_a, c
            )
            a_params = add_params(a_params, a_params_t)
            a_hiddens.append(hidden)
            mores.append(more)
            a_zs.append(a_z)
            a_gs.append(a_g)
        a_g_y = None
        if gs is not None:  # the first derivatives inside the cell moved h as well
            a_g_y, mores_g, a_zs_g, a_params_g = self._backward_adjoint(params, cache, gs, None, None, a_gs)
            mores = [
                Cotangents(*(u + v for u, v in zip(m, n, strict=True)))
                for m, n in zip(mores, mores_g, strict=True)
            ]
            a_zs = [u + v for u, v in zip(a_zs, a_zs_g, strict=True)]
            a_params = add_params(a_params, a_params_g)
        a_x, a_params = self._through_values(params, cache, mores, a_zs, a_params)
        return self._output(a_hiddens), a_g_y, a_x, a_params

    def squared_gradients(
        self,
        params: Params,
        cache: LSTMCache,
        g_y: Array,
        signs: Array,
        modes: Shape = (),
        axes: Mapping[int, Array] | None = None,
    ) -> Params:
        gs, _, _ = self._backward_through_time(params, cache, g_y)
        xp = array_module(g_y)
        z, g_a = xp.stack(cache.z, axis=1), xp.stack([g.a for g in gs], axis=1)
        return affine.squared_gradients(z, g_a, signs, modes, axes)

    def modes(self, input_shape: Shape) -> Shape:
        return self.param_shapes()["w"]

    def moments(
        self, params: Params, cache: LSTMCache, g_y: Array, n_total: int, modes: Shape, widest: int
    ) -> dict[int, Array]:
        gs, _, _ = self._backward_through_time(params, cache, g_y)
        xp = array_module(g_y)
        z, g_a = xp.concatenate(cache.z, axis=1), xp.concatenate([g.a for g in gs], axis=1)
        return affine.moments(z, g_a, n_total, len(gs), modes, widest)

    def _backward_through_time(
        self,
        params: Params,
        cache: LSTMCache,
        g_y: Array | None,
        mores: list[Cotangents] | None = None,
        more_zs: list[Array] | None = None,
    ) -> tuple[list[Backward], list[Array], Params]:
        """Return per step what the cell computed and g_z, and the parameters' g.

        ``mores`` and ``more_zs`` are added to the derivatives of the cells' values and of z.
        """
        g_hidden = g_c = array_module(cache.z[0]).zeros_like(cache.cells[0].c)
        steps, g_zs = [], []
        g: Params = {}
        for t in reversed(range(len(cache.cells))):
            g_hidden = self._add_output(g_hidden, g_y, t, len(cache.cells))
            more = None if mores is None else mores[t]
            step = lstm_cell.backward(cache.cells[t], g_hidden, g_c, more)
            g_z, g_t = affine.backward(params, cache.z[t], step.a)
            if more_zs is not None:
                g_z = g_z + more_zs[t]
            g, g_hidden, g_c = add_params(g, g_t), g_z[self.n_in :], step.c
            steps.append(step)
            g_zs.append(g_z)
        return steps[::-1], g_zs[::-1], g

    def _curvature_through_time(
        self, params: Params, cache: LSTMCache, gs: list[Backward] | None, h_y: Array
    ) -> tuple[list[Curvature], list[Array], Params]:
        """Return per step what the cell computed and h_z, and the parameters' h."""
        h_hidden = h_c = array_module(h_y).zeros_like(cache.cells[0].c)
        steps, h_zs = [], []
        h: Params = {}
        for t in reversed(range(len(cache.cells))):
            h_hidden = self._add_output(h_hidden, h_y, t, len(cache.cells))
            step = lstm_cell.curvature(cache.cells[t], None if gs is None else gs[t], h_hidden, h_c)
            h_z, h_t = affine.curvature(params, cache.z[t], step.a)
            h, h_hidden, h_c = add_params(h, h_t), h_z[self.n_in :], step.c
            steps.append(step)
            h_zs.append(h_z)
        return steps[::-1], h_zs[::-1], h

    def _backward_adjoint(
        self,
        params: Params,
        cache: LSTMCache,
        gs: list[Backward],
        a_g_x: Array | None,
        a_g: Params | None,
        a_gs: list[tuple[Array, Array]] | None,
    ) -> tuple[Array, list[Cotangents], list[Array], Params]:
        """Return a_g_y, and per step the cotangents of the cell's values and of z; and a_params.

        Runs forward in time, as the reverse of a pass that ran backward. ``a_gs`` are
        cotangents of what the cell computed on its way, ``a_g=None`` stands for zero.
        """
        if a_g is None:
            a_g = {name: array_module(v).zeros_like(v) for name, v in params.items()}
        hidden = c = array_module(cache.z[0]).zeros_like(cache.cells[0].c)
        a_hiddens, mores, a_zs = [], [], []
        a_params: Params = {}
        for t, (cell, z) in enumerate(zip(*cache, strict=True)):
            a_g_a, a_z, a_params_t = affine.backward_adjoint(
                params, z, gs[t].a, self._cotangent_of_z(a_g_x, hidden, t), a_g
            )
            hidden, c, more = lstm_cell.backward_adjoint(
                cell, gs[t], a_g_a, c, None if a_gs is None else a_gs[t]
            )
            a_params = add_params(a_params, a_params_t)
            a_hiddens.append(hidden)
            mores.append(more)
            a_zs.append(a_z)
        return self._output(a_hiddens), mores, a_zs, a_params

    def _through_values(
        self,
        params: Params,
        cache: LSTMCache,
        mores: list[Cotangents],
        a_zs: list[Array],
        a_params: Params,
    ) -> tuple[Array, Params]:
        """Carry the cotangents of the cells' values back to x and the parameters."""
        _, a_zs, a_more = self._backward_through_time(params, cache, None, mores, a_zs)
        return self._inputs(a_zs), add_params(a_params, a_more)

    def _add_output(self, v_hidden: Array, v_y: Array | None, t: int, n_steps: int) -> Array:
        """Add what the layer's output at time ``t`` receives from above."""
        if v_y is None or (self.returns == "last" and t < n_steps - 1):
            return v_hidden
        return v_hidden + (v_y if self.returns == "last" else v_y[:, t])

    def _output(self, v_hiddens: list[Array]) -> Array:
        """Return the part of the hidden states' cotangents that belongs to y."""
        if self.returns == "last":
            return v_hiddens[-1]
        return array_module(v_hiddens[0]).stack(v_hiddens, axis=1)

    def _inputs(self, v_zs: list[Array]) -> Array:
        """Return the part of z = [x; hidden] that belongs to x: (K, T, N)."""
        return array_module(v_zs[0]).stack([v_z[: self.n_in] for v_z in v_zs], axis=1)

    def _cotangent_of_z(self, a_v_x: Array | None, a_hidden: Array, t: int) -> Array:
        """Return [a_v_x at time t; the cotangent of the hidden state before it]."""
        xp = array_module(a_hidden)
        a_x = xp.zeros((self.n_in, a_hidden.shape[1]), a_hidden.dtype) if a_v_x is None else a_v_x[:, t]
        return xp.concatenate([a_x, a_hidden])
