"""What a figure can still become: its range over every way the missing outcomes may turn out.

A missing outcome is neither a failure nor a success. Manski's worst-case bounds assume nothing about it but
the range it must lie in; they hold whatever made it missing, and shrink to a point as outcomes arrive.

Source: Manski, "Nonparametric bounds on treatment effects", American Economic Review 80(2), 1990.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

__all__ = ["Range", "manski_bounds"]


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
        return Range(
            low=None if self.low is None or other.low is None else min(self.low, other.low),
            high=None if self.high is None or other.high is None else max(self.high, other.high),
        )


def manski_bounds(
    observed: Iterable[tuple[float, float]],
    *,
    lowest: Iterable[tuple[float, float]],
    highest: Iterable[tuple[float, float]],
) -> Range:
    """A ratio of sums over observed and missing tasks together, at both extremes of the missing ones.

    Args:
        observed: (numerator, denominator) of what was observed.
        lowest: The same of what is missing, if it turns out to make the ratio as low as it can.
        highest: The same, as high as it can.

    Returns:
        The range of the ratio; without an upper limit when its denominator may turn out to be 0, as the
        successes in cost per success.

    Raises:
        ValueError: If the denominator is 0 at the low extreme: then there is no ratio at all.
    """
    known = list(observed)
    low, high = _quotient([*known, *lowest]), _quotient([*known, *highest])
    if low is None:
        raise ValueError("the denominators sum to 0 whatever the missing turn out to be: there is no ratio")
    return Range(low=low, high=high)


def _quotient(pairs: list[tuple[float, float]]) -> float | None:
    denominator = fsum(below for _, below in pairs)
    return fsum(above for above, _ in pairs) / denominator if denominator else None
