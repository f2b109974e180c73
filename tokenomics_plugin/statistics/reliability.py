"""Whether a task succeeds every time, or at least once, in k trials, and what each kind of certainty costs.

pass^k is the share of tasks of which k trials all succeed, pass@k the share of which one of k succeeds. Both are
averages over the ways to choose k of a task's trials, hence unbiased for any n >= k; neither is a power of the
success rate, because tasks differ in difficulty.

Sources: Chen et al., arXiv 2107.03374 (pass@k); Yao et al., tau-bench, arXiv 2406.12045 (pass^k).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from tokenomics_plugin.statistics.clusters import Column, Floats, as_column, cluster_sums
from tokenomics_plugin.statistics.mean import Mean
from tokenomics_plugin.statistics.proportion import effective_wilson
from tokenomics_plugin.statistics.ratio import Ratio, ratio_of_sums

__all__ = ["cost_of_reliability", "pass_at_k", "pass_hat_k"]

Tasks = Iterable[tuple[int, int]]
"""(successes, trials) of each task."""
_Clusters = Sequence[Hashable] | None


def pass_hat_k(tasks: Tasks, k: int, *, clusters: _Clusters = None, confidence: float = 0.95) -> Mean:
    """pass^k: mean over tasks of C(successes, k) / C(trials, k).

    Args:
        tasks: (successes, trials) of each task.
        k: Trials that must all succeed.
        clusters: The cluster of each task, where tasks are alike; by default each task is its own.
        confidence: Nominal coverage of the interval, Wilson's on the effective number of tasks.

    Raises:
        ValueError: If there is no task, a count is impossible, or a task has fewer than `k` trials.
    """
    successes, trials = _counts(tasks, k)
    return _mean(_share_of_choices(successes, trials, k), trials, clusters, confidence)


def pass_at_k(tasks: Tasks, k: int, *, clusters: _Clusters = None, confidence: float = 0.95) -> Mean:
    """pass@k: mean over tasks of 1 - C(failures, k) / C(trials, k); arguments and errors as of `pass_hat_k`."""
    successes, trials = _counts(tasks, k)
    return _mean(1 - _share_of_choices(trials - successes, trials, k), trials, clusters, confidence)


def cost_of_reliability(
    tasks: Tasks, costs: Column, k: int, *, clusters: _Clusters = None, confidence: float = 0.95
) -> Ratio:
    """What k trials cost per task that succeeds in all of them, k E[C] / pass^k; Fieller's set.

    Args:
        tasks: (successes, trials) of each task.
        costs: Total cost of each task's trials.
        k: Trials that must all succeed.
        clusters: The cluster of each task, where tasks are alike.
        confidence: Nominal coverage of the set.

    Raises:
        ValueError: As `pass_hat_k`, or if no task can succeed `k` times in its trials.
    """
    successes, trials = _counts(tasks, k)
    spent = k * as_column("costs", costs, size=len(trials)) / trials
    reliable = _share_of_choices(successes, trials, k)
    return ratio_of_sums(cluster_sums(np.stack([spent, reliable], axis=1), clusters), confidence=confidence)


def _counts(tasks: Tasks, k: int) -> tuple[Floats, Floats]:
    rows = np.asarray(list(tasks), dtype=np.float64).reshape(-1, 2)
    successes, trials = rows.T
    if not len(rows) or not ((successes >= 0) & (successes <= trials)).all():
        raise ValueError("tasks must each be (successes, trials) with 0 <= successes <= trials, and at least one")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if (short := int((trials < k).sum())) > 0:
        raise ValueError(f"every task needs at least k={k} trials, {short} of {len(rows)} have fewer: ask for less")
    return successes, trials


def _share_of_choices(chosen: Floats, total: Floats, k: int) -> Floats:
    """C(chosen, k) / C(total, k), without the large numbers."""
    share = np.ones_like(total)
    for taken in range(k):
        share *= np.maximum(0.0, chosen - taken) / (total - taken)
    return share


def _mean(shares: Floats, trials: Floats, clusters: _Clusters, confidence: float) -> Mean:
    totals, sizes = cluster_sums(np.stack([shares, np.ones_like(shares)], axis=1), clusters).T
    interval = effective_wilson(totals, sizes, most=float(trials.sum()), confidence=confidence)
    return Mean(estimate=float(shares.mean()), interval=interval, clusters=len(totals))
