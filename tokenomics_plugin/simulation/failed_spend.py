"""How much of the spend in failed runs could have been avoided: what a rule that loses no success would have saved.

Failed runs are no waste. Whoever tries what may fail pays for the failures too, and most of that is the price of the
successes. Only what a rule saves that could have been followed beforehand, without losing one, was avoidable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenomics_plugin.simulation.evaluation import PolicyResult

__all__ = ["FailedSpend", "avoidable_failed_spend"]


@dataclass(frozen=True, kw_only=True)
class FailedSpend:
    """Spend in runs that are known to have failed."""

    spend: float
    """All of it."""
    avoidable: float
    """What the best rule that loses nothing saves of it. The best of many rules owes some of it to luck: `choose_rule`
    says how much is left on other runs."""
    best: PolicyResult | None
    """That rule's result; `None` when no rule saves anything without a loss."""


def avoidable_failed_spend(results: Iterable[PolicyResult]) -> FailedSpend:
    """Find the most that can be saved in failed runs without losing a success, known or possible.

    Args:
        results: Of rules on the same runs.

    Raises:
        ValueError: If there is no result.
    """
    everything = list(results)
    if not everything:
        raise ValueError("there is no rule to judge by: evaluate at least one")
    harmless = [result for result in everything if not (result.lost_successes or result.possibly_lost)]
    best = max(harmless, key=lambda result: result.saved_in_failures, default=None)
    if best is None or best.saved_in_failures <= 0:
        return FailedSpend(spend=everything[0].failed_spend, avoidable=0.0, best=None)
    return FailedSpend(spend=best.failed_spend, avoidable=best.saved_in_failures, best=best)
