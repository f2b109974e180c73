"""The retry curve of attempts as production made them: a discrete-time hazard, with censoring.

Production tries until it succeeds or gives up. A task that was given up after m attempts says nothing about attempt
m + 1: it is censored there, and leaves the count of those at risk (Kaplan and Meier's estimator in discrete time).

Source: Singer and Willett, J. Educational Statistics 18(2), 1993.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np

from tokenomics_plugin.marginal.retry_curve import RetryCurve, Shares, draw_curve
from tokenomics_plugin.resampling import ClusterBootstrap, cluster_codes

__all__ = ["AttemptChain", "ChainEnd", "hazard_curve"]

_ASSUMPTIONS = (
    "Giving up is unrelated to what the next attempt would have done: where people retry only what looks promising, "
    "later attempts look better than they would be for the rest.",
    "Association only: attempts were not assigned at random.",
)


class ChainEnd(StrEnum):
    """How a task's attempts ended."""

    SUCCEEDED = "succeeded"
    """The last attempt succeeded."""
    GIVEN_UP = "given_up"
    """The last attempt failed, and no other was made."""
    UNKNOWN = "unknown"
    """Nobody said how the last attempt ended: it is left out, its predecessors failed."""


@dataclass(frozen=True, kw_only=True)
class AttemptChain:
    """The attempts at one task, in order."""

    task_id: str
    """Which task."""
    costs: tuple[float, ...]
    """What each attempt cost, from the first."""
    end: ChainEnd
    """How the last one ended; all before it failed."""
    cluster: str | None = None
    """Tasks that are alike share a cluster; `None` for a task like no other."""

    def __post_init__(self) -> None:
        if not self.costs or not all(isfinite(cost) and cost >= 0 for cost in self.costs):
            raise ValueError(f"costs must be finite amounts of at least 0, one for each attempt, got {self.costs}")

    @property
    def judged_attempts(self) -> int:
        """Attempts whose end is known."""
        return len(self.costs) - (self.end is ChainEnd.UNKNOWN)


def hazard_curve(
    chains: Sequence[AttemptChain], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> RetryCurve:
    """Estimate what each attempt added among the tasks that made it. There is no fit: each task has one history.

    Raises:
        ValueError: If no attempt's end is known.
    """
    judged = [chain for chain in chains if chain.judged_attempts]
    if not judged:
        raise ValueError("a retry curve needs an attempt whose end is known, and there is none")
    bootstrap = ClusterBootstrap.draw(
        cluster_codes(("task", chain.task_id) if chain.cluster is None else chain.cluster for chain in judged),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    return draw_curve(_shares(judged), bootstrap, None, _ASSUMPTIONS)


def _shares(chains: Sequence[AttemptChain]) -> Shares:
    shape = len(chains), max(chain.judged_attempts for chain in chains)
    reach, success, cost = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, chain in enumerate(chains):
        made = chain.judged_attempts
        reach[row, :made] = 1
        cost[row, :made] = chain.costs[:made]
        success[row, made - 1] = chain.end is ChainEnd.SUCCEEDED
    return Shares(reach=reach, success=success, cost=cost)
