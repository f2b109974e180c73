"""A rule's result: money saved, successes lost, and the value of a success at which the two are even.

The savings of the logged runs are exact; intervals say how far other runs of the same kind would differ, and whole
clusters are drawn again for them. A stopped run of unknown outcome may have been a success: it widens bounds, and is
never counted as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tokenomics_plugin.resampling import ClusterBootstrap, Estimate, quotient
from tokenomics_plugin.simulation.logged_run import LoggedRun
from tokenomics_plugin.simulation.rules import Effect, Rule
from tokenomics_plugin.simulation.run_table import RunTable
from tokenomics_plugin.statistics import ConfidenceSet, Range, ratio_of_sums, wilson

__all__ = ["PolicyResult", "simulate", "simulate_family"]

Floats = NDArray[np.float64]
_UNLABELLED = "Outcomes of {} stopped runs are unknown: bounds hold for whatever they turn out to be."


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """What a rule would have done to the logged runs."""

    rule: Rule
    """The rule, with its parameters."""
    runs: int
    """Runs, whatever their outcome."""
    clusters: int
    """Independent draws behind them."""
    touched_runs: int
    """Runs that it would have stopped or made cheaper."""
    spend: float
    """What the runs cost."""
    saved: Estimate
    """What they would not have cost."""
    saved_share: Estimate
    """The same as a share of the spend; not a number where nothing was spent."""
    failed_spend: float
    """What runs known to have failed cost."""
    saved_in_failures: float
    """What those runs would not have cost."""
    successes: int
    """Runs known to have succeeded."""
    unlabelled_runs: int
    """Runs of unknown outcome."""
    lost_successes: int
    """Known successes that it would have stopped before they stood."""
    possibly_lost: int
    """Stopped runs of unknown outcome."""
    lost_share_limit: float | None
    """One-sided exact upper limit of the share of successes lost, runs taken as independent (Clopper and Pearson)."""
    lost_share_limit_clustered: float | None
    """The same as if successes of one cluster were lost together or not at all, by Wilson's score."""
    success_drop_limit: float
    """One-sided upper limit, clustered, of the fall of the success rate; unknown outcomes count as lost."""
    break_even_value: float | None
    """V*: a success worth less is not worth what the rule saves by losing it. `None` when none is known to be lost."""
    break_even_low: float | None
    """V* if all that are possibly lost are; `None` when none can be."""
    break_even_set: ConfidenceSet | None
    """Fieller's set of V*, clustered; `None` when none is known to be lost."""
    lost_value: Range | None
    """Value lost, from no unknown outcome a success to all; without an upper end where no value limits it, and
    `None` when a success is lost whose worth nobody said."""
    gain: Estimate | None
    """Saved less the value lost; `None` when a lost success has no value, or may be lost without being known."""
    gain_bounds: Range | None
    """The gain's interval over all that the unknown outcomes may be; an end is `None` where no value limits it."""
    assumptions: tuple[str, ...]
    """What must hold for it, in sentences."""
    confidence: float
    """Nominal coverage of intervals, and of one-sided limits."""

    @property
    def least_gain(self) -> float | None:
        """Saved less the most that can have been lost, on the logged runs; `None` when that is unknown."""
        if self.lost_value is None or self.lost_value.high is None:
            return None
        return self.saved.point - self.lost_value.high

    @property
    def cost_per_success(self) -> float | None:
        """Of the runs as they were; `None` without a success."""
        return self.spend / self.successes if self.successes else None

    @property
    def cost_per_success_under_rule(self) -> float | None:
        """Of the runs that the rule leaves. It may fall while the rule destroys value: judge by the gain."""
        kept = self.successes - self.lost_successes
        return (self.spend - self.saved.point) / kept if kept else None


