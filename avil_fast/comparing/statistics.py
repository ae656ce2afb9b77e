"""Whether one method is better than another over the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05
"""Of significance."""

FEWEST = 3
"""Pairs of a test: two give a t-test one degree of freedom, with which a p below LEVEL is a matter of luck."""


@dataclass(frozen=True)
class Standing:
    """How a method does among others.

    Attributes:
        mean, sd: of its values that are known; sd with n - 1, NaN for one.
        rival: the best of the other methods, by its mean.
        difference: mean over seeds of the method less its rival.
        p: two-sided, of a paired t-test against the rival, corrected for as many comparisons as there are
            methods (Holm, Scandinavian Journal of Statistics 6, 1979); NaN where `paired_p` is.
    """

    mean: float
    sd: float
    rival: str
    difference: float
    p: float

    def as_json(self) -> dict[str, float | str | None]:
        """In JSON's types; None for what is NaN."""
        return {key: None if value != value else value for key, value in vars(self).items()}

    def verdict(self, lower_is_better: bool) -> str:
        """better, worse, or equal to the rival as far as these seeds tell; equal without a p, too."""
        if not self.p < LEVEL:
            return "equal"
        return "better" if (self.difference < 0) == lower_is_better else "worse"


def standings(values: Mapping[str, Sequence[float]], lower_is_better: bool = False) -> dict[str, Standing]:
    """Every method against the best of the others.

    Args:
        values: by method one for each seed, the same seeds in the same order, NaN for one that has none; two
            methods or more.
    """
    means = {name: mean(of_method) for name, of_method in values.items()}
    ranked = best_first(values, lower_is_better)
    rivals = {name: ranked[1] if name == ranked[0] else ranked[0] for name in values}
    raw = [paired_p(values[name], values[rivals[name]]) for name in values]
    return {
        name: Standing(
            mean=means[name],
            sd=float(np.std(known, ddof=1)) if len(known := _known(of_method)) > 1 else math.nan,
            rival=rivals[name],
            difference=means[name] - means[rivals[name]],
            p=p,
        )
        for (name, of_method), p in zip(values.items(), holm(raw), strict=True)
    }


def mean(values: Sequence[float]) -> float:
    """Of those that are known; NaN if none is."""
    return float(np.mean(known)) if (known := _known(values)) else math.nan


def best_first(values: Mapping[str, Sequence[float]], lower_is_better: bool) -> list[str]:
    """Methods by their means; those without one come last."""
    means = {name: mean(of_method) for name, of_method in values.items()}
    sign = 1 if lower_is_better else -1
    return sorted(means, key=lambda name: (math.isnan(means[name]), sign * means[name]))


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def paired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of a paired t-test over the pairs of which both are known.

    NaN for fewer than `FEWEST` pairs, and where all pairs differ by the same: without a spread there is no test.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    if len(differences) < FEWEST or np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return math.nan
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p corrected for their number; NaN stays NaN and does not count."""
    known = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    corrected, highest = list(p), 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        corrected[place] = highest
    return corrected
