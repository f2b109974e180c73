"""When there is too little data for a figure: then a report shows counts, and says why.

The limits come from the coverage of the intervals in simulation: below ten clusters, or five successes or
failures, a third of the sets are unbounded and rankings are noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.fieller import ConfidenceSet, SetShape

__all__ = ["MAX_HALF_WIDTH", "MAX_MISSING_SHARE", "MIN_CLUSTERS", "Badge", "SampleSize", "relative_half_width"]

MIN_CLUSTERS = 10
"""Independent draws below which nothing is estimated."""
_MIN_EACH = 5
"""Successes, and failures, below which no ratio is."""
_AMPLE_CLUSTERS = 30
_AMPLE_SUCCESSES = 10
MAX_MISSING_SHARE = 0.2
"""Share of tasks without a final outcome above which an estimate would be a guess."""
MAX_HALF_WIDTH = 0.5
"""Half-width of an interval, relative to its estimate, above which the estimate says little."""


class Badge(StrEnum):
    """What a report puts beside a figure, or in place of it."""

    COUNTS_ONLY = "counts only"
    """Too little data: no figure and no ranking, only what was counted."""
    BOUNDS_ONLY = "bounds only"
    """Too many outcomes are missing: no figure, only what it can still become."""
    GREYED = "greyed"
    """The interval is so wide that the figure says little."""
    LOW_CONFIDENCE = "low confidence"
    """The figure may be read, with caution."""


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """What a figure rests on."""

    clusters: int
    """Independent draws."""
    successes: int
    """Tasks that succeeded."""
    failures: int
    """Tasks that ended otherwise."""
    unlabelled: int = 0
    """Tasks without a final outcome, which are in none of the above."""

    @property
    def too_small_for_a_mean(self) -> str | None:
        """Why no rate or mean can be estimated; `None` when one can."""
        if self.clusters < MIN_CLUSTERS:
            return f"needs at least {MIN_CLUSTERS} independent tasks or groups, there {_are(self.clusters)}"
        return None

    @property
    def too_small_for_a_ratio(self) -> str | None:
        """Why no ratio of cost, value and successes can be estimated; `None` when one can."""
        if self.successes < _MIN_EACH:
            return f"needs at least {_MIN_EACH} successes, there {_are(self.successes)}"
        if self.failures < _MIN_EACH:
            return f"needs at least {_MIN_EACH} failures, there {_are(self.failures)}"
        return self.too_small_for_a_mean

    @property
    def too_many_missing(self) -> str | None:
        """Why the missing outcomes forbid an estimate; `None` when they do not."""
        tasks = self.successes + self.failures + self.unlabelled
        if not tasks or self.unlabelled / tasks <= MAX_MISSING_SHARE:
            return None
        return f"{self.unlabelled} of {tasks} tasks have no final outcome, more than {MAX_MISSING_SHARE:.0%}"

    @property
    def caveat(self) -> str | None:
        """Why a figure that can be estimated is still of low confidence; `None` when it is not."""
        if self.clusters < _AMPLE_CLUSTERS:
            return f"low confidence: {self.clusters} independent tasks or groups, fewer than {_AMPLE_CLUSTERS}"
        if self.successes < _AMPLE_SUCCESSES:
            return f"low confidence: {self.successes} successes, fewer than {_AMPLE_SUCCESSES}"
        return None

    def badge(self, *, half_width: float, is_ratio: bool = True) -> Badge | None:
        """How a figure is to be shown; `None`: without a badge.

        Args:
            half_width: Of its interval, see `relative_half_width`.
            is_ratio: Whether it is a ratio of cost, value and successes, not a rate or mean per task.
        """
        if (self.too_small_for_a_ratio if is_ratio else self.too_small_for_a_mean) is not None:
            return Badge.COUNTS_ONLY
        if self.too_many_missing is not None:
            return Badge.BOUNDS_ONLY
        if half_width > MAX_HALF_WIDTH:
            return Badge.GREYED
        return None if self.caveat is None else Badge.LOW_CONFIDENCE


def relative_half_width(estimate: float, limits: Range | ConfidenceSet) -> float:
    """Half the width of an interval over its estimate; infinite where it has no end, or the estimate is 0."""
    unbounded = isinstance(limits, ConfidenceSet) and limits.shape is not SetShape.INTERVAL
    if unbounded or limits.low is None or limits.high is None or estimate == 0:
        return inf
    return (limits.high - limits.low) / 2 / abs(estimate)


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
