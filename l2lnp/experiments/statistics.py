"""What the numbers of a comparison say: spread, best baseline, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from l2lnp.experiments.comparison import Comparison

_DIGITS = 12  # of values over the largest that count
_MOST_PERMUTED = 12  # differences with ties among them whose signs are exchanged in all ways


class Paired(NamedTuple):
    """A contender against the reference, seed by seed; d = contender - reference.

    NaN where a run that diverged leaves nothing to compare.
    """

    ratio: float  # reference / contender, of the means
    difference: float  # mean of d
    standard_error: float  # of the mean of d
    p_t: float  # paired t test
    p_wilcoxon: float  # Wilcoxon signed rank test


def paired(reference: np.ndarray, other: np.ndarray) -> Paired:
    """Compare values (N,) of the reference with another contender's for the same N seeds.

    Raises
    ------
    ValueError
        If they are not for the same number of seeds.
    """
    if reference.shape != other.shape:
        raise ValueError(f"values are not paired: {reference.shape} and {other.shape}")
    if not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return Paired(*[float("nan")] * 5)
    d = other - reference
    mean, error = float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))
    ratio = float(reference.mean() / other.mean()) if other.mean() else float("nan")
    # differences of errors k / N that are equal are not so in their last bits
    units = np.round(d / (np.abs([reference, other]).max() or 1.0), _DIGITS)
    if np.ptp(units):
        return Paired(ratio, mean, error, float(stats.ttest_rel(other, reference).pvalue), _wilcoxon(units))
    return Paired(ratio, mean, error, 0.0 if units[0] else 1.0, _wilcoxon(units))  # t divides by the spread


def _wilcoxon(d: np.ndarray) -> float:
    d = d[d != 0]
    if not len(d):
        return 1.0
    has_ties = len(np.unique(np.abs(d))) < len(d)
    all_signs = stats.PermutationMethod(n_resamples=2 ** len(d))
    with_ties = all_signs if len(d) <= _MOST_PERMUTED else "approx"
    return float(stats.wilcoxon(d, method=with_ties if has_ties else "exact").pvalue)


def column(comparison: Comparison, name: str, measure: str) -> np.ndarray:
    """Return a measure of the contender ``name`` for all seeds, in the order of the seeds (NaN: none)."""
    rows = {row["seed"]: row[measure] for row in comparison.seeds if row["contender"] == name}
    return np.array([rows[seed] for seed in comparison.about["seeds"]], float)


def best_baseline(about: Mapping[str, Any], n_steps: int) -> str | None:
    """Return the hand-designed contender that was best over ``n_steps`` steps on the *tuning* seeds."""
    losses = {
        name: contender["tuned"][str(n_steps)]["loss_on_tuning_seeds"]
        for name, contender in about["contenders"].items()
        if "tuned" in contender
    }
    return min(losses, key=lambda name: losses[name]) if losses else None


def mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Return mean and sample deviation; infinite and NaN where a run diverged."""
    if not np.isfinite(values).all():
        return float("inf"), float("nan")
    return float(values.mean()), float(values.std(ddof=1))


def others(comparison: Comparison) -> Sequence[str]:
    """Return the contenders beside the reference."""
    about = comparison.about
    return [name for name in about["contenders"] if name != about["reference"]]
