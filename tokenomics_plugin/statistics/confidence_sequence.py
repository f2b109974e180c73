"""Intervals that may be looked at every day: they hold at all sample sizes at once.

A 95 % interval made for one look is wrong for some day in almost every second long series. A confidence sequence is
about half as wide again, and with 95 % confidence never excludes the truth, however often it is read and whenever the
series is stopped.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", arXiv 2103.06476, equation (2) and appendix on the choice of rho.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.clusters import Column, Floats, Pairs, as_column, as_pairs
from tokenomics_plugin.statistics.fieller import ConfidenceSet, Moments, fieller_set
from tokenomics_plugin.statistics.quantiles import check_confidence

__all__ = ["START", "MeanSequence", "RatioAt", "excess_sequence", "mean_sequence", "ratio_sequence"]

START = 100
"""Clusters before which the sequence says nothing: its guarantee is asymptotic."""
_TUNED_AT = 500
_Number = TypeVar("_Number", float, Floats)


@dataclass(frozen=True, kw_only=True)
class MeanSequence:
    """A running mean and its confidence sequence, from `START` clusters on; one entry per cluster added."""

    sizes: NDArray[np.intp]
    """Clusters seen."""
    means: Floats
    """Mean over them."""
    lows: Floats
    """Lower limits."""
    highs: Floats
    """Upper limits."""

    def first_excluding(self, value: float) -> int | None:
        """Clusters after which `value` was excluded for the first time; `None` while it is not."""
        excluded = np.flatnonzero((value < self.lows) | (value > self.highs))
        return int(self.sizes[excluded[0]]) if len(excluded) else None


@dataclass(frozen=True, kw_only=True)
class RatioAt:
    """A ratio of sums after some clusters, with a set that holds at all sizes at once."""

    size: int
    """Clusters seen."""
    estimate: float | None
    """Ratio of the sums so far; `None` while the denominators sum to 0."""
    confidence_set: ConfidenceSet
    """Ratios that the series so far does not reject."""


def mean_sequence(values: Column, *, confidence: float = 0.95, tuned_at: int = _TUNED_AT) -> MeanSequence:
    """Confidence sequence of a mean.

    Args:
        values: One number per independent cluster, in the order in which they were observed.
        confidence: Probability that no interval of the sequence ever excludes the mean.
        tuned_at: Clusters at which the sequence is narrowest; choose it before looking.

    Raises:
        ValueError: If there are fewer than `START` clusters, or a value is not finite.
    """
    column = _long_enough(as_column("values", values))
    sizes = np.arange(1, len(column) + 1)
    centre = column.mean()  # squares of deviations from it lose no digits
    shifted = column - centre
    means = np.cumsum(shifted) / sizes
    spread = np.sqrt(np.maximum(0.0, np.cumsum(shifted**2) / sizes - means**2))
    reach = spread * _multiplier(sizes.astype(np.float64), confidence, tuned_at)
    shown = slice(START - 1, None)
    return MeanSequence(
        sizes=sizes[shown],
        means=(means + centre)[shown],
        lows=(means + centre - reach)[shown],
        highs=(means + centre + reach)[shown],
    )


def excess_sequence(
    clusters: Pairs, reference: float, *, confidence: float = 0.95, tuned_at: int = _TUNED_AT
) -> MeanSequence:
    """Confidence sequence of mean(a - reference * b): above 0 exactly when the ratio a / b exceeds `reference`.

    It answers "is cost per success above R0?" without the trouble of a ratio near a zero denominator.
    """
    pairs = as_pairs(clusters)
    return mean_sequence(pairs[:, 0] - reference * pairs[:, 1], confidence=confidence, tuned_at=tuned_at)


def ratio_sequence(
    clusters: Pairs, *, at: Iterable[int] | None = None, confidence: float = 0.95, tuned_at: int = _TUNED_AT
) -> tuple[RatioAt, ...]:
    """Confidence sets of sum(a) / sum(b) along a series: Fieller's set with the reach of a confidence sequence.

    Each ratio R0 stays in the set as long as the sequence of a - R0 b contains 0, so that the true ratio stays with
    the confidence of that sequence.

    Args:
        clusters: (a, b) of each cluster, in the order observed.
        at: Numbers of clusters to evaluate at, none below `START`; all from `START` on by default.
        confidence: Probability that no set ever excludes the ratio.
        tuned_at: Clusters at which the sets are smallest.

    Raises:
        ValueError: If a size is below `START` or above the number of clusters.
    """
    pairs = _long_enough(as_pairs(clusters))
    sizes = range(START, len(pairs) + 1) if at is None else list(at)
    for size in sizes:
        if not START <= size <= len(pairs):
            raise ValueError(f"sizes must be from {START} to the {len(pairs)} clusters, got {size}")
    sums = np.cumsum(np.stack([*pairs.T, pairs[:, 0] ** 2, pairs[:, 1] ** 2, pairs[:, 0] * pairs[:, 1]]), axis=1)
    return tuple(_ratio_at(size, sums[:, size - 1], _multiplier(float(size), confidence, tuned_at)) for size in sizes)


def _ratio_at(size: int, sums: Floats, multiplier: float) -> RatioAt:
    a, b, aa, bb, ab = (float(total) for total in sums / size)
    # Variances of one cluster, not of the mean: the multiplier counts standard deviations.
    moments = Moments(mean_a=a, mean_b=b, var_a=max(0.0, aa - a * a), var_b=max(0.0, bb - b * b), cov_ab=ab - a * b)
    return RatioAt(size=size, estimate=a / b if b else None, confidence_set=fieller_set(moments, multiplier))


def _multiplier(sizes: _Number, confidence: float, tuned_at: int) -> _Number:
    """Half-width in standard deviations of one cluster."""
    alpha = 1 - check_confidence(confidence)
    if tuned_at < 1:
        raise ValueError(f"tuned_at must be a number of clusters, got {tuned_at}")
    rho2 = (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / tuned_at
    grown = sizes * rho2 + 1
    squared = 2 * grown / (sizes**2 * rho2) * (np.log(grown) / 2 - log(alpha))
    return sqrt(squared) if isinstance(squared, float) else np.sqrt(squared)


def _long_enough(column: Floats) -> Floats:
    if len(column) < START:
        raise ValueError(f"a confidence sequence starts at {START} clusters, there are {len(column)}")
    return column
