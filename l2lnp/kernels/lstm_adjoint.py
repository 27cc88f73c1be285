"""The reverse of the coordinatewise LSTM's steps: `reverse` walks a `Tape` back.

For one cell, with the doubled gates i, f, o (2 sigmoid) and the doubled hidden state of
`l2lnp.kernels.lstm`::

    c' = (f c + i n) / 2              s = tanh(c')              hidden' = o s

    a_o  = s a_hidden'                a_c' += o (1 - s^2) a_hidden'
    a_i  = n a_c' / 2                 a_f  = c a_c' / 2
    a_n  = i a_c' / 2                 a_c  = f a_c' / 2

and through the gates' tanh, with y = 1 + tanh: 1 - tanh^2 = y (2 - y).
"""

from __future__ import annotations

from collections.abc import Sequence

from l2lnp.backend import Array, array_module
from l2lnp.kernels.lstm import Sizes, Tape, Weights, parts, product
from l2lnp.workspace import Fresh


def reverse(
    sizes: Sizes,
    weights: Weights,
    tape: Tape,
    a_outputs: Sequence[Array],
    a_state: Array,
    space: Fresh,
    a_features: Array | None = None,
) -> Weights:
    """Return the cotangents of the derived weights, summed over the tape's steps and coordinates.

    Parameters
    ----------
    a_outputs
        The cotangent (n,) of each step's output.
    a_state
        The cotangent (2 S1 + 2 S2, n) of the state after the last step; it becomes
        that of the state before the first.
    a_features
        Filled, if given, with the cotangents (T, F, n) of the features.
    """
    xp, (f, (s1, _)) = array_module(a_state), (sizes.n_features, sizes.n_units)
    a_hidden1_out, a_hidden2_out, a_cell1, a_cell2 = parts(sizes, a_state)
    a_hidden1, a_hidden2 = 0.5 * a_hidden1_out, 0.5 * a_hidden2_out
    (x1, *_), (x2, *_), (gates1, *_), (gates2, *_) = tape.x1, tape.x2, tape.gates1, tape.gates2
    a_gates1, a_gates2, a_x1, a_x2, of_output = (
        space.empty(("a", i), like.shape, like) for i, like in enumerate((gates1, gates2, x1, x2, a_hidden2))
    )
    to_x1, to_x2, to_hidden2 = weights.w1.T, weights.w2.T, weights.w3[:, 1:].T
    a = Weights(*(xp.zeros_like(w) for w in weights))
    for t in reversed(range(len(tape.x1))):
        a_output, hidden2 = a_outputs[t][None], tape.x2[t + 1][s1 + 1 :]
        a_hidden2 += xp.multiply(to_hidden2, a_output, out=of_output)
        add_product(a.w3, a_output, tape.x2[t + 1][s1:])
        cell_adjoint(
            tape.gates2[t], tape.cells2[t], tape.tanh2[t], hidden2, a_hidden2, a_cell2, a_gates2, space
        )
        add_product(a.w2, a_gates2, tape.x2[t])
        product(to_x2, a_gates2, a_x2)
        a_hidden1 += a_x2[:s1]
        a_hidden2 = a_x2[s1 + 1 :]
        hidden1 = tape.x2[t][:s1]
        cell_adjoint(
            tape.gates1[t], tape.cells1[t], tape.tanh1[t], hidden1, a_hidden1, a_cell1, a_gates1, space
        )
        add_product(a.w1, a_gates1, tape.x1[t])
        product(to_x1, a_gates1, a_x1)
        a_hidden1 = a_x1[f : f + s1]
        if a_features is not None:
            a_features[t] = a_x1[:f]
    xp.multiply(a_hidden1, 2.0, out=a_hidden1_out)
    xp.multiply(a_hidden2, 2.0, out=a_hidden2_out)
    return a


def add_product(total: Array, a: Array, x: Array) -> None:
    """total += a x^T."""
    total += a @ x.T


def cell_adjoint(
    gates: Array,
    before: Array,
    tanh: Array,
    hidden: Array,
    a_hidden: Array,
    a_cell: Array,
    a_gates: Array,
    space: Fresh,
) -> None:
    """Fill ``a_gates`` with the cotangents of the pre-activations; ``a_cell`` goes from after to before.

    The gates' slopes are taken into the products above: with b = a_c' / 2, they are
    (2 - o) hidden' a_hidden', (2 - i) i n b, (i - n i n) b and (2 - f) c f b.
    """
    xp, s = array_module(gates), len(tanh)
    i, f, o, n = gates.reshape(4, s, -1)
    a_i, a_f, a_o, a_n = a_gates.reshape(4, s, -1)
    i_n = xp.multiply(i, n, out=space.empty("i n", n.shape, n))

    xp.multiply(tanh, hidden, out=a_n)
    xp.subtract(o, a_n, out=a_n)  # o (1 - s^2)
    a_n *= a_hidden
    a_cell += a_n
    a_cell *= 0.5

    xp.subtract(2.0, gates[: 3 * s], out=a_gates[: 3 * s])
    a_o *= hidden
    a_o *= a_hidden
    a_i *= i_n
    a_i *= a_cell
    xp.multiply(n, i_n, out=a_n)
    xp.subtract(i, a_n, out=a_n)
    a_n *= a_cell
    a_cell *= f
    a_f *= before
    a_f *= a_cell
