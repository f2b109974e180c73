"""What rules would have saved on the logged runs: worked out once for all pages, since it takes seconds.

The families are made of the runs themselves, at the quantiles of their calls and costs, so that a rule that could
touch nothing is not asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.simulation import (
    CallCap,
    Choice,
    CostBudget,
    FailedSpend,
    FrontierPoint,
    LoopBreaker,
    PolicyResult,
    Recommendation,
    Rule,
    RunTable,
    StopAfterErrors,
    avoidable_failed_spend,
    choose_rule,
    recommend,
    simulate_family,
    truncation_frontier,
)
from tokenomics_plugin.trajectory import SideEffects

__all__ = ["Savings", "savings_of"]

_QUANTILES: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_RESAMPLES: Final = 400
_FEWEST_RUNS: Final = 20
"""Runs below which nothing is recommended: a rule chosen on fewer owes its looks to luck."""


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What was found."""

    runs: int
    """Runs that were looked at."""
    share: float
    """Share of the traces that they are a sample of."""
    results: tuple[PolicyResult, ...]
    """Of every rule."""
    frontier: tuple[FrontierPoint, ...]
    """Rules that stop runs, those that no other beats."""
    recommendations: tuple[Recommendation, ...]
    """The best of each kind that saves more than it may lose, by saving."""
    choice: Choice | None
    """The best of all, chosen on one half of the tasks and reported on the other."""
    failed: FailedSpend | None
    """Money in failed runs, and how much of it was avoidable; `None` without rules."""


def savings_of(analysis: Analysis, *, value: float | None = None) -> Savings | None:
    """Simulate rules.

    Args:
        analysis: With the runs.
        value: Worth of a success that does not say its own, USD; without one, only rules that lose none are advised.

    Returns:
        What was found; `None` with too few runs of known cost.
    """
    if len(analysis.runs) < _FEWEST_RUNS:
        return None
    table = RunTable.of(analysis.runs)
    rules = [*_rules(table, analysis.side_effects)]
    results = simulate_family(table, rules, value=value, resamples=_RESAMPLES)
    stopping = [result for result in results if isinstance(result.rule, CallCap | CostBudget)]
    has_clusters = int(table.cluster_of.max()) >= 1
    return Savings(
        runs=len(analysis.runs),
        share=analysis.simulated_share,
        results=tuple(results),
        frontier=truncation_frontier(stopping),
        recommendations=tuple(_best_of_each_kind(table, results, value)),
        choice=choose_rule(table, rules, value=value, resamples=_RESAMPLES) if rules and has_clusters else None,
        failed=avoidable_failed_spend(results) if results else None,
    )


def _rules(table: RunTable, side_effects: SideEffects) -> Iterator[Rule]:
    calls = np.unique(np.quantile(table.calls, _QUANTILES, method="lower"))
    yield from (CallCap(calls=int(cap)) for cap in calls if cap >= 1)
    budgets = np.unique(np.quantile(table.spend, _QUANTILES, method="lower"))
    yield from (CostBudget(limit=float(f"{limit:.3g}")) for limit in budgets if limit > 0)
    yield from (StopAfterErrors(errors=errors) for errors in (1, 2, 3, 5))
    yield from (LoopBreaker(repeats=repeats, read_only=side_effects.harmless) for repeats in (2, 3))


def _best_of_each_kind(table: RunTable, results: Sequence[PolicyResult], value: float | None) -> list[Recommendation]:
    best: dict[type[Rule], PolicyResult] = {}
    for result in results:
        kind = type(result.rule)
        if _merit(result, value) > max(0.0, _merit(best[kind], value) if kind in best else 0.0):
            best[kind] = result
    advice = [recommend(table, result, value=value) for result in best.values()]
    return sorted((found for found in advice if found is not None), key=lambda found: -found.saving.point)


def _merit(result: PolicyResult, value: float | None) -> float:
    """What a rule is worth on the logged runs: without a value of successes, nothing if it may lose one."""
    if value is None:
        return 0.0 if result.lost_successes or result.possibly_lost else result.saved.point
    return result.least_gain or 0.0
