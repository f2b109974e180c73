"""When there is too little data for a figure: then a report shows counts, and says why.

The limits come from the coverage of the intervals in simulation: below ten clusters, or five successes or
failures, a third of the sets are unbounded and rankings are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MIN_CLUSTERS", "SampleSize"]

MIN_CLUSTERS = 10
"""Independent draws below which nothing is estimated."""
_MIN_EACH = 5
"""Successes, and failures, below which no ratio is."""
_AMPLE_CLUSTERS = 30
_AMPLE_SUCCESSES = 10


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """What a figure rests on."""

    clusters: int
    """Independent draws."""
    successes: int
    """Tasks that succeeded."""
    failures: int
    """Tasks that ended otherwise."""

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
    def caveat(self) -> str | None:
        """Why a figure that can be estimated is still of low confidence; `None` when it is not."""
        if self.clusters < _AMPLE_CLUSTERS:
            return f"low confidence: {self.clusters} independent tasks or groups, fewer than {_AMPLE_CLUSTERS}"
        if self.successes < _AMPLE_SUCCESSES:
            return f"low confidence: {self.successes} successes, fewer than {_AMPLE_SUCCESSES}"
        return None


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
