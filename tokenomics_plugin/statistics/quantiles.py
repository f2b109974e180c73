"""Quantiles and tails of the few distributions that the intervals need."""

from __future__ import annotations

from scipy import special  # a quarter of the import time of scipy.stats, which wraps these functions

__all__ = ["binomial_tail", "check_confidence", "exact_limits", "expanded_tail", "normal_quantile", "t_quantile"]


def normal_quantile(confidence: float) -> float:
    """The z with P(|Z| <= z) = `confidence` for a standard normal Z.

    Raises:
        ValueError: If `confidence` is not strictly between 0 and 1.
    """
    return float(special.ndtri(_upper_probability(confidence)))


def t_quantile(confidence: float, *, degrees_of_freedom: float) -> float:
    """The t with P(|T| <= t) = `confidence` for Student's T; degrees of freedom may be fractional.

    Raises:
        ValueError: If `confidence` is not strictly between 0 and 1, or there is no degree of freedom.
    """
    if degrees_of_freedom < 1:
        raise ValueError(f"degrees_of_freedom must be at least 1, got {degrees_of_freedom}")
    return float(special.stdtrit(degrees_of_freedom, _upper_probability(confidence)))


def check_confidence(confidence: float) -> float:
    """The level itself.

    Raises:
        ValueError: If it is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, such as 0.95, got {confidence}")
    return confidence


def exact_limits(successes: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """The rates at which `successes` or more, and as many or fewer, have half the error probability each."""
    error = 1 - check_confidence(confidence)
    low = float(special.betaincinv(successes, trials - successes + 1, error / 2)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, trials - successes, 1 - error / 2)) if successes < trials else 1.0
    return low, high


def binomial_tail(successes: int, trials: int) -> float:
    """Probability of at most `successes` heads in `trials` tosses of a fair coin."""
    return float(special.bdtr(successes, trials, 0.5))


def expanded_tail(confidence: float, *, size: int) -> float:
    """The tail to cut from a bootstrap of `size` clusters, whose spread is a little too small as it stands.

    Source: Hesterberg, arXiv 1411.5279, section 3.3 (expanded percentile interval).

    Raises:
        ValueError: If `confidence` is not strictly between 0 and 1, or there are fewer than two clusters.
    """
    reach = t_quantile(confidence, degrees_of_freedom=size - 1) * (size / (size - 1)) ** 0.5
    return float(special.ndtr(-reach))


def _upper_probability(confidence: float) -> float:
    return (1 + check_confidence(confidence)) / 2
