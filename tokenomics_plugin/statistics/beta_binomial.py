"""How likely one more attempt succeeds after so many failures, when tasks differ in difficulty.

Each task has its own success probability, drawn from a beta distribution. Failures tell that the task is among the
hard ones, so the chance of the next attempt falls: from `mean` at the first to mean / (1 + (k - 1) theta) at the
k-th, where theta is the dispersion 1 / (alpha + beta). The fit smooths counts that are few after some failures, and
reaches at most two attempts beyond the data, marked as such.

The likelihood is written in (mean, theta), as Griffiths (Biometrics 29(4), 1973) does: it is then a product of
linear terms, needs no gamma function, and stays defined where tasks are all alike (theta = 0).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.clusters import Floats
from tokenomics_plugin.statistics.quantiles import check_confidence

__all__ = ["MAX_EXTRAPOLATION", "AttemptForecast", "BetaBinomial", "fit_beta_binomial", "forecast_attempts"]

MAX_EXTRAPOLATION = 2
"""Attempts beyond the data that a forecast may reach."""
_SMALL = 1e-9
_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class BetaBinomial:
    """A beta distribution of success probabilities over tasks."""

    mean: float
    """Success rate of the first attempt, alpha / (alpha + beta)."""
    dispersion: float
    """theta = 1 / (alpha + beta): 0 when tasks are all alike, infinite when each always ends the same way."""

    @property
    def alpha(self) -> float:
        """First parameter of the beta distribution; infinite when tasks are all alike."""
        return self.mean / self.dispersion if self.dispersion else inf

    @property
    def beta(self) -> float:
        """Second parameter of the beta distribution; infinite when tasks are all alike."""
        return (1 - self.mean) / self.dispersion if self.dispersion else inf

    def success_at(self, attempt: int) -> float:
        """Probability that an attempt succeeds, given that all before it failed: alpha / (alpha + beta + k - 1).

        Raises:
            ValueError: If `attempt` is below 1.
        """
        if attempt < 1:
            raise ValueError(f"attempts count from 1, got {attempt}")
        return self.mean if attempt == 1 else self.mean / (1 + (attempt - 1) * self.dispersion)

    def shrunk_rate(self, successes: int, trials: int) -> float:
        """A task's success probability, given its own trials: its share, pulled towards the mean of all tasks.

        Raises:
            ValueError: If `successes` is not between 0 and `trials`.
        """
        if not 0 <= successes <= trials:
            raise ValueError(f"needs 0 <= successes <= trials, got successes={successes} and trials={trials}")
        if self.dispersion == inf:
            return successes / trials if trials else self.mean
        return (self.mean + successes * self.dispersion) / (1 + trials * self.dispersion)

    @property
    def attempts_until_success(self) -> float | None:
        """Expected attempts when every task is tried until it succeeds, E[1/p]; `None` when unbounded (alpha <= 1)."""
        if self.mean <= self.dispersion:
            return None
        return (1 - self.dispersion) / (self.mean - self.dispersion)


@dataclass(frozen=True, kw_only=True)
class AttemptForecast:
    """How likely an attempt succeeds after the ones before it failed."""

    attempt: int
    """Counted from 1."""
    probability: float
    """By the fitted distribution."""
    interval: Range
    """Bootstrap over tasks, refitting each time."""
    extrapolated: bool
    """Whether no task was tried this often: the number rests on the shape of the beta distribution."""


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """Sufficient statistics: how many tasks have more than j successes, failures, trials."""

    successes: Floats
    failures: Floats
    trials: Floats


def fit_beta_binomial(tasks: Iterable[tuple[int, int]]) -> BetaBinomial:
    """Maximum-likelihood fit to (successes, trials) of each task.

    Raises:
        ValueError: If a count is impossible, or no task has two trials: then nothing tells how tasks differ.
    """
    counts, weights = _histogram(tasks)
    return _fit(_ladder(counts, weights))


def forecast_attempts(
    tasks: Iterable[tuple[int, int]],
    attempts: int,
    *,
    confidence: float = 0.95,
    resamples: int = 300,
    seed: int = 0,
) -> tuple[AttemptForecast, ...]:
    """The success probability of attempts 1 to `attempts`, smoothed by the fit, with intervals.

    Args:
        tasks: (successes, trials) of each task; trials are independent restarts.
        attempts: Last attempt to forecast.
        confidence: Nominal coverage.
        resamples: Bootstrap draws of tasks.
        seed: Of the draws.

    Raises:
        ValueError: As `fit_beta_binomial`, or if `attempts` is more than `MAX_EXTRAPOLATION` beyond the most
            trials of any task.
    """
    outside = (1 - check_confidence(confidence)) / 2
    counts, weights = _histogram(tasks)
    most = int(counts[:, 1].max())
    if not 1 <= attempts <= most + MAX_EXTRAPOLATION:
        raise ValueError(
            f"attempts must be from 1 to {most + MAX_EXTRAPOLATION}, {MAX_EXTRAPOLATION} beyond the {most} trials "
            f"that tasks have at most, got {attempts}"
        )
    fit = _fit(_ladder(counts, weights))
    draws = _refitted(counts, weights, attempts, resamples, np.random.default_rng(seed))
    limits = np.quantile(draws, [outside, 1 - outside], axis=0)
    return tuple(
        AttemptForecast(
            attempt=attempt,
            probability=fit.success_at(attempt),
            interval=Range(low=float(limits[0, attempt - 1]), high=float(limits[1, attempt - 1])),
            extrapolated=attempt > most,
        )
        for attempt in range(1, attempts + 1)
    )


def _refitted(
    counts: NDArray[np.intp], weights: Floats, attempts: int, resamples: int, random: np.random.Generator
) -> Floats:
    tasks = int(weights.sum())
    drawn = random.multinomial(tasks, weights / weights.sum(), size=resamples).astype(np.float64)
    fits = [_fit(_ladder(counts, row)) for row in drawn]
    return np.array([[fit.success_at(attempt) for attempt in range(1, attempts + 1)] for fit in fits])


def _histogram(tasks: Iterable[tuple[int, int]]) -> tuple[NDArray[np.intp], Floats]:
    """The distinct (successes, trials), and how many tasks have each."""
    rows = np.asarray(list(tasks), dtype=np.intp).reshape(-1, 2)
    if not ((rows[:, 0] >= 0) & (rows[:, 0] <= rows[:, 1])).all():
        raise ValueError("tasks must each be (successes, trials) with 0 <= successes <= trials")
    if not (rows[:, 1] >= 2).any():
        raise ValueError("no task has two trials: nothing tells how much tasks differ")
    distinct, weights = np.unique(rows, axis=0, return_counts=True)
    return distinct, weights.astype(np.float64)


def _ladder(counts: NDArray[np.intp], weights: Floats) -> _Ladder:
    successes, trials = counts.T
    steps = np.arange(trials.max())[:, None]
    return _Ladder(
        successes=(steps < successes) @ weights,
        failures=(steps < trials - successes) @ weights,
        trials=(steps < trials) @ weights,
    )


def _fit(ladder: _Ladder) -> BetaBinomial:
    # With rho = theta / (1 + theta) a term of the likelihood is linear in rho: p (1 - rho) + j rho.
    share = float(ladder.successes.sum() / ladder.trials.sum())
    if share in (0, 1):
        return BetaBinomial(mean=share, dispersion=0.0)
    first = float(ladder.successes[0] / ladder.trials[0])
    if ladder.successes[0] + ladder.failures[0] == ladder.trials[0] and ladder.trials[1:].any():
        return BetaBinomial(mean=first, dispersion=inf)  # every task always ends the same way
    if _slope_at_zero(ladder, share) <= 0:
        return BetaBinomial(mean=share, dispersion=0.0)
    mean, rho = _climb(ladder, share)
    return BetaBinomial(mean=mean, dispersion=rho / (1 - rho))


def _slope_at_zero(ladder: _Ladder, share: float) -> float:
    """Derivative of the log-likelihood by the dispersion where there is none (Tarone, Biometrika 66(3), 1979)."""
    steps = np.arange(len(ladder.trials))
    return float(steps @ (ladder.successes / share + ladder.failures / (1 - share) - ladder.trials))


def _climb(ladder: _Ladder, share: float) -> tuple[float, float]:
    """Newton's method in (logit mean, logit rho), halving steps that lead down."""
    point = np.array([_logit(share), _logit(0.2)])
    height, slope, bend = _likelihood(ladder, point)
    for _ in range(_STEPS):
        # Where the surface is not concave, the step follows the slope instead.
        step = _newton_step(slope, bend)
        for _ in range(60):
            there = _likelihood(ladder, point + step)
            if there[0] >= height:
                break
            step = step / 2
        point = point + step
        gain = there[0] - height
        height, slope, bend = there
        if gain < _SMALL and abs(step).max() < 1e-7:
            break
    mean, rho = 1 / (1 + np.exp(-point))
    return float(mean), float(rho)


