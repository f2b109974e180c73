"""What attempt k adds, and what it costs: the curve that says how often to try.

Attempt k happens only after k - 1 failures, so everything here is conditional on reaching it. Its inputs are shares:
how much of each task reaches attempt k, succeeds there and spends there. Repeated trials give fractions, attempts
from production give 0 and 1, and the arithmetic is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.marginal.beta_binomial import BetaBinomial
from tokenomics_plugin.resampling import ClusterBootstrap, Estimate, quotient
from tokenomics_plugin.statistics import ConfidenceSet, SampleSize, ratio_of_sums

__all__ = ["Attempt", "Forecast", "RetryCurve", "Shares", "draw_curve"]

Floats = NDArray[np.float64]

_FORECAST_ATTEMPTS = 2
"""How far the fit is trusted beyond the data."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Attempt k of a task, among the tasks that reach it."""

    number: int
    """k, from 1."""
    reach: float
    """Share of tasks that get here: those that failed k - 1 times."""
    success_probability: Estimate
    """q_k: P(success at k | k - 1 failures)."""
    shrunk_probability: float
    """q_k drawn towards the beta-binomial fit, the more the fewer tasks reach it; q_k itself without a fit."""
    modelled_probability: float | None
    """q_k of the beta-binomial fit alone."""
    cost: Estimate
    """Mean cost of this attempt, in the unit of the trials' costs."""
    marginal_cost: Estimate | None
    """Cost per additional success, cost / q_k, with its bootstrap interval; `None` when none succeeded here."""
    marginal_cost_set: ConfidenceSet | None
    """Fieller's set of the same, clustered; `None` with fewer than two clusters or no success."""
    cumulative_success: Estimate
    """Share of tasks that succeed within k attempts."""
    cumulative_cost_per_success: Estimate | None
    """Cost per success of a policy that stops after k attempts; `None` without a success."""
    independent_forecast: float
    """What cumulative success would be if a task's attempts were independent: 1 - (1 - q_1)**k. They are not."""
    sample: SampleSize
    """What it rests on: clusters that reach it, tasks that can succeed at it, and tasks that can fail."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An attempt that nobody has made: the fit's word alone."""

    number: int
    """k, beyond the data."""
    success_probability: float
    """q_k of the fit."""
    cost: float
    """Mean cost of the last attempt that was observed, supposed to stay."""
    marginal_cost: float
    """Their quotient."""


