"""An optimizer around another one: what it sees is changed, what it does is handed on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from l2lnp.backend import Array
from l2lnp.optimizers.base import Optimizer, Phi


@dataclass(frozen=True)
class Wrapper(Optimizer):
    """``inner``, seen through something; its schedule and weight decay are those of ``inner``."""

    inner: Optimizer
    schedule: str = field(init=False)
    weight_decay: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", self.inner.schedule)
        object.__setattr__(self, "weight_decay", self.inner.weight_decay)
        super().__post_init__()

    @property
    def name(self) -> str:  # type: ignore[override]  # of a class elsewhere
        """The name of the optimizer inside."""
        return self.inner.name

    @property
    def learned(self) -> bool:  # type: ignore[override]
        """Whether phi is made to be learned."""
        return self.inner.learned

    @property
    def uses_curvature(self) -> bool:  # type: ignore[override]
        """Whether `update` needs h, at some steps."""
        return self.inner.uses_curvature

    @property
    def uses_theta(self) -> bool:
        """Whether `update` needs theta."""
        return self.inner.uses_theta

    def init_phi(self, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Phi:
        return self.inner.init_phi(rng, dtype)

    def keeps_states(self, theta: Array) -> bool:
        return self.inner.keeps_states(theta)
