"""The retry curve of tasks that were run several times from the start, as benchmarks are.

Any of a task's trials could have been the first, the second, the third: all orderings count, not the one in which
they were run. That wastes nothing, and equals the mean over every ordering in closed form (a U-statistic).

Sources: Hoeffding, Annals of Mathematical Statistics 19(3), 1948; for pass@k: Chen et al., arXiv 2107.03374.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, fsum, isfinite

import numpy as np

from tokenomics_plugin.marginal.beta_binomial import fit_beta_binomial
from tokenomics_plugin.marginal.retry_curve import RetryCurve, Shares, draw_curve
from tokenomics_plugin.resampling import ClusterBootstrap, cluster_codes

__all__ = ["RepeatedTask", "Trial", "retry_curve"]

_ASSUMPTIONS = (
    "Trials are independent restarts: a retry that learns from the failure has success rates of its own.",
    "A failed trial is noticed before the next one starts.",
    "Tasks tried fewer than k times say nothing about attempt k: those tried more often are like them.",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a task, from the start."""

    is_success: bool
    """Whether it succeeded."""
    cost: float
    """What it cost, in one currency for all."""

    def __post_init__(self) -> None:
        if not (isfinite(self.cost) and self.cost >= 0):
            raise ValueError(
                f"cost must be a finite amount of at least 0, got {self.cost}; leave the trial out instead"
            )


@dataclass(frozen=True, kw_only=True)
class RepeatedTask:
    """A task with its trials."""

    task_id: str
    """Which task."""
    trials: tuple[Trial, ...]
    """Its runs, in any order."""
    cluster: str | None = None
    """Tasks that are alike share a cluster; `None` for a task like no other."""

    @property
    def successes(self) -> int:
        """How many trials succeeded."""
        return sum(trial.is_success for trial in self.trials)


def retry_curve(
    tasks: Sequence[RepeatedTask],
    *,
    attempts: int | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RetryCurve:
    """Estimate what each attempt would have added.

    Args:
        tasks: Tasks with one trial or more each; they may differ in number.
        attempts: How far to go; by default as far as any task was tried.
        resamples: Bootstrap draws.
        confidence: Nominal coverage of the intervals.
        seed: Of the draws.

    Raises:
        ValueError: If there is no trial, or no task with `attempts` trials.
    """
    tried = [task for task in tasks if task.trials]
    most = max((len(task.trials) for task in tried), default=0)
    length = most if attempts is None else attempts
    if not 1 <= length <= most:
        raise ValueError(f"attempts must lie between 1 and the most trials of a task, {most}, got {length}")
    bootstrap = ClusterBootstrap.draw(
        cluster_codes(("task", task.task_id) if task.cluster is None else task.cluster for task in tried),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    fit = fit_beta_binomial([(task.successes, len(task.trials)) for task in tried])
    return draw_curve(_shares(tried, length), bootstrap, fit, _ASSUMPTIONS)


def _shares(tasks: Sequence[RepeatedTask], attempts: int) -> Shares:
    rows = np.array([[_at(task, number) for number in range(1, attempts + 1)] for task in tasks], dtype=float)
    return Shares(reach=rows[..., 0], success=rows[..., 1], cost=rows[..., 2])


def _at(task: RepeatedTask, number: int) -> tuple[float, float, float]:
    """P(reach), P(reach and succeed) and E[cost; reach] of one attempt, over all orderings of the trials."""
    trials, successes = len(task.trials), task.successes
    if number > trials:
        return 0.0, 0.0, 0.0
    failures = trials - successes
    reach = comb(failures, number - 1) / comb(trials, number - 1)
    if not reach:
        return 0.0, 0.0, 0.0
    # Attempt k is equally likely to be any trial that is left: all successes, and the failures not yet used up.
    left = trials - number + 1
    won = fsum(trial.cost for trial in task.trials if trial.is_success)
    lost = fsum(trial.cost for trial in task.trials if not trial.is_success)
    lost *= (failures - number + 1) / failures if failures else 0.0
    return reach, reach * successes / left, reach * (won + lost) / left
