"""What it takes to get each task done once by trying again until it succeeds, or by handing it to a person.

This is another question than cost per success: that one divides the bill by the successes it bought, whichever
tasks they were; this one asks for every task, and is infinite as soon as one is never solved. A person's cost caps
each task, as in the paper, and makes it finite.

Source: Erol et al., "Cost-of-Pass: An Economic Framework for Evaluating Language Models", arXiv 2504.13359.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from tokenomics_plugin.statistics.mean import Mean, cluster_mean

__all__ = ["AMPLE_TRIALS", "CostOfPass", "Trials", "cost_of_pass"]

AMPLE_TRIALS = 8
"""Trials of a task below which mean(cost) / mean(success) is noticeably too high on average: E[1/p] > 1/E[p]."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """One model's trials of one task."""

    cost: float
    """Cost of all of them."""
    successes: int
    """How many succeeded."""
    trials: int
    """How many there were."""

    def __post_init__(self) -> None:
        if self.trials < 1 or not 0 <= self.successes <= self.trials or not 0 <= self.cost < inf:
            raise ValueError(f"needs 0 <= successes <= trials, a trial and a finite cost of at least 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class CostOfPass:
    """Mean over tasks of the least expected cost of getting it done."""

    mean: Mean
    """With Student's interval over tasks; it does not contain the bias that `caveat` names."""
    handed_over: int
    """Tasks for which a person is cheaper, or the only one who solves it."""
    caveat: str | None
    """Why the mean is biased; `None` when it is hardly."""


def cost_of_pass(
    tasks: Iterable[Sequence[Trials]], *, human_cost: float | Sequence[float], confidence: float = 0.95
) -> CostOfPass:
    """Mean over tasks of min(human cost, min over models of cost / successes).

    Args:
        tasks: Of each task, the trials of each model that may be chosen for it; one model: one entry.
        human_cost: What a person costs to do a task; one number for all, or one each.
        confidence: Nominal coverage.

    Raises:
        ValueError: If there are fewer than two tasks, a task without trials, or no positive finite human cost:
            without one a task that is never solved has no cost.
    """
    rows = [list(models) for models in tasks]
    if not all(rows):
        raise ValueError("every task needs trials of at least one model")
    caps = list(human_cost) if isinstance(human_cost, Sequence) else [human_cost] * len(rows)
    if len(caps) != len(rows) or not all(0 < cap < inf for cap in caps):
        raise ValueError(f"human_cost must be positive and finite, for all tasks or for each, got {human_cost}")
    by_model = [min(_until_success(trials) for trials in models) for models in rows]
    return CostOfPass(
        mean=cluster_mean(
            [(min(cost, cap), 1) for cost, cap in zip(by_model, caps, strict=True)], confidence=confidence
        ),
        handed_over=sum(cost > cap for cost, cap in zip(by_model, caps, strict=True)),
        caveat=_caveat(min(trials.trials for models in rows for trials in models)),
    )


def _until_success(trials: Trials) -> float:
    return trials.cost / trials.successes if trials.successes else inf


def _caveat(fewest: int) -> str | None:
    if fewest >= AMPLE_TRIALS:
        return None
    return f"biased: a task has {fewest} trials, fewer than {AMPLE_TRIALS}"
