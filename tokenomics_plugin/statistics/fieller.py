"""Fieller's confidence set: the ratios of two means that the means and their covariances do not reject.

It is not always an interval: when the denominator cannot be told from 0, the data exclude no large ratio, and
the set says so instead of pretending to an end.

Source: Fieller, J. Royal Statistical Society B 16(2), 1954.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import copysign, sqrt

__all__ = ["ConfidenceSet", "Moments", "SetShape", "fieller_set"]


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
class Moments:
    """Two means, above and below the line, and the covariances of these means."""

    mean_a: float
    """Mean above the line."""
    mean_b: float
    """Mean below it."""
    var_a: float
    """Squared standard error of `mean_a`."""
    var_b: float
    """Squared standard error of `mean_b`."""
    cov_ab: float
    """Covariance of the two."""


def fieller_set(m: Moments, reach: float) -> ConfidenceSet:
    """All R with (mean_a - R mean_b)**2 <= reach**2 (var_a - 2 R cov_ab + R**2 var_b)."""
    # Solves square * R**2 - 2 * linear * R + constant <= 0.
    square = m.mean_b**2 - reach**2 * m.var_b
    linear = m.mean_a * m.mean_b - reach**2 * m.cov_ab
    constant = m.mean_a**2 - reach**2 * m.var_a
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