@dataclass(frozen=True, kw_only=True)
class RetryCurve:
    """Attempts one after the other."""

    attempts: tuple[Attempt, ...]
    """Those that the data hold, from the first."""
    forecast: tuple[Forecast, ...]
    """At most two more; empty without a fit."""
    fit: BetaBinomial | None
    """How success rates differ between tasks; `None` where the data cannot say."""
    assumptions: tuple[str, ...]
    """What must hold for it, in sentences."""

    @property
    def mean_cost_until_success(self) -> float | None:
        """Expected cost of trying until success, by the fit; `None` when it is unbounded or there is no fit."""
        tries = self.fit.mean_attempts_until_success if self.fit is not None else None
        return None if tries is None else tries * self.attempts[0].cost.point


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """How much of each task reaches, solves and pays for each attempt; arrays are (tasks, attempts)."""

    reach: Floats
    """P(the task gets to attempt k)."""
    success: Floats
    """P(it succeeds there)."""
    cost: Floats
    """E[what it spends there], 0 where it does not get."""

    def up_to(self, attempts: int) -> Shares:
        """The same of fewer attempts."""
        return Shares(reach=self.reach[:, :attempts], success=self.success[:, :attempts], cost=self.cost[:, :attempts])

    def columns(self) -> Floats:
        """The three beside each other, (tasks, 3 * attempts)."""
        return np.concatenate([self.reach, self.success, self.cost], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chain:
    """The curve's numbers from totals; arrays are (..., attempts)."""

    probability: Floats
    cost: Floats
    reach: Floats
    success: Floats
    cost_per_success: Floats

    @classmethod
    def of(cls, totals: Floats) -> _Chain:
        reach, success, cost = np.split(totals, 3, axis=-1)
        probability, mean_cost = quotient(success, reach), quotient(cost, reach)
        # What no task reaches cannot be told; nothing is gained there.
        survival = np.cumprod(1 - np.nan_to_num(probability, nan=0.0), axis=-1, dtype=np.float64)
        reached = np.concatenate([np.ones_like(survival[..., :1]), survival[..., :-1]], axis=-1)
        # Attempts that nothing reaches any more cost nothing, whatever they would have cost.
        spent = np.cumsum(np.where(reached == 0, 0, reached * mean_cost), axis=-1)
        return cls(
            probability=probability,
            cost=mean_cost,
            reach=reached,
            success=np.subtract(1, survival),
            cost_per_success=quotient(spent, 1 - survival),
        )


def draw_curve(
    shares: Shares, bootstrap: ClusterBootstrap, fit: BetaBinomial | None, assumptions: tuple[str, ...]
) -> RetryCurve:
    """Put the curve together from each task's shares; it ends with the last attempt that any task reaches."""
    shares = shares.up_to(int(np.flatnonzero(shares.reach.sum(axis=0))[-1]) + 1)
    columns = shares.columns()
    point, resampled = _Chain.of(columns.sum(axis=0)), _Chain.of(bootstrap.totals(columns))
    shrunk = _shrink(point.probability, resampled.probability, fit)
    attempts = tuple(
        _attempt(index, shares, bootstrap, point, resampled, float(shrunk[index]), fit)
        for index in range(shares.reach.shape[1])
    )
    return RetryCurve(attempts=attempts, forecast=_forecast(attempts[-1], fit), fit=fit, assumptions=assumptions)


def _attempt(
    index: int,
    shares: Shares,
    bootstrap: ClusterBootstrap,
    point: _Chain,
    resampled: _Chain,
    shrunk: float,
    fit: BetaBinomial | None,
) -> Attempt:
    def estimate(name: str) -> Estimate:
        return bootstrap.estimate(float(getattr(point, name)[index]), getattr(resampled, name)[:, index])

    marginal = bootstrap.estimate(
        float(quotient(point.cost, point.probability)[index]),
        quotient(resampled.cost, resampled.probability)[:, index],
    )
    return Attempt(
        number=index + 1,
        reach=float(point.reach[index]),
        success_probability=estimate("probability"),
        shrunk_probability=shrunk,
        modelled_probability=None if fit is None else fit.success_probability(index + 1),
        cost=estimate("cost"),
        marginal_cost=marginal if isfinite(marginal.point) else None,
        marginal_cost_set=_fieller(bootstrap, shares, index),
        cumulative_success=estimate("success"),
        cumulative_cost_per_success=estimate("cost_per_success") if point.success[index] else None,
        independent_forecast=1 - (1 - float(point.probability[0])) ** (index + 1),
        sample=_sample(bootstrap, shares, index),
    )


def _fieller(bootstrap: ClusterBootstrap, shares: Shares, index: int) -> ConfidenceSet | None:
    if bootstrap.clusters < 2 or not shares.success[:, index].any():
        return None
    pairs = bootstrap.by_unit(np.stack([shares.cost[:, index], shares.success[:, index]], axis=1))
    return ratio_of_sums(map(tuple, pairs.tolist()), confidence=bootstrap.confidence).confidence_set


def _sample(bootstrap: ClusterBootstrap, shares: Shares, index: int) -> SampleSize:
    reach, success = shares.reach[:, index], shares.success[:, index]
    return SampleSize(
        clusters=len(np.unique(bootstrap.cluster_of[reach > 0])),
        successes=int((success > 0).sum()),
        failures=int((reach > success).sum()),
    )


def _shrink(observed: Floats, resampled: Floats, fit: BetaBinomial | None) -> Floats:
    """Draw each q_k towards the fit by its share of noise.

    The fit's own error is estimated from all attempts together: what their distances from it have beyond sampling
    variance (method of moments, as in Efron and Morris, JASA 70(350), 1975).
    """
    if fit is None:
        return observed
    modelled = np.array([fit.success_probability(index + 1) for index in range(len(observed))])
    # A resample that nothing reaches says nothing about the attempt.
    reached = np.ma.masked_invalid(resampled)
    noise = np.asarray(reached.var(axis=0).filled(0.0))
    misfit = max(0.0, float(np.mean((observed - modelled) ** 2 - noise)))
    weight = np.divide(noise, noise + misfit, out=np.zeros_like(noise), where=noise + misfit > 0)
    shrunk: Floats = weight * modelled + (1 - weight) * observed
    return shrunk


def _forecast(last: Attempt, fit: BetaBinomial | None) -> tuple[Forecast, ...]:
    if fit is None:
        return ()
    ahead = range(last.number + 1, last.number + 1 + _FORECAST_ATTEMPTS)
    cost = last.cost.point
    return tuple(
        Forecast(number=number, success_probability=rate, cost=cost, marginal_cost=cost / rate)
        for number in ahead
        if (rate := fit.success_probability(number))
    )
