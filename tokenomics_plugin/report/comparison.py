"""The same tasks twice: with another model, prompt or version of an agent, what changed.

Tasks are paired by their id, so that what makes a task hard cancels. Differences of means have Student's interval over
clusters, that of the success rate Tango's where each task is its own; a ratio of ratios has a bootstrap in which both
runs of a task are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.report.figure import standard_millions, worth_of
from tokenomics_plugin.report.headline import (
    COST_PER_SUCCESS,
    NET_VALUE_PER_TASK,
    SUCCESS_RATE,
    TOKENS_PER_SUCCESS,
    VALUE_PER_DOLLAR,
    VALUE_PER_MILLION_STANDARD_TOKENS,
    FigureKind,
)
from tokenomics_plugin.report.task import TaskSummary
from tokenomics_plugin.resampling import ClusterBootstrap, Estimate, cluster_codes, quotient
from tokenomics_plugin.statistics import Flips, SampleSize, cluster_mean

__all__ = ["Change", "Comparison", "compare"]

_Amount = Callable[[TaskSummary], Decimal | None]
_Sides = NDArray[np.float64]
"""Of each task: both sides of a figure before, and both after; shape (tasks, 4)."""
_MIN_SUCCESSES: Final = 5
"""On either side, below which no ratio of successes is estimated, as for a single figure."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of the paired tasks, before and after."""

    kind: FigureKind
    """Which."""
    is_ratio: bool
    """Whether the change is after divided by before, and not after minus before."""
    tasks: int
    """Pairs behind it: those for which it is known on both sides."""
    before: float | None
    """Of these tasks; `None` when there is nothing to divide by."""
    after: float | None
    """The same."""
    change: Estimate | None
    """With a 95 % interval; `None` when withheld."""
    withheld: str | None
    """Why there is no estimate; `None` when there is one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed on the tasks that were judged both times."""

    pairs: int
    """Tasks judged both times."""
    clusters: int
    """Independent draws among them: groups, and tasks without one."""
    repaired: int
    """Tasks that succeeded only after."""
    broken: int
    """Tasks that succeeded only before."""
    p_value: float | None
    """Exact McNemar test that it repairs as often as it breaks; `None` where tasks are grouped, or there are none."""
    unpaired: int
    """Tasks of either run that the other lacks, or that were not judged both times."""
    changes: tuple[Change, ...]
    """The figures, the weightiest first."""


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """A figure as a ratio of two sums over tasks."""

    kind: FigureKind
    above: _Amount
    below: _Amount
    is_ratio: bool = True


def compare(before: Iterable[TaskSummary], after: Iterable[TaskSummary]) -> Comparison:
    """Compare two runs of the same tasks."""
    first, second = ({task.task_id: task for task in tasks} for tasks in (before, after))
    pairs = [
        (task, second[name])
        for name, task in sorted(first.items())
        if task.status.is_final and name in second and second[name].status.is_final
    ]
    flips = _flips(pairs) if pairs else None
    clusters = len({task.cluster for task, _ in pairs})
    return Comparison(
        pairs=len(pairs),
        clusters=clusters,
        repaired=0 if flips is None else flips.repaired,
        broken=0 if flips is None else flips.broken,
        p_value=flips.p_value if flips is not None and clusters == len(pairs) else None,
        unpaired=len(first.keys() | second.keys()) - len(pairs),
        changes=tuple(_change(measure, pairs) for measure in _MEASURES),
    )


def _flips(pairs: Sequence[tuple[TaskSummary, TaskSummary]]) -> Flips:
    return Flips(
        repaired=sum(after.is_success and not before.is_success for before, after in pairs),
        broken=sum(before.is_success and not after.is_success for before, after in pairs),
        tasks=len(pairs),
    )


