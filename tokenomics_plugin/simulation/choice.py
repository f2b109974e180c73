"""Choosing a rule from a family without believing the luck of the best one.

The best of fifty rules looks better on the runs that it was chosen on than it is. So it is chosen on one half of the
clusters and reported on the other, which had no say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from tokenomics_plugin.simulation.evaluation import PolicyResult, simulate, simulate_family
from tokenomics_plugin.simulation.rules import Rule
from tokenomics_plugin.simulation.run_table import RunTable

__all__ = ["Choice", "choose_rule"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The rule that one half of the clusters chose."""

    chosen_on: PolicyResult
    """Its result there: too good to be true."""
    reported_on: PolicyResult
    """Its result on the other half: what may be expected of it."""

    @property
    def rule(self) -> Rule:
        """The rule."""
        return self.reported_on.rule


def choose_rule(
    table: RunTable,
    rules: Sequence[Rule],
    *,
    value: float | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Choice | None:
    """Choose on half of the clusters, report on the others.

    With a `value`, the rule of the largest gain is chosen, unknown outcomes counted as lost; without one, the rule
    that saves most and can lose no success.

    Returns:
        The choice; `None` when no rule qualifies, since doing nothing is better.

    Raises:
        ValueError: If there are fewer than two clusters.
    """
    clusters = int(table.cluster_of.max()) + 1
    if clusters < 2:
        raise ValueError(f"splitting needs at least two clusters, got {clusters}")
    is_choosing = np.random.default_rng(seed).permutation(clusters) < clusters // 2
    halves = [table.select(is_choosing[table.cluster_of] == choosing) for choosing in (True, False)]
    # Resamples play no part in the choice.
    results = simulate_family(halves[0], rules, value=value, resamples=1)
    best = max(results, key=lambda result: _merit(result, value), default=None)
    if best is None or _merit(best, value) <= 0:
        return None
    chosen, reported = (
        simulate(half, best.rule, value=value, resamples=resamples, confidence=confidence, seed=seed) for half in halves
    )
    return Choice(chosen_on=chosen, reported_on=reported)


def _merit(result: PolicyResult, value: float | None) -> float:
    if value is None:
        return -inf if result.lost_successes or result.possibly_lost else result.saved.point
    return -inf if result.least_gain is None else result.least_gain
