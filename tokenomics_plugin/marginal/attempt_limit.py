"""How many attempts pay, once somebody says what a success is worth.

Cost per success is no guide: each further attempt makes it worse, even while it earns more than it costs. The limit
is the last attempt k with V q_k > c_k + h, and the first attempt that does not pay ends the row: what lies beyond it
would have to make up for it, on fewer tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from tokenomics_plugin.marginal.retry_curve import Attempt, RetryCurve

__all__ = ["AttemptLimit", "attempt_limit"]


@dataclass(frozen=True, kw_only=True)
class AttemptLimit:
    """k*: how often to try. 0 means not at all; the number of attempts observed means at least that often."""

    attempts: int
    """By the estimates."""
    cautious: int
    """By the lower ends of the success probabilities: what to configure."""
    hopeful: int
    """By their upper ends."""
    observed: int
    """Attempts that the curve holds: no limit is read beyond them."""
    value: float
    """What a success was said to be worth."""
    harm: float
    """Expected harm of an attempt that was taken into account."""


def attempt_limit(curve: RetryCurve, *, value: float, harm: float = 0.0) -> AttemptLimit:
    """Find the last attempt that pays.

    Args:
        curve: What each attempt adds and costs.
        value: Worth of a success, in the unit of the curve's costs.
        harm: Expected damage of one attempt, in the same unit.

    Raises:
        ValueError: If `value` is not finite, or `harm` is negative.
    """
    if not isfinite(value) or not (isfinite(harm) and harm >= 0):
        raise ValueError(f"value must be finite and harm at least 0, got value={value} and harm={harm}")

    def paying(probability: Callable[[Attempt], float]) -> int:
        count = 0
        for attempt in curve.attempts:
            if not value * probability(attempt) > attempt.cost.point + harm:
                break
            count = attempt.number
        return count

    return AttemptLimit(
        attempts=paying(lambda attempt: attempt.success_probability.point),
        cautious=paying(lambda attempt: attempt.success_probability.interval.low or 0.0),
        hopeful=paying(lambda attempt: _upper(attempt)),
        observed=len(curve.attempts),
        value=value,
        harm=harm,
    )


def _upper(attempt: Attempt) -> float:
    high = attempt.success_probability.interval.high
    return 1.0 if high is None else high
