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
from tokenomics_plugin.statistics.quantiles import expanded_tail

__all__ = ["MAX_EXTRAPOLATION", "AttemptForecast", "BetaBinomial", "fit_beta_binomial", "forecast_attempts"]

MAX_EXTRAPOLATION = 2
"""Attempts beyond the data that a forecast may reach."""
_FIRST_GUESS = -1.4
"""Logit of a dispersion of 1/4."""
_MAX_STEPS = 200
_BORDER = 16.0
"""Logit beyond which a dispersion is none, or infinite."""
_LONGEST = 2.0
_CLOSE = 1e-8


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
    """Percentile bootstrap over tasks, refitting each time, widened for their number."""
    extrapolated: bool
    """Whether no task was tried this often: the number rests on the shape of the beta distribution."""


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """Sufficient statistics of several samples: how many tasks have more than j successes, failures, trials.

    Each has shape (samples, most trials).
    """

    successes: Floats
    failures: Floats
    trials: Floats

    def only(self, samples: NDArray[np.bool_]) -> _Ladder:
        return _Ladder(successes=self.successes[samples], failures=self.failures[samples], trials=self.trials[samples])


def fit_beta_binomial(tasks: Iterable[tuple[int, int]]) -> BetaBinomial:
    """Maximum-likelihood fit to (successes, trials) of each task.

    Raises:
        ValueError: If a count is impossible, or no task has two trials: then nothing tells how tasks differ.
    """
    counts, weights = _histogram(tasks)
    means, dispersions = _fit(_ladder(counts, weights[None]))
    return BetaBinomial(mean=float(means[0]), dispersion=float(dispersions[0]))


