"""Value that is realised within a horizon of the task's end, while some of it is still to come.

Costs are complete at once, value arrives for weeks. Outcomes seen so far overstate it when good news travels fast;
counting the pending as failures understates it. Here each value that has arrived is weighted by how likely it was
to have arrived by now (inverse probability of censoring, Horvitz-Thompson form: the sum goes over all tasks), or
only tasks older than the horizon are used. The same tasks stand on both sides of every ratio.

Both assume that how old a task is says nothing about its value: no estimate survives a change of the tasks' kind
between old and young ones.

Sources: Robins and Rotnitzky, "Recovery of information and adjustment for dependent censoring", 1992; Kaplan and
Meier, JASA 53, 1958. The standard errors include that the weights are estimated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.statistics.clusters import Column, Floats, as_column, cluster_sums
from tokenomics_plugin.statistics.mean import Mean, cluster_mean
from tokenomics_plugin.statistics.ratio import Ratio, ratio_of_sums

__all__ = [
    "Cohort",
    "CohortMismatchError",
    "LateValue",
    "StepFunction",
    "kaplan_meier",
    "require_same_tasks",
    "value_per_cost_within",
    "value_within",
]


class Cohort(StrEnum):
    """Which tasks an estimate rests on."""

    ALL = "all"
    """Every task; values that have arrived are weighted up for those that have not."""
    MATURE = "mature"
    """Tasks that ended at least a horizon ago: nothing is left to come."""


class CohortMismatchError(ValueError):
    """Value of some tasks was about to be divided by cost of others."""


@dataclass(frozen=True, kw_only=True)
class LateValue:
    """A task, and what is known of its value by now. Times share one unit, such as days."""

    followed_for: float | None
    """Time from the task's end through which a value would have been seen, usually its age; `None` when the value has
    arrived and nobody knows how long one would have waited for it."""
    arrived_after: float | None = None
    """Time from the task's end to its value; `None` while it has not arrived."""
    value: float = 0.0
    """What arrived."""

    def __post_init__(self) -> None:
        if self.arrived_after is None and self.followed_for is None:
            raise ValueError("a task whose value has not arrived needs followed_for, the time it was waited for")
        if self.arrived_after is None and self.value:
            raise ValueError(f"a value of {self.value} needs arrived_after, the time it took")
        for time in (self.followed_for, self.arrived_after):
            if time is not None and not 0 <= time < inf:
                raise ValueError(f"times must be finite and not negative, got {time}")
        followed = inf if self.followed_for is None else self.followed_for
        if self.arrived_after is not None and followed < self.arrived_after:
            raise ValueError(
                f"a value seen after {self.arrived_after} was followed at least so long, not {self.followed_for}"
            )


@dataclass(frozen=True, kw_only=True)
class StepFunction:
    """A survival curve: the probability of lasting at least as long as a time."""

    times: Floats
    """Where it falls, ascending."""
    after: Floats
    """Its value just after each of them; 1 before the first."""

    def at_least(self, times: Floats) -> Floats:
        """P(T >= t): the curve just before each time."""
        index = np.searchsorted(self.times, times, side="left")
        return np.concatenate([[1.0], self.after])[index]


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Tasks as arrays."""

    lasted: Floats
    """When a task's value arrived or, before that, its follow-up ended."""
    arrived: NDArray[np.bool_]
    followed: Floats | None
    """Follow-up of all tasks; `None` when that of some arrived ones is unknown."""
    values: Floats
    """Values within the horizon, 0 for others."""
    horizon: float


