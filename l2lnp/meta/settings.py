"""What meta-training depends on beside the distribution of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, cos, exp, inf, log, pi
from typing import Any

from l2lnp.curvature import check_basis
from l2lnp.errors import InputError, unknown_name
from l2lnp.meta.joint import META_LOSSES
from l2lnp.optimizers import check_settings, default_settings
from l2lnp.randomness import generator
from l2lnp.scalars import LARGEST

MOST_DIGITS = 18  # of a whole number that is below `LARGEST` for certain
MOST_SCALING = 20.0  # R: exp(R)^2, by which h is scaled, stays far inside float32

# An optimizer for networks of every kind: one LSTM for each kind of layer, steps in units of the
# weights, and nothing among its features that depends on the scale of a task.
UNIVERSAL: Mapping[str, Mapping[str, Any]] = {
    name: {
        "per": "kind",
        "step_unit": "weights",
        "output_scale": 0.3,
        "schedule": "cosine",
        "features": features,
    }
    for name, features in {
        "lstm": ["momenta", "signal_share", "gradient_size", "clock"],
        "slstm": [
            "momenta",
            "newton_ratio",
            "significance",
            "signal_share",
            "newton_size",
            "gradient_size",
            "clock",
        ],
    }.items()
}


@dataclass(frozen=True)
class MetaSettings:
    """Everything meta-training depends on beside the distribution of tasks."""

    optimizer: str = "slstm"
    optimizer_settings: dict[str, Any] = field(default_factory=lambda: {"per": "kind"})
    curvature: str | None = "hesscale"
    curvature_every: str = "1"  # steps between two looks at h; "1-10": drawn for each episode
    n_episodes: int = 600
    horizon_steps: int = 100
    least_horizon_steps: int | None = None  # where horizons are drawn; None: all are `horizon_steps` long
    truncation_steps: int = 20
    meta_loss: str = "mean"
    imitation: float = 0.0  # the share of episodes in which a teacher is imitated
    random_scaling: float = 0.0  # R: coordinates are seen in units exp(U(-R, R))
    meta_learning_rate: float = 3e-3
    final_rate_share: float = 0.02  # of the cosine schedule
    clip_norm: float = 1.0
    validate_every_episodes: int = 50
    n_validation_tasks: int = 6
    validation_steps: int = 150
    patience: int | None = None  # validations in a row without a better one that end it; None: none do
    seed: int = 0
    pretrained: str | None = None  # name or file of the learned optimizer that it begins with; None: random

    def __post_init__(self) -> None:
        counts = ("n_episodes", "horizon_steps", "truncation_steps", "validate_every_episodes")
        least = dict.fromkeys((*counts, "n_validation_tasks", "validation_steps"), 1) | {"seed": 0}
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                raise InputError(f"{name} must be at least {bound}, not {value}")
            if value > LARGEST:
                raise InputError(f"{name} must be at most {LARGEST}, not {value}")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience must be at least 1 validation, not {self.patience}")
        for name in ("meta_learning_rate", "clip_norm", "final_rate_share"):
            if not 0 < (number := getattr(self, name)) < inf:
                raise InputError(f"{name} must be positive, not {number}")
        if not 0 <= self.random_scaling <= MOST_SCALING:
            raise InputError(
                f"random_scaling must be at least 0 and at most {MOST_SCALING}, not {self.random_scaling}"
            )
        if self.optimizer not in UNIVERSAL:
            raise unknown_name("learned optimizer", self.optimizer, UNIVERSAL)
        check_settings(self.optimizer, self.optimizer_settings, default_settings(self.optimizer))
        if self.horizon_steps % self.truncation_steps:
            raise InputError(
                f"the horizon of {self.horizon_steps} steps must be a multiple of the truncation's "
                f"{self.truncation_steps}"
            )
        if self.least_horizon_steps is not None and not 1 <= self.least_horizon_steps <= self.horizon_steps:
            raise InputError(
                f"the least horizon must lie between 1 and the horizon of {self.horizon_steps} steps, "
                f"not at {self.least_horizon_steps}"
            )
        if self.curvature not in (None, "hesscale"):  # the default, which nothing reads in the basis
            check_basis(self.curvature, self.optimizer_settings.get("basis") == "kronecker")
        if self.meta_loss not in META_LOSSES:
            raise unknown_name("meta-loss", self.meta_loss, META_LOSSES)
        if not 0 <= self.imitation <= 1:
            raise InputError(f"imitation is a share of the episodes, 0 to 1, not {self.imitation}")
        if self.curvature_range != (1, 1) and not self._reads_curvature:
            raise InputError(
                f"curvature_every is for slstm in coordinates, not for {self.optimizer} in "
                f"{self.optimizer_settings.get('basis', 'coordinates')}"
            )
        if self.random_scaling and self.optimizer_settings.get("basis") == "kronecker":
            raise InputError(
                "random scaling is of single coordinates: it does not go with the curvature basis"
            )

    def rate(self, episode: int) -> float:
        """Return the meta-learning rate of an episode: a cosine from the whole down to the final share."""
        wave = 0.5 * (1 + cos(pi * episode / self.n_episodes))
        return self.meta_learning_rate * (self.final_rate_share + (1 - self.final_rate_share) * wave)

    @property
    def curvature_range(self) -> tuple[int, int]:
        """The least and the most steps between two looks at h."""
        parts = self.curvature_every.split("-")
        if len(parts) > 2 or not all(part.isdecimal() and len(part) <= MOST_DIGITS for part in parts):
            raise InputError(f"curvature_every must be like 3 or 1-10, not '{self.curvature_every}'")
        least, most = int(parts[0]), int(parts[-1])
        if not 1 <= least <= most:
            raise InputError(f"curvature_every must rise from 1 or more, not '{self.curvature_every}'")
        return least, most

    @property
    def _reads_curvature(self) -> bool:
        return self.optimizer == "slstm" and self.optimizer_settings.get("basis") != "kronecker"

    def draw_curvature_every(self, index: int, split: str) -> int:
        """Return the steps between two looks at h in an episode: its logarithm is drawn evenly."""
        least, most = self.curvature_range
        rng = generator(self.seed, f"curvature every, {split}", index)
        return min(most, int(exp(rng.uniform(log(least), log(most + 1)))))

    def horizon(self, episode: int) -> int:
        """Return the steps of an episode, a multiple of the truncation.

        Where a least horizon is given, the logarithm of the length is uniform from there to
        an upper end that grows in the first half of the episodes, from twice the least horizon
        to the whole one: long runs are learned from where short ones are known.
        """
        least, most = self.least_horizon_steps, self.horizon_steps
        if least is None:
            return most
        grown = min(1.0, 2 * episode / self.n_episodes)
        now = min(most, 2 * least * (max(1.0, most / (2 * least))) ** grown)
        drawn = exp(generator(self.seed, "horizon", episode).uniform(log(least), log(now)))
        n_unrolls = max(ceil(least / self.truncation_steps), round(drawn / self.truncation_steps))
        return n_unrolls * self.truncation_steps
