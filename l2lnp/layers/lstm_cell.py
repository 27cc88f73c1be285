"""One step of an LSTM cell and its passes, between the gates' pre-activations and the hidden state.

    i, f, o = sigmoid(a_i, a_f, a_o);  n = tanh(a_n)
    c' = f c + i n;   s = tanh(c');   hidden = o s

Every gate is one factor of a product; with its other factor ("partner") the passes need
no case for each gate::

    gate     i    f    o    n
    partner  n    c    s    i        g_gate = partner   carrier,   carrier = g_c', g_c', g_hidden, g_c'
                                     h_gate = partner^2 carrier^2-th derivative alike
"""

from __future__ import annotations

from typing import NamedTuple

from l2lnp.backend import Array, array_module
from l2lnp.layers.activation import sigmoid


class Cell(NamedTuple):
    """The values of one step: gates i, f, o, n stacked (4 S, N), cell state before it, and s = tanh(c')."""

    gates: Array
    c: Array
    s: Array

    @property
    def n_units(self) -> int:
        """S."""
        return self.c.shape[0]

    def gate(self, name: str) -> Array:
        """Return the gate ``name``, one of i, f, o, n: (S, N)."""
        k = "ifon".index(name)
        return self.gates[k * self.n_units : (k + 1) * self.n_units]

    def partner(self) -> Array:
        """Return the other factor of each gate's product, stacked as the gates."""
        return array_module(self.c).concatenate([self.gate("n"), self.c, self.s, self.gate("i")])


class Backward(NamedTuple):
    """What one step of the backward pass computes on its way down."""

    hidden: Array  # g of the hidden state (S, N)
    s: Array
    c_next: Array  # g of c', all of it
    gates: Array  # (4 S, N)
    a: Array  # g of the pre-activations (4 S, N)
    c: Array  # g of the cell state before the step


class Curvature(NamedTuple):
    """The same for the curvature pass."""

    hidden: Array
    s: Array
    c_next: Array
    gates: Array
    a: Array
    c: Array


class Cotangents(NamedTuple):
    """Cotangents of the values of one step: how a pass moves with them."""

    gates: Array
    c: Array
    s: Array


def forward(a: Array, c: Array) -> tuple[Array, Array, Cell]:
    """Return hidden, c' and the cell's values from the pre-activations (4 S, N) and c (S, N)."""
    xp = array_module(a)
    n = 3 * c.shape[0]
    cell = Cell(xp.concatenate([sigmoid(a[:n]), xp.tanh(a[n:])]), c, c)
    c_next = cell.gate("f") * c + cell.gate("i") * cell.gate("n")
    cell = cell._replace(s=xp.tanh(c_next))
    return cell.gate("o") * cell.s, c_next, cell


def backward(cell: Cell, g_hidden: Array, g_c_next: Array, more: Cotangents | None = None) -> Backward:
    """Return the first derivatives of one step; ``more`` is added to those of the cell's own values."""
    g_s = cell.gate("o") * g_hidden
    if more is not None:
        g_s = g_s + more.s
    g_c_next = g_c_next + (1 - cell.s**2) * g_s
    g_gates = cell.partner() * _carrier(g_c_next, g_hidden)
    g_c = cell.gate("f") * g_c_next
    if more is not None:
        g_gates = g_gates + more.gates
        g_c = g_c + more.c
    first, _ = _slopes(cell)
    return Backward(g_hidden, g_s, g_c_next, g_gates, first * g_gates, g_c)


def curvature(cell: Cell, g: Backward | None, h_hidden: Array, h_c_next: Array) -> Curvature:
    """Return the second derivatives of one step; ``g=None`` stands for zero first derivatives."""
    s = cell.s
    h_s = cell.gate("o") ** 2 * h_hidden
    h_c_next = h_c_next + (1 - s**2) ** 2 * h_s
    if g is not None:
        h_c_next = h_c_next - 2 * s * (1 - s**2) * g.s
    h_gates = cell.partner() ** 2 * _carrier(h_c_next, h_hidden)
    first, second = _slopes(cell)
    h_a = first**2 * h_gates
    if g is not None:
        h_a = h_a + second * g.gates
    return Curvature(h_hidden, h_s, h_c_next, h_gates, h_a, cell.gate("f") ** 2 * h_c_next)