def kaplan_meier(
    times: Column, ended: Sequence[bool] | NDArray[np.bool_], *, others_leave_first: bool = False
) -> StepFunction:
    """Survival curve from times that were cut short for some.

    Args:
        times: When each was last seen.
        ended: Whether it ended then; otherwise it lasted longer.
        others_leave_first: Whether those last seen at the very time when another ends are no longer at risk, as when
            follow-up ends on the day a value arrives.

    Raises:
        ValueError: If there is no time, or one is not finite.
    """
    lasted = as_column("times", times)
    ends = np.asarray(ended, dtype=bool)
    if not len(lasted) or len(ends) != len(lasted):
        raise ValueError(f"needs one flag per time and at least one, got {len(lasted)} times and {len(ends)} flags")
    at, hazard, _ = _hazards(lasted, ends, others_leave_first=others_leave_first)
    return _curve(at, hazard)


def value_within(
    tasks: Sequence[LateValue],
    horizon: float,
    *,
    cohort: Cohort = Cohort.ALL,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Mean:
    """Mean value per task that is realised within `horizon` of the task's end.

    Args:
        tasks: All of them, whether their value has arrived or not.
        horizon: In the unit of the tasks' times.
        cohort: All tasks, weighted, or the mature ones alone; the first is more precise.
        clusters: The cluster of each task, where tasks are alike.
        confidence: Nominal coverage of the interval, Student's over clusters.

    Raises:
        ValueError: If no task was followed as long as the horizon, or there are fewer than two clusters: what
            happens so late has then never been seen.
    """
    used, contributions, names = _contributions(tasks, horizon, cohort, clusters)
    totals = cluster_sums(np.stack([contributions, np.ones(len(used))], axis=1), names)
    return cluster_mean(totals, confidence=confidence)


def value_per_cost_within(
    tasks: Sequence[LateValue],
    costs: Column,
    horizon: float,
    *,
    cohort: Cohort = Cohort.ALL,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Ratio:
    """Value within the horizon over cost, both of the same tasks; Fieller's set. Arguments as of `value_within`.

    Args:
        tasks: All tasks.
        costs: The cost of each.
        horizon: In the unit of the tasks' times.
        cohort: Tasks on both sides of the ratio.
        clusters: The cluster of each task.
        confidence: Nominal coverage.
    """
    spent = as_column("costs", costs, size=len(tasks))
    used, contributions, names = _contributions(tasks, horizon, cohort, clusters)
    totals = cluster_sums(np.stack([contributions, spent[used]], axis=1), names)
    return ratio_of_sums(totals, confidence=confidence)


def require_same_tasks(value_of: Iterable[Hashable], cost_of: Iterable[Hashable]) -> None:
    """Refuse to divide value of some tasks by cost of others, such as value so far by cost of the mature.

    Raises:
        CohortMismatchError: If the tasks differ.
    """
    differ = set(value_of) ^ set(cost_of)
    if differ:
        raise CohortMismatchError(
            f"{len(differ)} tasks stand on one side of the ratio only: use the same cohort for value and cost, "
            "or the value within a horizon of all tasks"
        )


def _contributions(
    tasks: Sequence[LateValue], horizon: float, cohort: Cohort, clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.intp], Floats, list[Hashable] | None]:
    """The tasks used, what each adds to the sum of values, and their clusters."""
    if clusters is not None and len(clusters) != len(tasks):
        raise ValueError(f"clusters must name the cluster of each of the {len(tasks)} tasks, got {len(clusters)} names")
    columns = _columns(tasks, horizon)
    if cohort is Cohort.MATURE:
        used = np.flatnonzero(_mature(columns))
        contributions = columns.values[used]
    else:
        used = np.arange(len(tasks))
        contributions = _weighted(columns)
    return used, contributions, None if clusters is None else [clusters[index] for index in used.tolist()]


def _columns(tasks: Sequence[LateValue], horizon: float) -> _Columns:
    if not horizon > 0:
        raise ValueError(f"the horizon must be positive, got {horizon}")
    delays = np.array([np.nan if task.arrived_after is None else task.arrived_after for task in tasks])
    followed = np.array([np.nan if task.followed_for is None else task.followed_for for task in tasks])
    arrived = ~np.isnan(delays)
    lasted = np.where(arrived, delays, followed)
    if not (np.fmax(followed, lasted) >= horizon).any():
        raise ValueError(f"no task was followed for the horizon of {horizon}: shorten it, or wait")
    values = as_column("values", [task.value for task in tasks])
    return _Columns(
        lasted=lasted,
        arrived=arrived,
        followed=None if np.isnan(followed).any() else followed,
        values=np.where(arrived & (lasted <= horizon), values, 0.0),
        horizon=horizon,
    )


def _mature(columns: _Columns) -> NDArray[np.bool_]:
    if columns.followed is None:
        raise ValueError("the mature cohort needs followed_for of every task: use the cohort of all tasks")
    return columns.followed >= columns.horizon


def _weighted(columns: _Columns) -> Floats:
    """Values weighted by 1 / P(followed so long), plus each task's part in the error of the weights.

    The parts sum to 0: the mean is the Horvitz-Thompson estimate, the spread is that of its influence function.
    """
    if columns.followed is None:
        at, hazard, at_risk = _hazards(columns.lasted, ~columns.arrived, others_leave_first=True)
        curve = _curve(at, hazard)
        weighted = _divided(columns.values, curve.at_least(columns.lasted))
        return weighted + _error_of_hazards(columns, weighted, at, hazard, at_risk)
    ages = np.sort(columns.followed)
    followed_so_long = 1 - np.searchsorted(ages, columns.lasted, side="left") / len(ages)
    weighted = _divided(columns.values, followed_so_long)
    return weighted + _error_of_shares(columns.lasted, columns.followed, _divided(weighted, followed_so_long))


def _divided(values: Floats, shares: Floats) -> Floats:
    return np.divide(values, shares, out=np.zeros_like(values), where=values != 0)


def _error_of_shares(lasted: Floats, followed: Floats, twice_weighted: Floats) -> Floats:
    """Minus what each task's age adds to the shares of tasks that old, centred."""
    order = np.argsort(lasted, kind="stable")
    running = np.concatenate([[0.0], np.cumsum(twice_weighted[order])])
    added = running[np.searchsorted(lasted[order], followed, side="right")] / len(lasted)
    centred: Floats = added.mean() - added
    return centred


def _error_of_hazards(columns: _Columns, weighted: Floats, at: Floats, hazard: Floats, at_risk: Floats) -> Floats:
    """Integral of q(u) / P(lasting so long) by the censoring martingale; q(u) is what is still to come after u."""
    order = np.argsort(columns.lasted, kind="stable")
    to_come = np.concatenate([[0.0], np.cumsum(weighted[order][::-1])])[::-1]
    to_come = to_come[np.searchsorted(columns.lasted[order], at, side="right")]
    rate = to_come / at_risk
    compensator = np.concatenate([[0.0], np.cumsum(rate * hazard)])
    # Who is followed no longer because the value arrived was not at risk at that time.
    before, upto = (np.searchsorted(at, columns.lasted, side=side) for side in ("left", "right"))
    expected = compensator[np.where(columns.arrived, before, upto)]
    jumps = np.zeros_like(weighted)
    censored = ~columns.arrived
    jumps[censored] = rate[np.searchsorted(at, columns.lasted[censored])]
    error: Floats = jumps - expected
    return error


def _curve(at: Floats, hazard: Floats) -> StepFunction:
    return StepFunction(times=at, after=np.asarray(np.cumprod(1 - hazard), dtype=np.float64))


def _hazards(lasted: Floats, ended: NDArray[np.bool_], *, others_leave_first: bool) -> tuple[Floats, Floats, Floats]:
    """Times at which some ended, the share of those at risk who did, and how many were at risk."""
    at, ends = np.unique(lasted[ended], return_counts=True)
    ordered = np.sort(lasted)
    at_risk = (len(ordered) - np.searchsorted(ordered, at, side="left")).astype(np.float64)
    if others_leave_first:
        others = np.sort(lasted[~ended])
        at_risk -= np.searchsorted(others, at, side="right") - np.searchsorted(others, at, side="left")
    return at, ends / at_risk, at_risk
