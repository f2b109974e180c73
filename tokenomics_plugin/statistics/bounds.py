"""What a figure can still become: bounds over every way the missing outcomes may turn out.

A missing outcome is neither a failure nor a success. Manski's worst-case bounds assume nothing about it but
the range it must lie in; they hold whatever made it missing, and shrink to a point as outcomes arrive.

Source: Manski, "Nonparametric bounds on treatment effects", American Economic Review 80(2), 1990.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Range", "mean_bounds", "proportion_bounds", "ratio_bounds"]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Every number from `low` to `high`."""

    low: float | None
    """Smallest number; `None` when there is no lower limit."""
    high: float | None
    """Largest number; `None` when there is no upper limit."""

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not exceed high, got low={self.low} and high={self.high}")

    def __contains__(self, number: float) -> bool:
        """Whether `number` lies in the range, ends included."""
        return (self.low is None or self.low <= number) and (self.high is None or number <= self.high)

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        lows = [limit for limit in (self.low, other.low) if limit is not None]
        highs = [limit for limit in (self.high, other.high) if limit is not None]
        return Range(low=min(lows) if len(lows) == 2 else None, high=max(highs) if len(highs) == 2 else None)


def proportion_bounds(*, successes: int, failures: int, missing: int) -> Range:
    """Share of successes if every missing outcome fails, to the share if every one succeeds.

    Raises:
        ValueError: If a count is negative, or all are 0.
    """
    return mean_bounds(total=successes, observed=successes + failures, missing=missing, lowest=0, highest=1)


def mean_bounds(*, total: float, observed: int, missing: int, lowest: float, highest: float) -> Range:
    """Mean over observed and missing together, each missing one between `lowest` and `highest`.

    Args:
        total: Sum over the observed.
        observed: How many were observed.
        missing: How many were not.
        lowest: Smallest number a missing one may be.
        highest: Largest number a missing one may be.

    Raises:
        ValueError: If a count is negative, or both are 0.
    """
    if observed < 0 or missing < 0:
        raise ValueError(f"counts must not be negative, got observed={observed} and missing={missing}")
    if observed + missing == 0:
        raise ValueError("a mean over nothing has no bounds: observed and missing are both 0")
    everyone = observed + missing
    return Range(low=(total + missing * lowest) / everyone, high=(total + missing * highest) / everyone)


def ratio_bounds(*, numerator: float, denominator: float, missing_low: float, missing_high: float) -> Range:
    """A ratio whose denominator lacks between `missing_low` and `missing_high`, as cost / (successes + missing).

    Returns:
        The range of the ratio; without an upper limit when the denominator may be 0.

    Raises:
        ValueError: If a part is negative, or the denominator is 0 whatever the missing part is.
    """
    if min(numerator, denominator, missing_low) < 0:
        raise ValueError(
            f"parts must not be negative, got numerator={numerator}, denominator={denominator}, "
            f"missing_low={missing_low}"
        )
    smallest, largest = denominator + missing_low, denominator + missing_high
    if largest == 0:
        raise ValueError("the denominator is 0 whatever the missing part is: there is no ratio")
    return Range(low=numerator / largest, high=numerator / smallest if smallest else None)