def simulate(
    runs: Sequence[LoggedRun] | RunTable,
    rule: Rule,
    *,
    value: float | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PolicyResult:
    """Evaluate one rule; see `simulate_family`."""
    found = simulate_family(runs, [rule], value=value, resamples=resamples, confidence=confidence, seed=seed)
    return found[0]


def simulate_family(
    runs: Sequence[LoggedRun] | RunTable,
    rules: Sequence[Rule],
    *,
    value: float | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[PolicyResult]:
    """Evaluate rules on the same runs and the same draws.

    Args:
        runs: Logged runs, or the table made of them, which is worth keeping for further families.
        rules: Rules of any kind.
        value: Worth of a success that does not say its own, in the currency of the costs.
        resamples: Bootstrap draws.
        confidence: Nominal coverage.
        seed: Of the draws.

    Returns:
        One result a rule, in their order.

    Raises:
        ValueError: If there is no run, or the runs did not record what a rule looks at.
    """
    if value is not None and not isfinite(value):
        raise ValueError(f"value must be finite, got {value}; use None when nobody said")
    table = runs if isinstance(runs, RunTable) else RunTable.of(runs)
    bootstrap = ClusterBootstrap.draw(table.cluster_of, resamples=resamples, confidence=confidence, seed=seed)
    spend = bootstrap.totals(table.spend)[:, 0]
    return [_result(_Losses.of(table, rule, value), table, rule, bootstrap, spend) for rule in rules]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Losses:
    """What the rule takes from each run; arrays are (runs,)."""

    effect: Effect
    is_lost: NDArray[np.bool_]
    """Known successes cut short."""
    is_possibly_lost: NDArray[np.bool_]
    """Runs of unknown outcome cut short."""
    value: Floats
    """Known value lost; not a number where a success is lost whose worth nobody said."""
    possible_value: Floats
    """Most value lost of runs of unknown outcome; infinite where nothing limits it."""

    @classmethod
    def of(cls, table: RunTable, rule: Rule, value: float | None) -> _Losses:
        effect = rule.effect(table)
        cut, stated = effect.is_cut_short, table.value
        worth = np.where(table.is_success & np.isnan(stated), np.nan if value is None else value, stated)
        # A run of negative value may have done its harm before it was stopped: nothing is credited for it.
        worth = np.where(~table.is_success & np.isnan(stated), 0.0, np.maximum(worth, 0.0))
        is_possibly_lost = cut & table.is_unlabelled
        most = np.where(np.isnan(stated), np.inf if value is None else value, stated)
        return cls(
            effect=effect,
            is_lost=cut & table.is_success,
            is_possibly_lost=is_possibly_lost,
            value=np.where(cut & ~table.is_unlabelled, worth, 0.0),
            possible_value=np.where(is_possibly_lost, np.maximum(most, 0.0), 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """One-sided upper limits of what is lost."""

    exact: float | None
    clustered: float | None
    drop: float

    @classmethod
    def of(cls, lost: int, possibly: int, table: RunTable, confidence: float) -> _Limits:
        successes = table.cluster_of[table.is_success]
        return cls(
            exact=_exact_limit(lost, len(successes), confidence) if len(successes) else None,
            clustered=_clustered_limit(lost, successes, confidence) if len(successes) else None,
            drop=_clustered_limit(lost + possibly, table.cluster_of, confidence),
        )


_NO_LOSS = _Limits(exact=0.0, clustered=0.0, drop=0.0)


def _result(losses: _Losses, table: RunTable, rule: Rule, bootstrap: ClusterBootstrap, spend: Floats) -> PolicyResult:
    saved = bootstrap.totals(losses.effect.saved)[:, 0]
    total, spent = float(losses.effect.saved.sum()), float(table.spend.sum())
    lost, possibly = int(losses.is_lost.sum()), int(losses.is_possibly_lost.sum())
    gain, bounds = _gain(losses, bootstrap, saved)
    limits = _Limits.of(lost, possibly, table, bootstrap.confidence) if rule.can_lose_success else _NO_LOSS
    return PolicyResult(
        rule=rule,
        runs=len(table),
        clusters=bootstrap.clusters,
        touched_runs=int(losses.effect.is_touched.sum()),
        spend=spent,
        saved=bootstrap.estimate(total, saved),
        saved_share=bootstrap.estimate(float(quotient(total, spent)), quotient(saved, spend)),
        failed_spend=float(table.spend[table.is_failure].sum()),
        saved_in_failures=float(losses.effect.saved[table.is_failure].sum()),
        successes=int(table.is_success.sum()),
        unlabelled_runs=int(table.is_unlabelled.sum()),
        lost_successes=lost,
        possibly_lost=possibly,
        lost_share_limit=limits.exact,
        lost_share_limit_clustered=limits.clustered,
        success_drop_limit=limits.drop,
        break_even_value=total / lost if lost else None,
        break_even_low=total / (lost + possibly) if lost + possibly else None,
        break_even_set=_break_even(losses, bootstrap) if lost else None,
        lost_value=_lost_value(losses),
        gain=gain,
        gain_bounds=bounds,
        assumptions=(*rule.assumptions, *((_UNLABELLED.format(possibly),) if possibly else ())),
        confidence=bootstrap.confidence,
    )


def _lost_value(losses: _Losses) -> Range | None:
    least, most = float(losses.value.sum()), float((losses.value + losses.possible_value).sum())
    return None if np.isnan(least) else Range(low=least, high=most if isfinite(most) else None)


def _gain(losses: _Losses, bootstrap: ClusterBootstrap, saved: Floats) -> tuple[Estimate | None, Range | None]:
    if np.isnan(losses.value).any():
        return None, None
    gained = saved - bootstrap.totals(losses.value)[:, 0]
    point = float(losses.effect.saved.sum() - losses.value.sum())
    if not losses.is_possibly_lost.any():
        estimate = bootstrap.estimate(point, gained)
        return estimate, estimate.interval
    high = bootstrap.interval(gained).high
    if np.isinf(losses.possible_value).any():
        return None, Range(low=None, high=high)
    return None, Range(low=bootstrap.interval(gained - bootstrap.totals(losses.possible_value)[:, 0]).low, high=high)


def _break_even(losses: _Losses, bootstrap: ClusterBootstrap) -> ConfidenceSet | None:
    if bootstrap.clusters < 2:
        return None
    pairs = bootstrap.by_unit(np.stack([losses.effect.saved, losses.is_lost.astype(float)], axis=1))
    return ratio_of_sums(map(tuple, pairs.tolist()), confidence=bootstrap.confidence).confidence_set


def _exact_limit(lost: int, successes: int, confidence: float) -> float:
    return 1.0 if lost == successes else float(special.betaincinv(lost + 1, successes - lost, confidence))


def _clustered_limit(lost: int, cluster_of: NDArray[np.intp], confidence: float) -> float:
    """Upper limit of a share, lost of the rows whose clusters are given."""
    sizes = np.bincount(cluster_of)
    # As if all of a cluster were lost together or none: how alike they are cannot be told from a handful of losses.
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    # The upper end of a two-sided interval that leaves as much out on the other side.
    limit = wilson(lost / len(cluster_of) * effective, effective, confidence=2 * confidence - 1).high
    assert limit is not None, "a share has an upper limit"
    return limit
