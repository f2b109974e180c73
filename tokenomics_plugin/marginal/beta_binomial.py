"""How success rates differ between tasks, as a beta distribution fitted to repeated trials.

Tasks that are still unsolved after k - 1 attempts are the hard ones, so each further attempt succeeds less often. One
distribution of rates says how much less, from all tasks together: it steadies the rates of late attempts, that few
tasks reach, and reaches a little beyond them.

Source: Skellam, J. Royal Statistical Society B 10(2), 1948.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

__all__ = ["BetaBinomial", "fit_beta_binomial"]

_MAX_CONCENTRATION = 1e6
"""Tasks this alike cannot be told from tasks that are all the same."""


@dataclass(frozen=True, kw_only=True)
class BetaBinomial:
    """Tasks whose success rate is drawn from Beta(alpha, beta)."""

    alpha: float
    """First shape, positive."""
    beta: float
    """Second shape, positive."""

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0):
            raise ValueError(f"alpha and beta must be positive, got alpha={self.alpha} and beta={self.beta}")

    def success_probability(self, attempt: int) -> float:
        """P(success at this attempt | all earlier ones failed): alpha / (alpha + beta + attempt - 1)."""
        if attempt < 1:
            raise ValueError(f"attempts count from 1, got {attempt}")
        return self.alpha / (self.alpha + self.beta + attempt - 1)

    @property
    def mean_attempts_until_success(self) -> float | None:
        """E[1 / p]; `None` when it is unbounded, which it is for alpha <= 1.

        Then some tasks are so hard that trying until success has no finite expected cost.
        """
        return (self.alpha + self.beta - 1) / (self.alpha - 1) if self.alpha > 1 else None


def fit_beta_binomial(counts: Sequence[tuple[int, int]]) -> BetaBinomial | None:
    """The most likely distribution of success rates.

    Args:
        counts: (successes, trials) of each task.

    Returns:
        The fit; `None` where there is none: no trial, or all of them ended alike.
    """
    successes, trials = np.array(counts, dtype=float).reshape(-1, 2).T
    if successes.sum() in (0, trials.sum()):
        return None

    def loss(point: Any) -> tuple[float, Any]:
        alpha, beta = _shapes(point)
        likelihood = special.betaln(successes + alpha, trials - successes + beta) - special.betaln(alpha, beta)
        # Slopes in alpha and beta; differences of the likelihood would drown in rounding where tasks are alike.
        both = special.psi(trials + alpha + beta) - special.psi(alpha + beta)
        by_alpha = (special.psi(successes + alpha) - special.psi(alpha) - both).sum()
        by_beta = (special.psi(trials - successes + beta) - special.psi(beta) - both).sum()
        spread = alpha * beta / (alpha + beta)
        return -float(likelihood.sum()), -np.array([spread * (by_alpha - by_beta), alpha * by_alpha + beta * by_beta])

    mean = successes.sum() / trials.sum()
    start = [special.logit(mean), 0.0]
    bounds = [(start[0] - 5, start[0] + 5), (-np.log(_MAX_CONCENTRATION), np.log(_MAX_CONCENTRATION))]
    found = optimize.minimize(loss, start, bounds=bounds, method="L-BFGS-B", jac=True, options={"ftol": 1e-14})
    alpha, beta = _shapes(found.x)
    return BetaBinomial(alpha=alpha, beta=beta)


def _shapes(point: Any) -> tuple[float, float]:
    # Mean and concentration are nearly independent in the likelihood, alpha and beta are not.
    mean, concentration = special.expit(point[0]), np.exp(point[1])
    return float(mean * concentration), float((1 - mean) * concentration)
