"""A mean per task whose tasks come in clusters, such as net value per task.

The interval is Student's, on the cluster-robust standard error (Liang and Zeger, Biometrika 73(1), 1986;
for evaluations of language models: Miller, arXiv 2411.00640).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum, sqrt

from tokenomics_plugin.statistics.bounds import Range
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


def cluster_mean(clusters: Iterable[tuple[float, float]], *, confidence: float = 0.95) -> Mean:
    """Estimate the mean per task from (sum, number of tasks) of each cluster.

    Raises:
        ValueError: If there are fewer than two clusters, or no task.
    """
    pairs = [(float(total), float(tasks)) for total, tasks in clusters]
    if len(pairs) < 2:
        raise ValueError(f"a mean's interval needs at least two clusters, got {len(pairs)}")
    tasks = fsum(size for _, size in pairs)
    if tasks <= 0:
        raise ValueError(f"the clusters must hold tasks, got {tasks}")
    mean = fsum(total for total, _ in pairs) / tasks
    squares = fsum((total - mean * size) ** 2 for total, size in pairs)
    standard_error = sqrt(len(pairs) / (len(pairs) - 1) * squares) / tasks
    reach = t_quantile(confidence, degrees_of_freedom=len(pairs) - 1) * standard_error
    return Mean(estimate=mean, interval=Range(low=mean - reach, high=mean + reach), clusters=len(pairs))
