"""Agents that tried the same tasks: which are worth their price, and what the next success costs from one to the next.

Cost per success hides it: an agent may solve a few tasks more at ten times the price and still look cheap per
success. A step along the frontier has a price of its own, and an interval that pairs the two agents task by task.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from typing import NamedTuple

from tokenomics_plugin.statistics import Ratio, ratio_of_sums

__all__ = ["Contender", "FrontierStep", "TaskResult", "cost_success_frontier"]


class TaskResult(NamedTuple):
    """What one task cost, and whether it succeeded."""

    cost: float
    """In one currency for all."""
    is_success: bool
    """Whether it succeeded."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An agent, a model or a configuration, with its results."""

    name: str
    """Its name."""
    results: Mapping[str, TaskResult]
    """Result of each task."""

    @property
    def cost(self) -> float:
        """What all tasks cost."""
        return fsum(result.cost for result in self.results.values())

    @property
    def successes(self) -> int:
        """How many succeeded."""
        return sum(result.is_success for result in self.results.values())


@dataclass(frozen=True, kw_only=True)
class FrontierStep:
    """A contender that none beats in both cost and successes."""

    contender: Contender
    """Which one."""
    marginal_cost: Ratio | None
    """Cost of each further success over the contender before it, paired by cluster; `None` for the first, and below
    two clusters. Where the two can hardly be told apart, its set is unbounded."""


def cost_success_frontier(
    contenders: Sequence[Contender], *, cluster_of: Mapping[str, Hashable] | None = None, confidence: float = 0.95
) -> tuple[FrontierStep, ...]:
    """Keep the contenders that are not dominated, from the cheapest to the dearest.

    Args:
        contenders: Agents that tried the same tasks.
        cluster_of: Cluster of each task; by default each is its own.
        confidence: Nominal coverage.

    Raises:
        ValueError: If they did not try the same tasks, or a cost is unknown.
    """
    for contender in contenders:
        if contender.results.keys() != contenders[0].results.keys():
            raise ValueError(
                f"{contender.name} and {contenders[0].name} tried other tasks: compare them on those of both"
            )
        if not isfinite(contender.cost):
            raise ValueError(f"{contender.name} has a task of unknown cost: leave that task out for all")
    steps: list[FrontierStep] = []
    for contender in sorted(contenders, key=lambda contender: (contender.cost, -contender.successes)):
        last = steps[-1].contender if steps else None
        if last is None or contender.successes > last.successes:
            steps.append(
                FrontierStep(contender=contender, marginal_cost=_step(last, contender, cluster_of, confidence))
            )
    return tuple(steps)


def _step(
    last: Contender | None, contender: Contender, cluster_of: Mapping[str, Hashable] | None, confidence: float
) -> Ratio | None:
    if last is None:
        return None
    pairs: dict[Hashable, tuple[float, float]] = {}
    for task, result in contender.results.items():
        before = last.results[task]
        cluster = task if cluster_of is None else cluster_of[task]
        cost, success = pairs.get(cluster, (0.0, 0.0))
        pairs[cluster] = cost + result.cost - before.cost, success + result.is_success - before.is_success
    return ratio_of_sums(pairs.values(), confidence=confidence) if len(pairs) > 1 else None