def _change(measure: _Measure, pairs: Sequence[tuple[TaskSummary, TaskSummary]]) -> Change:
    known = [pair for pair in pairs if None not in _sides(measure, pair)]
    sides = np.array([_sides(measure, pair) for pair in known], dtype=np.float64).reshape(-1, 4)
    before, after = _quotient(sides[:, :2]), _quotient(sides[:, 2:])
    clusters = [task.cluster for task, _ in known]
    withheld = _too_small(measure, known, clusters)
    if withheld is None and measure.is_ratio and not (before and after is not None):
        withheld = "there is nothing to divide by"
    return Change(
        kind=measure.kind,
        is_ratio=measure.is_ratio,
        tasks=len(known),
        before=before,
        after=after,
        change=None if withheld else _estimate(measure, known, sides, clusters),
        withheld=withheld,
    )


def _sides(measure: _Measure, pair: tuple[TaskSummary, TaskSummary]) -> tuple[Decimal | None, ...]:
    return tuple(amount(task) for task in pair for amount in (measure.above, measure.below))


def _quotient(sides: _Sides) -> float | None:
    above, below = sides.sum(axis=0)
    return float(above / below) if below else None


def _too_small(
    measure: _Measure, pairs: Sequence[tuple[TaskSummary, TaskSummary]], clusters: Sequence[Hashable]
) -> str | None:
    # Failures are no condition here: what divides by successes needs those, and both runs may succeed throughout.
    size = SampleSize(clusters=len(set(clusters)), successes=0, failures=0)
    if size.too_small_for_a_mean or not measure.is_ratio:
        return size.too_small_for_a_mean
    fewest = min(sum(task.is_success for task in run) for run in zip(*pairs, strict=True))
    if fewest >= _MIN_SUCCESSES:
        return None
    return f"needs at least {_MIN_SUCCESSES} successes on both sides, one has {fewest}"


def _estimate(
    measure: _Measure,
    pairs: Sequence[tuple[TaskSummary, TaskSummary]],
    sides: _Sides,
    clusters: Sequence[Hashable],
) -> Estimate:
    if measure.is_ratio:
        drawn = ClusterBootstrap.draw(cluster_codes(clusters), resamples=4000)
        ratios = [quotient(*np.hsplit(totals, 2)) for totals in np.hsplit(drawn.totals(sides), 2)]
        point = quotient(*(_quotient(part) for part in reversed(np.hsplit(sides, 2))))
        return drawn.estimate(float(point), quotient(ratios[1], ratios[0]).ravel())
    if measure.kind is SUCCESS_RATE and len(set(clusters)) == len(clusters):
        flips = _flips(pairs)
        return Estimate(point=flips.net_share, interval=flips.net_share_interval())
    differences: dict[Hashable, list[float]] = {}
    for cluster, row in zip(clusters, sides, strict=True):
        differences.setdefault(cluster, []).append(float(row[2] - row[0]))
    mean = cluster_mean((sum(of_one), len(of_one)) for of_one in differences.values())
    return Estimate(point=mean.estimate, interval=mean.interval)


def _one(task: TaskSummary) -> Decimal:
    return Decimal(1)


def _success(task: TaskSummary) -> Decimal:
    return Decimal(task.is_success)


def _cost(task: TaskSummary) -> Decimal | None:
    return task.spend.cost_usd


def _net(task: TaskSummary) -> Decimal | None:
    worth, cost = worth_of(task), task.spend.cost_usd
    return None if worth is None or cost is None else worth - cost


def _tokens(task: TaskSummary) -> Decimal | None:
    spend = task.spend
    return Decimal(spend.tokens.total) if task.traces and spend.calls_with_usage == spend.calls else None


_MEASURES: Final = (
    _Measure(kind=NET_VALUE_PER_TASK, above=_net, below=_one, is_ratio=False),
    _Measure(kind=SUCCESS_RATE, above=_success, below=_one, is_ratio=False),
    _Measure(kind=VALUE_PER_MILLION_STANDARD_TOKENS, above=lambda task: task.value_usd, below=standard_millions),
    _Measure(kind=VALUE_PER_DOLLAR, above=lambda task: task.value_usd, below=_cost),
    _Measure(kind=COST_PER_SUCCESS, above=_cost, below=_success),
    _Measure(kind=TOKENS_PER_SUCCESS, above=_tokens, below=_success),
)
