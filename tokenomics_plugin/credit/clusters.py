"""Runs that are draws of one task: they end alike, so sums per task are what varies independently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenomics_plugin.credit.games import FloatArray

__all__ = ["Clusters"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """The cluster of each run."""

    index: NDArray[np.int64]
    """Number of each run's cluster, from 0."""
    count: int
    """How many clusters."""

    @classmethod
    def of(cls, labels: Sequence[object] | NDArray[np.generic] | None, *, runs: int) -> Clusters:
        """Number the clusters of the runs; without labels each run is one of its own.

        Raises:
            ValueError: If there is not one label per run, or are fewer than two clusters.
        """
        if labels is None:
            index, count = np.arange(runs), runs
        else:
            if len(labels) != runs:
                raise ValueError(f"each run needs a cluster, got {len(labels)} labels for {runs} runs")
            names, index = np.unique(np.asarray(labels), return_inverse=True)
            count = len(names)
        if count < 2:
            raise ValueError(f"an interval needs at least two clusters, got {count}")
        return cls(index=index.astype(np.int64), count=count)

    @property
    def sizes(self) -> FloatArray:
        """Runs of each cluster."""
        return np.bincount(self.index, minlength=self.count).astype(np.float64)

    def sums(self, of_runs: ArrayLike) -> FloatArray:
        """What a figure of each run, or a row of figures, sums to in each cluster.

        Raises:
            ValueError: If a figure is not finite.
        """
        figures = np.asarray(of_runs, dtype=np.float64)
        if not np.isfinite(figures).all():
            raise ValueError("outcomes and costs must be finite: leave out, or bound, runs in which one is unknown")
        if figures.ndim == 1:
            return np.bincount(self.index, weights=figures, minlength=self.count).astype(np.float64)
        return np.stack([self.sums(column) for column in figures.T], axis=1)
