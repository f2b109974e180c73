"""Ratios of sums, such as cost per success, with Fieller's confidence set.

A ratio of sums weighs every task as the bill does; a mean of ratios would let a cheap task count as much as
a dear one, and breaks on the first failure. Its uncertainty comes from both sums, and between clusters only.

Fieller's set holds its level with ten clusters and heavy-tailed costs, where the usual delta interval does
not. It is not always an interval: when the denominator cannot be told from 0, the data exclude no large
ratio, and the set says so instead of pretending to an end.

Source: Fieller, J. Royal Statistical Society B 16(2), 1954.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import copysign, fsum, sqrt

from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["ConfidenceSet", "Ratio", "SetShape", "ratio_of_sums"]


class SetShape(StrEnum):
    """What a Fieller set looks like on the line of ratios."""

    INTERVAL = "interval"
    """From `low` to `high`."""
    AT_LEAST = "at_least"
    """`low` and everything above."""
    AT_MOST = "at_most"
    """`high` and everything below."""
    DISJOINT = "disjoint"
    """Everything up to `high`, and everything from `low`, where `high` < `low`."""
    EVERYTHING = "everything"
    """Any ratio: the data exclude none."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceSet:
    """The ratios that the data do not reject."""

    shape: SetShape
    """Which of `low` and `high` bind, and how."""
    low: float | None = None
    """Where a part of the set begins; `None` when no part has a beginning."""
    high: float | None = None
    """Where a part of the set ends; `None` when no part has an end."""

    def __contains__(self, ratio: float) -> bool:
        """Whether the data are compatible with `ratio`."""
        above = self.low is None or ratio >= self.low
        below = self.high is None or ratio <= self.high
        return above or below if self.shape is SetShape.DISJOINT else above and below


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of sums over clusters."""

    estimate: float
    """Sum of the numerators over sum of the denominators."""
    confidence_set: ConfidenceSet
    """Fieller's set around it."""
    clusters: int
    """Independent draws behind it."""


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Means and covariances of means, over clusters."""

    mean_a: float
    mean_b: float
    var_a: float
    var_b: float
    cov_ab: float


def ratio_of_sums(clusters: Iterable[tuple[float, float]], *, confidence: float = 0.95) -> Ratio:
    """Estimate sum(a) / sum(b) from one pair (a, b) of totals per cluster.

    The set holds all R with (mean(a) - R mean(b))**2 <= t**2 S(R) / G, where S is the sample variance of
    a - R b over the G clusters (divisor G - 1) and t the Student quantile with G - 1 degrees of freedom.

    Raises:
        ValueError: If there are fewer than two clusters, or the denominators sum to 0.
    """
    pairs = [(float(a), float(b)) for a, b in clusters]
    if len(pairs) < 2:
        raise ValueError(f"a ratio's set needs at least two clusters, got {len(pairs)}")
    total = fsum(b for _, b in pairs)
    if total == 0:
        raise ValueError("the denominators sum to 0: there is no ratio")
    # In units of the largest total, so that squares neither overflow nor vanish.
    unit_a = max(abs(a) for a, _ in pairs) or 1.0
    unit_b = max(abs(b) for _, b in pairs)
    moments = _moments([(a / unit_a, b / unit_b) for a, b in pairs])
    t = t_quantile(confidence, degrees_of_freedom=len(pairs) - 1)
    return Ratio(
        estimate=fsum(a for a, _ in pairs) / total,
        confidence_set=_scaled(_fieller(moments, t), unit_a / unit_b),
        clusters=len(pairs),
    )


def _moments(pairs: Sequence[tuple[float, float]]) -> _Moments:
    size = len(pairs)
    mean_a, mean_b = (fsum(column) / size for column in zip(*pairs, strict=True))
    divisor = size * (size - 1)  # variance of the mean
    return _Moments(
        mean_a=mean_a,
        mean_b=mean_b,
        var_a=fsum((a - mean_a) ** 2 for a, _ in pairs) / divisor,
        var_b=fsum((b - mean_b) ** 2 for _, b in pairs) / divisor,
        cov_ab=fsum((a - mean_a) * (b - mean_b) for a, b in pairs) / divisor,
    )


def _fieller(m: _Moments, t: float) -> ConfidenceSet:
    """Solve square * R**2 - 2 * linear * R + constant <= 0."""
    square = m.mean_b**2 - t**2 * m.var_b
    linear = m.mean_a * m.mean_b - t**2 * m.cov_ab
    constant = m.mean_a**2 - t**2 * m.var_a
    if square == 0:
        return _half_line(linear, constant)
    discriminant = linear**2 - square * constant
    if square > 0:
        # The estimate itself solves the inequality, so a negative discriminant is a rounding error.
        low, high = _roots(square, linear, constant, sqrt(max(0.0, discriminant)))
        return ConfidenceSet(shape=SetShape.INTERVAL, low=low, high=high)
    if discriminant < 0:
        return ConfidenceSet(shape=SetShape.EVERYTHING)
    end, beginning = _roots(square, linear, constant, sqrt(discriminant))
    return ConfidenceSet(shape=SetShape.DISJOINT, low=beginning, high=end)


def _half_line(linear: float, constant: float) -> ConfidenceSet:
    if linear == 0:
        return ConfidenceSet(shape=SetShape.EVERYTHING)
    limit = constant / (2 * linear)
    if linear > 0:
        return ConfidenceSet(shape=SetShape.AT_LEAST, low=limit)
    return ConfidenceSet(shape=SetShape.AT_MOST, high=limit)


def _roots(square: float, linear: float, constant: float, root: float) -> tuple[float, float]:
    # The textbook formula loses the smaller root to cancellation; their product is constant / square.
    farther = linear + copysign(root, linear)
    if farther == 0:
        return 0.0, 0.0
    first, second = farther / square, constant / farther
    return min(first, second), max(first, second)


def _scaled(found: ConfidenceSet, factor: float) -> ConfidenceSet:
    return ConfidenceSet(
        shape=found.shape,
        low=None if found.low is None else found.low * factor,
        high=None if found.high is None else found.high * factor,
    )
