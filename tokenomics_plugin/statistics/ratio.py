"""Ratios of sums, such as cost per success, with Fieller's confidence set.

A ratio of sums weighs every task as the bill does; a mean of ratios would let a cheap task count as much as
a dear one, and breaks on the first failure. Its uncertainty comes from both sums, and between clusters only.

Fieller's set holds its level with ten clusters and heavy-tailed costs, where the usual delta interval does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from tokenomics_plugin.statistics.clusters import Floats, Pairs, as_pairs
from tokenomics_plugin.statistics.fieller import ConfidenceSet, Moments, fieller_set
from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["Ratio", "ratio_of_sums"]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of sums over clusters."""

    estimate: float
    """Sum of the numerators over sum of the denominators."""
    confidence_set: ConfidenceSet
    """Fieller's set around it."""
    clusters: int
    """Independent draws behind it."""


def ratio_of_sums(clusters: Pairs, *, confidence: float = 0.95) -> Ratio:
    """Estimate sum(a) / sum(b) from one pair (a, b) of totals per cluster.

    The set holds all R with (mean(a) - R mean(b))**2 <= t**2 S(R) / G, where S is the sample variance of
    a - R b over the G clusters (divisor G - 1) and t the Student quantile with G - 1 degrees of freedom.

    Raises:
        ValueError: If there are fewer than two clusters, the denominators sum to 0, or a total is not finite.
    """
    pairs = as_pairs(clusters)
    total = _sum(pairs[:, 1])
    if total == 0:
        raise ValueError("the denominators sum to 0: there is no ratio")
    # In units of the largest total, so that squares neither overflow nor vanish.
    units = abs(pairs).max(axis=0)
    unit_a, unit_b = float(units[0]) or 1.0, float(units[1])
    moments = _moments(pairs[:, 0] / unit_a, pairs[:, 1] / unit_b)
    t = t_quantile(confidence, degrees_of_freedom=len(pairs) - 1)
    return Ratio(
        estimate=_sum(pairs[:, 0]) / total,
        confidence_set=_scaled(fieller_set(moments, t), unit_a / unit_b),
        clusters=len(pairs),
    )


def _sum(column: Floats) -> float:
    # Exact, so that the order of clusters changes no digit.
    return fsum(column.tolist())


def _moments(a: Floats, b: Floats) -> Moments:
    size = len(a)
    mean_a, mean_b = _sum(a) / size, _sum(b) / size
    divisor = size * (size - 1)  # variance of the mean
    return Moments(
        mean_a=mean_a,
        mean_b=mean_b,
        var_a=_sum((a - mean_a) ** 2) / divisor,
        var_b=_sum((b - mean_b) ** 2) / divisor,
        cov_ab=_sum((a - mean_a) * (b - mean_b)) / divisor,
    )


def _scaled(found: ConfidenceSet, factor: float) -> ConfidenceSet:
    return ConfidenceSet(
        shape=found.shape,
        low=None if found.low is None else found.low * factor,
        high=None if found.high is None else found.high * factor,
    )
