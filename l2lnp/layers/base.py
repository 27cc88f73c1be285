"""What a layer is: a map y = f(params, x) and the passes through it. Read this page before the other layers.

A layer is a frozen description. It holds sizes, never arrays: one layer runs at T
different theta inside one unroll, so anything stored on it would leak from one step
into the next. The batch is the last axis of every array (images are (channels, rows,
columns, batch), vectors (features, batch)), so one sample is one column and every
inner loop runs over contiguous samples.

========================  ===========  ===========================================================
pass                      sweep runs   gives
========================  ===========  ===========================================================
``forward``               layer 1..L   y and a cache of what the other passes need
``backward``              L..1         g_x and g, the first derivatives
``curvature``             L..1         h_x and h, the approximate second derivatives
``backward_adjoint``      1..L         how a function of (g_x, g) moves with (g_y, x, params)
``curvature_adjoint``     1..L         how a function of (h_x, h) moves with (h_y, g_y, x, params)
``moments``               any order    second moments of x and of g_y: factors of the Fisher matrix
========================  ===========  ===========================================================

The first three give loss, g and h of the optimizee in one upward and one downward
sweep (Roy & Todorovic 2018). The adjoints are the reverse of the downward sweep, and
with them the meta-gradient can be exact (`l2lnp.network.Sequential.adjoint`). ``moments``
runs now and then, for the curvature basis (`l2lnp.basis`).

**The contract of** ``curvature``, tested as its definition::

    h_x[i] = sum_j h_y[j] (dy_j/dx_i)^2 + sum_j g_y[j] d2y_j/dx_i^2

and the same for each parameter: the true second derivative of the loss when its
Hessian in y is diagonal. In general that Hessian is not diagonal; what is dropped is
written at each layer. h is an *approximate* Hessian diagonal.

Arguments that all layers share
-------------------------------
params : dict of arrays
    The layer's tensors by name, views into theta; ``{}`` for a layer without parameters.
cache
    What ``forward`` returned beside y. Never changed by a pass.
g_y, h_y : as y
    First and second derivatives of the loss with respect to the layer's output.
    ``g_y=None`` in ``curvature`` stands for zero: the Gauss-Newton form.
a_g_x, a_h_x : as x, or None
    Cotangents of the pass's ``g_x``, ``h_x``: derivatives of a scalar with respect to
    them. None stands for zero.
a_g, a_h : dict of arrays
    Cotangents of the parameters' derivatives, as ``params``.
wants_x : bool
    False skips ``g_x`` (``h_x``) and returns None for it: the first layer of a network
    needs none.
space : `l2lnp.workspace.Fresh`
    Where big arrays come from. With a `Workspace`, results live until the same pass of
    the same scope runs again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from l2lnp.backend import Array
from l2lnp.tree import Params
from l2lnp.workspace import Fresh

FRESH = Fresh()

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer without parameters and without curvature of its own; the base of all layers.

    A layer that is linear in x and has no parameters writes ``forward`` and ``backward``
    only where its other passes are those, see `Routing`.
    """

    kind: ClassVar[str] = ""  # groups layers that share one LSTM: "conv", "fully_connected", "lstm"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of y, without the batch axis, for inputs of ``input_shape``.

        Raises
        ------
        InputError
            If the layer cannot take such an input.
        """
        raise NotImplementedError

    def param_shapes(self) -> dict[str, Shape]:
        """Return the shape of each parameter tensor by name."""
        return {}

    def init_params(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw initial parameters on the host, in float64."""
        return {}

    def forward(self, params: Params, x: Array, space: Fresh = FRESH) -> tuple[Array, Any]:
        """Return y = f(params, x) and the cache."""
        raise NotImplementedError

    def backward(
        self, params: Params, cache: Any, g_y: Array, space: Fresh = FRESH, wants_x: bool = True
    ) -> tuple[Array, Params]:
        """Return g_x and g: the first derivatives of the loss."""
        raise NotImplementedError

    def curvature(
        self,
        params: Params,
        cache: Any,
        g_y: Array | None,
        h_y: Array,
        space: Fresh = FRESH,
        wants_x: bool = True,
    ) -> tuple[Array, Params]:
        """Return h_x and h: the approximate second derivatives of the loss."""
        raise NotImplementedError

    def backward_adjoint(
        self, params: Params, cache: Any, g_y: Array, a_g_x: Array | None, a_g: Params
    ) -> tuple[Array, Array, Params]:
        """Return a_g_y, a_x, a_params: the adjoint of `backward` in (g_y, x, params)."""
        raise NotImplementedError

    def curvature_adjoint(
        self, params: Params, cache: Any, g_y: Array | None, h_y: Array, a_h_x: Array | None, a_h: Params
    ) -> tuple[Array, Array, Array, Params]:
        """Return a_h_y, a_g_y, a_x, a_params: the adjoint of `curvature` in (h_y, g_y, x, params)."""
        raise NotImplementedError

    def squared_gradients(
        self,
        params: Params,
        cache: Any,
        g_y: Array,
        signs: Array,
        modes: Shape = (),
        axes: Mapping[int, Array] | None = None,
    ) -> Params:
        """Return, per parameter, its squared per-sample derivatives summed over samples with ``signs`` (N,).

        The building block of the curvature modes ``exact`` and ``monte_carlo``:
        sum_n signs[n] (sum_positions dy/dparam g_y)^2. The sum over positions
        (convolution) and over time (LSTM) comes before the square. With ``axes``, matrices Q by mode of
        the weights as they are cut into ``modes``, the derivatives are turned by the Q^T before the square.
        """
        return {}

    def modes(self, input_shape: Shape) -> Shape:
        """Return the sizes (outputs, inputs, ...) of the modes that the weights "w" are cut into.

        Parameters
        ----------
        input_shape
            Shape of one input, before a flatten layer if one stands below this layer.

        Returns
        -------
        Sizes whose product is that of "w"; none for a layer that the curvature basis leaves alone.
        """
        return ()

    def moments(
        self, params: Params, cache: Any, g_y: Array, n_total: int, modes: Shape, widest: int
    ) -> dict[int, Array]:
        """Return for each of the ``modes`` its factor (size, size), a second moment over the batch.

            M_0 = N sum_n g_y g_y^T,    M_k = 1/N sum_n x x^T over the input mode k

        M_0 is summed over positions (convolution) or time steps (LSTM), M_k is their mean
        and summed over the other input modes. Then M_0 x M_1 x ... / (trace M_1)^(input modes - 1)
        is the Kronecker-factored Fisher matrix of the weights, M_0 that of the biases.

        Parameters
        ----------
        n_total
            N, samples of the whole batch, of whose mean loss g_y is the derivative.
        widest
            Of a mode wider than this only the mean eigenvalue of its factor is returned, (1, 1).

        References
        ----------
        Martens & Grosse 2015 (arXiv 1503.05671); Grosse & Martens 2016 (arXiv 1602.01407) for convolutions.
        """
        return {}


def n_features(shape: Shape) -> int:
    """Return the number of elements of one sample of ``shape``."""
    return prod(shape)
