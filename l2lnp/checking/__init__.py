"""Derivative checks, for the layers here and for your own: every pass against one computed another way.

``gradcheck(layer, input_shape)`` runs them all on random arrays; ``l2lnp gradcheck``
runs them on every layer of the library.
"""

from l2lnp.checking.differences import (
    FIRST_ATOL,
    FIRST_RTOL,
    SECOND_ATOL,
    SECOND_RTOL,
    distinct_values,
    largest_error,
    relative_error,
    second_slope,
    separable,
    slope,
)
from l2lnp.checking.layer_problem import (
    LayerProblem,
    check_adjoint,
    check_backward,
    check_curvature,
    check_squared_gradients,
)
from l2lnp.checking.table import Check, gradcheck, gradcheck_all

__all__ = [
    "FIRST_ATOL",
    "FIRST_RTOL",
    "SECOND_ATOL",
    "SECOND_RTOL",
    "Check",
    "LayerProblem",
    "check_adjoint",
    "check_backward",
    "check_curvature",
    "check_squared_gradients",
    "distinct_values",
    "gradcheck",
    "gradcheck_all",
    "largest_error",
    "relative_error",
    "second_slope",
    "separable",
    "slope",
]