def _newton_step(slope: Floats, bend: Floats) -> Floats:
    if bend[0, 0] < 0 and bend[0, 0] * bend[1, 1] - bend[0, 1] ** 2 > 0:
        step: Floats = np.asarray(-np.linalg.solve(bend, slope), dtype=np.float64)
    else:
        step = slope / (1 + abs(slope).max())
    return np.clip(step, -2, 2)


def _likelihood(ladder: _Ladder, point: Floats) -> tuple[float, Floats, Floats]:
    """Log-likelihood, gradient and Hessian at (logit mean, logit rho)."""
    mean, rho = (float(number) for number in 1 / (1 + np.exp(-np.clip(point, -30, 30))))
    steps = np.arange(len(ladder.trials), dtype=np.float64)
    height, slope, bend = 0.0, np.zeros(2), np.zeros((2, 2))
    for weight, base, sign in ((ladder.successes, mean, 1.0), (ladder.failures, 1 - mean, -1.0)):
        term = base * (1 - rho) + steps * rho
        by = np.stack([np.full_like(term, sign * (1 - rho)), steps - base]) / term
        height += float(weight @ np.log(term))
        slope += by @ weight
        bend += np.array([[0, -sign], [-sign, 0]]) * float(weight @ (1 / term)) - (by * weight) @ by.T
    term = 1 - rho + steps * rho
    by_rho = (steps - 1) / term
    height -= float(ladder.trials @ np.log(term))
    slope[1] -= float(by_rho @ ladder.trials)
    bend[1, 1] += float(by_rho**2 @ ladder.trials)
    # Chain rule of the two logits.
    first = np.array([mean * (1 - mean), rho * (1 - rho)])
    second = first * np.array([1 - 2 * mean, 1 - 2 * rho])
    return height, slope * first, bend * np.outer(first, first) + np.diag(slope * second)


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
