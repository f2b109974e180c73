"""Intervals of anything that is computed from totals, by drawing whole clusters again.

The draws are made once, as the weight of each cluster in each resample, and then shared: totals of any number of
columns are one matrix product. That prices a family of fifty policies for little more than one, and makes their
intervals comparable, because all of them saw the same draws.

Source: Field and Welsh, J. Royal Statistical Society B 69(3), 2007 (the cluster bootstrap, and when it holds).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics import Range

__all__ = ["ClusterBootstrap", "Estimate", "cluster_codes", "quotient"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_MAX_UNITS = 2000
"""Independent draws that are kept apart. More are first dealt into this many random groups: with so many, the
groups' totals vary as the clusters' do, and time no longer grows with the logs."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval."""

    point: float
    """What the data say."""
    interval: Range
    """Confidence interval; an end is `None` where the data set no limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterBootstrap:
    """Resamples of clusters, drawn with replacement."""

    weights: Floats
    """How often each unit occurs in each resample, (resamples, units)."""
    unit_of: Codes
    """The unit of each row of data: its cluster, or the group that its cluster was dealt into."""
    cluster_of: Codes
    """The cluster of each row of data."""
    confidence: float
    """Nominal coverage of its intervals."""

    @classmethod
    def draw(
        cls, cluster_of: Codes, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
    ) -> ClusterBootstrap:
        """Draw the resamples.

        Args:
            cluster_of: The cluster of each row, from 0 without gaps, as `cluster_codes` numbers them.
            resamples: How many.
            confidence: Nominal coverage, such as 0.95.
            seed: The same seed and clusters give the same draws.

        Raises:
            ValueError: If there is no row, or `confidence` is not strictly between 0 and 1.
        """
        if not len(cluster_of):
            raise ValueError("there is nothing to resample: the data hold no row")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be strictly between 0 and 1, such as 0.95, got {confidence}")
        random = np.random.default_rng(seed)
        clusters = int(cluster_of.max()) + 1
        units = min(clusters, _MAX_UNITS)
        group_of = random.permutation(clusters) % units if clusters > units else np.arange(clusters)
        weights = random.multinomial(units, np.full(units, 1 / units), size=resamples)
        return cls(
            weights=weights.astype(float),
            unit_of=group_of[cluster_of],
            cluster_of=cluster_of,
            confidence=confidence,
        )

    @property
    def clusters(self) -> int:
        """Independent draws behind the data."""
        return int(self.cluster_of.max()) + 1

    def by_unit(self, rows: Floats) -> Floats:
        """Add up the rows of each unit: (rows,) or (rows, columns) becomes (units, columns)."""
        columns = np.atleast_2d(rows.T)
        units = self.weights.shape[1]
        return np.stack([np.bincount(self.unit_of, weights=column, minlength=units) for column in columns], axis=1)

    def totals(self, rows: Floats) -> Floats:
        """Sums of the columns in each resample, (resamples, columns)."""
        totals: Floats = self.weights @ self.by_unit(rows)
        return totals

    def estimate(self, point: float, resampled: Floats) -> Estimate:
        """The percentile interval around a point; resamples in which the number is undefined count as infinite."""
        return Estimate(point=point, interval=self.interval(resampled))

    def interval(self, resampled: Floats) -> Range:
        """The percentile interval; an end that is not finite is no limit."""
        tail = (1 - self.confidence) / 2
        known = np.where(np.isnan(resampled), np.inf, resampled)
        # A quantile that is one of the draws: interpolating between infinite ones would give no number.
        low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf")
        return Range(low=_limit(low), high=_limit(high))


def cluster_codes(clusters: Iterable[Hashable]) -> Codes:
    """Number clusters from 0, in the order in which they first occur."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)


def quotient(above: Any, below: Any) -> Floats:
    """Divide element by element; by 0, what is positive becomes infinite and 0 has no quotient."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divided: Floats = np.divide(above, below)
    return divided


def _limit(end: float) -> float | None:
    return float(end) if isfinite(end) else None
