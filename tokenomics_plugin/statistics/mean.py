"""A mean per task whose tasks come in clusters, such as net value per task.

The interval is Student's, on the cluster-robust standard error (Liang and Zeger, Biometrika 73(1), 1986;
for evaluations of language models: Miller, arXiv 2411.00640).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Pairs, as_pairs
from tokenomics_plugin.statistics.quantiles import t_quantile

__all__ = ["Mean", "cluster_mean"]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over tasks."""

    estimate: float
    """Sum over tasks divided by their number."""
    interval: Range
    """Confidence interval."""
    clusters: int
    """Independent draws behind it."""


def cluster_mean(clusters: Pairs, *, confidence: float = 0.95) -> Mean:
    """Estimate the mean per task from (sum, number of tasks) of each cluster.

    Raises:
        ValueError: If there are fewer than two clusters, no task, or a sum is not finite.
    """
    totals, sizes = as_pairs(clusters).T
    tasks = fsum(sizes.tolist())
    if tasks <= 0:
        raise ValueError(f"the clusters must hold tasks, got {tasks}")
    mean = fsum(totals.tolist()) / tasks
    squares = fsum(((totals - mean * sizes) ** 2).tolist())
    standard_error = sqrt(len(totals) / (len(totals) - 1) * squares) / tasks
    reach = t_quantile(confidence, degrees_of_freedom=len(totals) - 1) * standard_error
    return Mean(estimate=mean, interval=Range(low=mean - reach, high=mean + reach), clusters=len(totals))
