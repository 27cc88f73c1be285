"""What a learned optimizer reads of each coordinate: features, selectable by name.

A new feature is a class (`l2lnp.optimizers.features.base.Feature`) and an entry in `FEATURES`; with a
namesake in ``l2lnp/kernels/cuda/features.cuh`` it is part of the one kernel of a step on a GPU.
"""

from __future__ import annotations

from l2lnp.optimizers.features.base import Feature
from l2lnp.optimizers.features.curvature import LogNoise, LogSignH, NewtonRatio, Significance
from l2lnp.optimizers.features.gradient import LogSignG, Momenta, RNNprop
from l2lnp.optimizers.features.tensor import Clock, GradientSize, Loss, NewtonSize, Shape, SignalShare

FEATURES: dict[str, type[Feature]] = {
    "log_sign_g": LogSignG,
    "log_sign_h": LogSignH,
    "rnnprop": RNNprop,
    "momenta": Momenta,
    "newton_ratio": NewtonRatio,
    "log_noise": LogNoise,
    "significance": Significance,
    "signal_share": SignalShare,
    "gradient_size": GradientSize,
    "newton_size": NewtonSize,
    "clock": Clock,
    "loss": Loss,
    "shape": Shape,
}

__all__ = ["FEATURES", "Feature"]
