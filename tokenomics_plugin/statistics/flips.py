"""What a revision changed: results that it repaired against results that it broke.

Each task is scored before and after a step that could have been left out, such as a reflection. Tasks that the step
did not change say nothing about its direction, so the test is McNemar's, exact: repairs and breakages are tosses of
a coin when the step does nothing.

Sources: McNemar, Psychometrika 12(2), 1947; interval of the net share: Tango, Statistics in Medicine 17(8), 1998,
which inverts the score test and holds its level with few flips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.proportion import clopper_pearson
from tokenomics_plugin.statistics.quantiles import binomial_tail, normal_quantile

__all__ = ["Flips"]

_HALVINGS = 60


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Tasks scored before and after a step; they must be independent of each other."""

    repaired: int
    """Wrong before, right after."""
    broken: int
    """Right before, wrong after."""
    tasks: int
    """All of them, changed or not."""

    def __post_init__(self) -> None:
        if min(self.repaired, self.broken) < 0 or self.repaired + self.broken > self.tasks or not self.tasks:
            raise ValueError(f"needs at least one task and 0 <= repaired + broken <= tasks, got {self}")

    @property
    def net_share(self) -> float:
        """Successes gained per task."""
        return (self.repaired - self.broken) / self.tasks

    @property
    def p_value(self) -> float:
        """Exact McNemar test that the step repairs as often as it breaks, two-sided."""
        return min(1.0, 2 * binomial_tail(min(self.repaired, self.broken), self.repaired + self.broken))

    def net_share_interval(self, *, confidence: float = 0.95) -> Range:
        """Tango's score interval of `net_share`."""
        z = normal_quantile(confidence)
        return Range(
            low=_crossing(lambda share: self._score(share) - z, inside=self.net_share, outside=-1.0),
            high=_crossing(lambda share: -self._score(share) - z, inside=self.net_share, outside=1.0),
        )

    def repaired_among_flips(self, *, confidence: float = 0.95) -> Range | None:
        """Exact interval of the share of repairs among changed tasks; `None` when nothing changed."""
        flips = self.repaired + self.broken
        return clopper_pearson(self.repaired, flips, confidence=confidence) if flips else None

    def _score(self, share: float) -> float:
        """Standard errors by which the observed net share exceeds `share`, at the likeliest rates that yield it."""
        n, b, c = self.tasks, self.repaired, self.broken
        # 2 n q**2 + linear q - c share (1 - share) = 0 for the rate q of breaking.
        linear = -b - c + (2 * n - b + c) * share
        constant = -c * share * (1 - share)
        breaking = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * breaking + share * (1 - share))
        excess = b - c - n * share
        if variance <= 0:
            return 0.0 if excess == 0 else float("inf") if excess > 0 else -float("inf")
        return excess / sqrt(variance)


def _crossing(rejection: Callable[[float], float], *, inside: float, outside: float) -> float:
    """Where `rejection` becomes positive between a share that is not rejected and the last that there is."""
    if rejection(outside) <= 0:
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if rejection(middle) <= 0:
            inside = middle
        else:
            outside = middle
    return inside
