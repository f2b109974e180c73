"""Two-sided quantiles: how many standard errors a confidence level reaches."""

from __future__ import annotations

from scipy import special  # a quarter of the import time of scipy.stats, which wraps these two functions

__all__ = ["check_confidence", "normal_quantile", "t_quantile"]


def normal_quantile(confidence: float) -> float:
    """The z with P(|Z| <= z) = `confidence` for a standard normal Z.

    Raises:
        ValueError: If `confidence` is not strictly between 0 and 1.
    """
    return float(special.ndtri(_upper_probability(confidence)))


def t_quantile(confidence: float, *, degrees_of_freedom: int) -> float:
    """The t with P(|T| <= t) = `confidence` for Student's T.

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


def _upper_probability(confidence: float) -> float:
    return (1 + check_confidence(confidence)) / 2