def forecast_attempts(
    tasks: Iterable[tuple[int, int]],
    attempts: int,
    *,
    confidence: float = 0.95,
    resamples: int = 400,
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
    counts, weights = _histogram(tasks)
    most = int(counts[:, 1].max())
    if not 1 <= attempts <= most + MAX_EXTRAPOLATION:
        raise ValueError(
            f"attempts must be from 1 to {most + MAX_EXTRAPOLATION}, {MAX_EXTRAPOLATION} beyond the {most} trials "
            f"that tasks have at most, got {attempts}"
        )
    means, dispersions = _fit(_ladder(counts, weights[None]))
    fit = BetaBinomial(mean=float(means[0]), dispersion=float(dispersions[0]))
    drawn = np.random.default_rng(seed).multinomial(int(weights.sum()), weights / weights.sum(), size=resamples)
    draws = _success_at(*_fit(_ladder(counts, drawn.astype(np.float64))), attempts)
    outside = expanded_tail(confidence, size=int(weights.sum()))
    limits = np.quantile(draws, [outside, 1 - outside], axis=0, method="weibull")
    return tuple(
        AttemptForecast(
            attempt=attempt,
            probability=fit.success_at(attempt),
            interval=Range(low=float(limits[0, attempt - 1]), high=float(limits[1, attempt - 1])),
            extrapolated=attempt > most,
        )
        for attempt in range(1, attempts + 1)
    )


def _success_at(means: Floats, dispersions: Floats, attempts: int) -> Floats:
    """Shape (samples, attempts)."""
    earlier = np.arange(1, attempts)
    later = means[:, None] / (1 + earlier * dispersions[:, None])
    return np.concatenate([means[:, None], later], axis=1)


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
    """Statistics of samples with `weights` (samples, distinct counts)."""
    successes, trials = counts.T
    steps = np.arange(trials.max())
    return _Ladder(
        successes=weights @ (steps < successes[:, None]),
        failures=weights @ (steps < (trials - successes)[:, None]),
        trials=weights @ (steps < trials[:, None]),
    )


def _fit(ladder: _Ladder) -> tuple[Floats, Floats]:
    """Mean and dispersion of each sample."""
    successes, failures, trials = ladder.successes, ladder.failures, ladder.trials
    means = successes.sum(axis=1) / trials.sum(axis=1)
    dispersions = np.zeros_like(means)
    inside = (means > 0) & (means < 1) & (trials.shape[1] > 1) & (trials[:, 1:] > 0).any(axis=1)
    mixed = successes[:, 0] + failures[:, 0] > trials[:, 0]
    # Where every task always ends the same way, the likelihood rises for ever with the dispersion.
    dispersions[inside & ~mixed] = inf
    means[inside & ~mixed] = (successes[:, 0] / trials[:, 0])[inside & ~mixed]
    climbing = inside & mixed
    if climbing.any():
        means[climbing], dispersions[climbing] = _dispersed(ladder.only(climbing), means[climbing])
    return means, dispersions


def _dispersed(ladder: _Ladder, shares: Floats) -> tuple[Floats, Floats]:
    """The likelier of the best dispersion above 0 and none: a likelihood may have a top at either."""
    heights, means, rho = _climb(ladder, shares)
    without = ladder.successes.sum(axis=1) * np.log(shares) + ladder.failures.sum(axis=1) * np.log(1 - shares)
    likelier = heights > without + _CLOSE
    return np.where(likelier, means, shares), np.where(likelier, rho / (1 - rho), 0.0)


def _climb(ladder: _Ladder, means: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood, mean and rho = theta / (1 + theta) at the top.

    Newton's method in (logit mean, logit rho); steps that lead down are halved.
    """
    points = np.stack([np.log(means / (1 - means)), np.full_like(means, _FIRST_GUESS)], axis=1)
    height, slope, bend = _likelihood(ladder, points)
    for _ in range(_MAX_STEPS):
        steps = _newton_steps(slope, bend)
        steps[abs(points[:, 1]) > _BORDER] = 0
        ahead = _likelihood(ladder, points + steps)
        while ((down := ahead[0] < height) & (abs(steps).max(axis=1) > _CLOSE)).any():
            steps[down] /= 2
            ahead = _likelihood(ladder, points + steps)
        steps[down] = 0
        if abs(steps).max() < _CLOSE:
            break
        points = points + steps
        height, slope, bend = _likelihood(ladder, points)
    means, rho = (1 / (1 + np.exp(-points))).T
    return height, means, rho


def _newton_steps(slope: Floats, bend: Floats) -> Floats:
    """Where the surface is not concave, the step follows the slope instead."""
    a, b, c = bend[:, 0, 0], bend[:, 0, 1], bend[:, 1, 1]
    determinant = a * c - b**2
    concave = (a < 0) & (determinant > 0)
    divisor = np.where(concave, determinant, 1.0)
    newton = np.stack([b * slope[:, 1] - c * slope[:, 0], b * slope[:, 0] - a * slope[:, 1]], axis=1) / divisor[:, None]
    uphill = slope / (1 + abs(slope).max(axis=1, keepdims=True))
    steps = np.where(concave[:, None], newton, uphill)
    # Long steps are shortened as a whole: bent, they might no longer lead up.
    shortened: Floats = steps / np.maximum(1.0, abs(steps).max(axis=1, keepdims=True) / _LONGEST)
    return shortened


def _likelihood(ladder: _Ladder, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood, gradient and Hessian by (logit mean, logit rho).

    A term is linear in rho: the likelihood multiplies mean (1 - rho) + j rho for the successes, the same of 1 - mean
    for the failures, and divides by 1 - rho + j rho for the trials.
    """
    mean, rho = 1 / (1 + np.exp(-np.clip(points, -30, 30))).T[:, :, None]
    steps = np.arange(ladder.trials.shape[1], dtype=np.float64)
    term_s, term_f, term_n = (base * (1 - rho) + steps * rho for base in (mean, 1 - mean, np.ones_like(mean)))
    s, f, n = ladder.successes, ladder.failures, ladder.trials
    by_rho_s, by_rho_f, by_rho_n = (steps - mean) / term_s, (steps - 1 + mean) / term_f, (steps - 1) / term_n
    by_mean_s, by_mean_f = (1 - rho) / term_s, (rho - 1) / term_f
    height = _sum(s * np.log(term_s) + f * np.log(term_f) - n * np.log(term_n))
    d_mean = _sum(s * by_mean_s + f * by_mean_f)
    d_rho = _sum(s * by_rho_s + f * by_rho_f - n * by_rho_n)
    d_mean2 = -_sum(s * by_mean_s**2 + f * by_mean_f**2)
    d_rho2 = -_sum(s * by_rho_s**2 + f * by_rho_f**2 - n * by_rho_n**2)
    # The derivative of mean (1 - rho) by both is -1.
    d_both = _sum(-s * (1 / term_s + by_mean_s * by_rho_s) + f * (1 / term_f - by_mean_f * by_rho_f))
    # Chain rule of the two logits.
    up_mean, up_rho = (mean * (1 - mean))[:, 0], (rho * (1 - rho))[:, 0]
    curve_mean = d_mean2 * up_mean**2 + d_mean * up_mean * (1 - 2 * mean[:, 0])
    curve_rho = d_rho2 * up_rho**2 + d_rho * up_rho * (1 - 2 * rho[:, 0])
    across = d_both * up_mean * up_rho
    slope = np.stack([d_mean * up_mean, d_rho * up_rho], axis=1)
    return height, slope, np.stack([curve_mean, across, across, curve_rho], axis=1).reshape(-1, 2, 2)


def _sum(terms: Floats) -> Floats:
    total: Floats = terms.sum(axis=1)
    return total