def backward_adjoint(
    cell: Cell, g: Backward, a_g_a: Array, a_g_c: Array, more: tuple[Array, Array] | None = None
) -> tuple[Array, Array, Cotangents]:
    """Return a_g_hidden, a_g_c_next and the cotangents of the cell's values: the adjoint of `backward`.

    ``more`` holds further cotangents of ``g.gates`` and ``g.s`` (those of `curvature_adjoint`).
    """
    first, _ = _slopes(cell)
    a_g_gates = first * a_g_a
    if more is not None:
        a_g_gates = a_g_gates + more[0]
    a_first = g.gates * a_g_a
    a_gates = _slope_of_first(cell) * a_first

    a_c_carried, a_hidden_carried = _uncarry(cell.partner() * a_g_gates)
    a_partner = _carrier(g.c_next, g.hidden) * a_g_gates
    a_g_c_next = a_c_carried + cell.gate("f") * a_g_c
    a_g_s = (1 - cell.s**2) * a_g_c_next
    if more is not None:
        a_g_s = a_g_s + more[1]
    a_g_hidden = a_hidden_carried + cell.gate("o") * a_g_s

    # through the values: partner, f in g_c = f g_c', 1 - s^2, and o in g_s = o g_hidden
    values = _unpartner(cell, a_gates, a_partner, a_f=g.c_next * a_g_c, a_o=g.hidden * a_g_s)
    return a_g_hidden, a_g_c_next, values._replace(s=values.s - 2 * cell.s * g.s * a_g_c_next)


def curvature_adjoint(
    cell: Cell, g: Backward | None, h: Curvature, a_h_a: Array, a_h_c: Array
) -> tuple[Array, Array, tuple[Array, Array], Cotangents]:
    """Return a_h_hidden, a_h_c_next, cotangents of (g.gates, g.s) and of the cell's values."""
    s = cell.s
    first, second = _slopes(cell)
    partner, o, f = cell.partner(), cell.gate("o"), cell.gate("f")
    a_h_gates = first**2 * a_h_a
    a_gates = 2 * first * _slope_of_first(cell) * h.gates * a_h_a
    if g is not None:
        a_gates = a_gates + _slope_of_second(cell) * g.gates * a_h_a

    a_c_carried, a_hidden_carried = _uncarry(partner**2 * a_h_gates)
    a_partner = 2 * partner * _carrier(h.c_next, h.hidden) * a_h_gates
    a_h_c_next = a_c_carried + f**2 * a_h_c
    a_h_s = (1 - s**2) ** 2 * a_h_c_next
    a_h_hidden = a_hidden_carried + o**2 * a_h_s

    a_s = -4 * s * (1 - s**2) * h.s * a_h_c_next
    if g is not None:
        a_s = a_s + (6 * s**2 - 2) * g.s * a_h_c_next
    values = _unpartner(cell, a_gates, a_partner, a_f=2 * f * h.c_next * a_h_c, a_o=2 * o * h.hidden * a_h_s)
    a_g = (second * a_h_a, -2 * s * (1 - s**2) * a_h_c_next)
    return a_h_hidden, a_h_c_next, a_g, values._replace(s=values.s + a_s)


def _slopes(cell: Cell) -> tuple[Array, Array]:
    """First and second derivative of each gate in its pre-activation, by the gate's value."""
    xp = array_module(cell.gates)
    y, n = cell.gates[: 3 * cell.n_units], cell.gate("n")
    return (
        xp.concatenate([y * (1 - y), 1 - n**2]),
        xp.concatenate([y * (1 - y) * (1 - 2 * y), -2 * n * (1 - n**2)]),
    )


def _slope_of_first(cell: Cell) -> Array:
    """d(first)/d(gate's value)."""
    xp = array_module(cell.gates)
    return xp.concatenate([1 - 2 * cell.gates[: 3 * cell.n_units], -2 * cell.gate("n")])


def _slope_of_second(cell: Cell) -> Array:
    """d(second)/d(gate's value)."""
    y, n = cell.gates[: 3 * cell.n_units], cell.gate("n")
    return array_module(y).concatenate([1 - 6 * y + 6 * y**2, 6 * n**2 - 2])


def _carrier(v_c: Array, v_hidden: Array) -> Array:
    """What flows into each gate's product from above: c' for i, f, n and the hidden state for o."""
    return array_module(v_c).concatenate([v_c, v_c, v_hidden, v_c])


def _uncarry(v_gates: Array) -> tuple[Array, Array]:
    """Adjoint of `_carrier`: (v_c, v_hidden)."""
    i, f, o, n = v_gates.reshape(4, -1, v_gates.shape[1])
    return i + f + n, o


def _unpartner(cell: Cell, a_gates: Array, a_partner: Array, a_f: Array, a_o: Array) -> Cotangents:
    """Adjoint of `Cell.partner`, with further cotangents of the gates f and o."""
    n, c, s, i = a_partner.reshape(4, -1, a_partner.shape[1])
    return Cotangents(a_gates + array_module(n).concatenate([i, a_f, a_o, n]), c, s)
