"""The report's figures: estimates over tasks, with everything that keeps a reader from trusting them too much.

Each figure compares sums over one cohort, the tasks for which both sides are known, so that no cost is divided by
value that has not arrived. A figure that rests on too little is withheld and says why; what it could become, however
the missing outcomes turn out, is shown all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

from tokenomics_plugin.report.task import TaskSummary
from tokenomics_plugin.statistics import (
    ConfidenceSet,
    Range,
    SampleSize,
    SetShape,
    cluster_mean,
    clustered_wilson,
    manski_bounds,
    ratio_of_sums,
)

__all__ = [
    "Figure",
    "cost_per_success",
    "net_value_per_task",
    "standard_millions",
    "success_rate",
    "value_per_dollar",
    "value_per_million_standard_tokens",
    "worth_of",
]

_MAX_MISSING_SHARE: Final = 0.2
"""Share of tasks without a final outcome above which an estimate would be a guess."""
_MAX_HALF_WIDTH: Final = 0.5
"""Half-width of an interval, relative to its estimate, above which the estimate says little."""
_MILLION: Final = 1_000_000

_Pair = tuple[Decimal, Decimal]
_NOTHING: Final[_Pair] = (Decimal(0), Decimal(0))
_Totals = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A ratio of two sums over tasks, estimated with 95 % confidence."""

    numerator: Decimal
    """Sum above the line, over the cohort."""
    denominator: Decimal
    """Sum below the line, over the cohort."""
    tasks: int
    """Tasks in the cohort: judged, and known on both sides."""
    clusters: int
    """Independent draws among them: groups, and tasks without one."""
    left_out: int
    """Judged tasks that are not in the cohort because a side is unknown."""
    missing: int
    """Tasks without a final outcome that would be in the cohort with one."""
    estimate: float | None
    """The ratio; `None` when withheld."""
    confidence: ConfidenceSet | None
    """The ratios that the data do not reject; `None` when withheld."""
    withheld: str | None
    """Why there is no estimate; `None` when there is one."""
    caveat: str | None
    """Why the estimate deserves little trust; `None` when it deserves some."""
    bounds: Range | None
    """The ratio over all tasks, from the worst to the best way the missing outcomes may turn out."""
    bounds_confidence: Range | None
    """The same with sampling error on top; `None` when withheld for too little data."""


class _Estimator(Enum):
    PROPORTION = "proportion"
    MEAN = "mean"
    RATIO = "ratio"

    def confidence(self, totals: _Totals) -> ConfidenceSet:
        if self is _Estimator.RATIO:
            return ratio_of_sums(totals).confidence_set
        if self is _Estimator.MEAN:
            return _interval(cluster_mean(totals).interval)
        return _interval(clustered_wilson((int(successes), int(tasks)) for successes, tasks in totals))

    def too_small(self, size: SampleSize) -> str | None:
        return size.too_small_for_a_ratio if self is _Estimator.RATIO else size.too_small_for_a_mean


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How a figure is made of tasks."""

    estimator: _Estimator
    judged: Callable[[TaskSummary], _Pair | None]
    """Both sides of a judged task; `None` when a side is unknown."""
    lowest: Callable[[TaskSummary], _Pair | None]
    """Both sides of a task without an outcome, if it turns out to make the figure as low as it can."""
    highest: Callable[[TaskSummary], _Pair | None]
    """The same, as high as it can."""


def success_rate(tasks: Iterable[TaskSummary]) -> Figure:
    """Successes per judged task, Wilson's interval."""
    return _figure(
        tasks,
        _Recipe(
            estimator=_Estimator.PROPORTION,
            judged=lambda task: (Decimal(task.is_success), Decimal(1)),
            lowest=lambda task: (Decimal(0), Decimal(1)),
            highest=lambda task: (Decimal(1), Decimal(1)),
        ),
    )


def cost_per_success(tasks: Iterable[TaskSummary]) -> Figure:
    """USD per success, failed tasks' cost included; Fieller's set."""
    return _figure(
        tasks,
        _Recipe(
            estimator=_Estimator.RATIO,
            judged=lambda task: _pair(task.spend.cost_usd, Decimal(task.is_success)),
            lowest=lambda task: _pair(task.spend.cost_usd, Decimal(1)),
            highest=lambda task: _pair(task.spend.cost_usd, Decimal(0)),
        ),
    )


def value_per_dollar(tasks: Sequence[TaskSummary]) -> Figure:
    """USD of value per USD of cost; Fieller's set."""
    least, most = _range_of(tasks, lambda task: task.value_usd)
    return _figure(
        tasks,
        _Recipe(
            estimator=_Estimator.RATIO,
            judged=lambda task: _pair(task.value_usd, task.spend.cost_usd),
            lowest=lambda task: _pair(least, task.spend.cost_usd),
            highest=lambda task: _pair(most, task.spend.cost_usd),
        ),
        unusable=_no_value(tasks),
    )


def value_per_million_standard_tokens(tasks: Sequence[TaskSummary]) -> Figure:
    """USD of value per million standard tokens; Fieller's set."""
    least, most = _range_of(tasks, lambda task: task.value_usd)
    return _figure(
        tasks,
        _Recipe(
            estimator=_Estimator.RATIO,
            judged=lambda task: _pair(task.value_usd, standard_millions(task)),
            lowest=lambda task: _pair(least, standard_millions(task)),
            highest=lambda task: _pair(most, standard_millions(task)),
        ),
        unusable=_no_value(tasks),
    )


def net_value_per_task(tasks: Sequence[TaskSummary]) -> Figure:
    """USD of value minus cost minus harm, per task; Student's interval."""
    least, most = _range_of(tasks, worth_of)

    def net(worth: Decimal | None, task: TaskSummary) -> _Pair | None:
        return None if worth is None or task.spend.cost_usd is None else (worth - task.spend.cost_usd, Decimal(1))

    return _figure(
        tasks,
        _Recipe(
            estimator=_Estimator.MEAN,
            judged=lambda task: net(worth_of(task), task),
            lowest=lambda task: net(least, task),
            highest=lambda task: net(most, task),
        ),
        unusable=_no_value(tasks),
    )


def _figure(tasks: Iterable[TaskSummary], recipe: _Recipe, *, unusable: str | None = None) -> Figure:
    cohort = _Cohort(tasks, recipe)
    size = cohort.sample_size()
    too_small = unusable or recipe.estimator.too_small(size) or cohort.has_no_ratio()
    withheld = too_small or cohort.has_too_much_missing()
    estimate = None if withheld else float(cohort.numerator / cohort.denominator)
    confidence = None if withheld else recipe.estimator.confidence(cohort.totals)
    return Figure(
        numerator=cohort.numerator,
        denominator=cohort.denominator,
        tasks=cohort.tasks,
        clusters=size.clusters,
        left_out=cohort.left_out,
        missing=cohort.missing,
        estimate=estimate,
        confidence=confidence,
        withheld=withheld,
        caveat=None if estimate is None or confidence is None else size.caveat or _too_wide(estimate, confidence),
        bounds=None if unusable else cohort.bounds(),
        bounds_confidence=None if too_small else cohort.bounds_confidence(),
    )


class _Sums:
    """Both sides of a figure, summed for each cluster; exactly, so that the order of tasks changes nothing."""

    def __init__(self) -> None:
        self._clusters: dict[Hashable, _Pair] = {}

    def add(self, cluster: Hashable, sides: _Pair) -> None:
        above, below = self._clusters.get(cluster, _NOTHING)
        self._clusters[cluster] = above + sides[0], below + sides[1]

    def total(self) -> _Pair:
        above, below = _NOTHING
        for sides in self._clusters.values():
            above, below = above + sides[0], below + sides[1]
        return above, below

    def totals(self) -> _Totals:
        return [(float(above), float(below)) for above, below in self._clusters.values()]

    def with_(self, others: _Sums) -> _Sums:
        joined = _Sums()
        joined._clusters = dict(self._clusters)
        for cluster, sides in others._clusters.items():
            joined.add(cluster, sides)
        return joined


class _Cohort:
    """The tasks of one figure."""

    def __init__(self, tasks: Iterable[TaskSummary], recipe: _Recipe) -> None:
        self._recipe = recipe
        self._judged, self._lowest, self._highest = _Sums(), _Sums(), _Sums()
        self.tasks = self.left_out = self.missing = self._successes = 0
        for task in tasks:
            if task.status.is_final:
                self._take_judged(task)
            else:
                self._take_missing(task)
        self.numerator, self.denominator = self._judged.total()
        self.totals = self._judged.totals()

    def _take_judged(self, task: TaskSummary) -> None:
        sides = self._recipe.judged(task)
        if sides is None:
            self.left_out += 1
            return
        self.tasks += 1
        self._successes += task.is_success
        self._judged.add(task.cluster, sides)

    def _take_missing(self, task: TaskSummary) -> None:
        lowest, highest = self._recipe.lowest(task), self._recipe.highest(task)
        if lowest is not None and highest is not None:
            self.missing += 1
            self._lowest.add(task.cluster, lowest)
            self._highest.add(task.cluster, highest)

    def sample_size(self) -> SampleSize:
        """What the estimate would rest on."""
        return SampleSize(clusters=len(self.totals), successes=self._successes, failures=self.tasks - self._successes)

    def has_no_ratio(self) -> str | None:
        """Why the sums make no ratio; `None` when they do."""
        if not self.denominator:
            return "there is nothing to divide by"
        if self._recipe.estimator is _Estimator.RATIO and self.numerator < 0:
            return "the sum is negative, and a negative ratio ranks the wrong way: see the net value"
        return None

    def has_too_much_missing(self) -> str | None:
        """Why too few outcomes are known; `None` when enough are."""
        everyone = self.tasks + self.missing
        if self.missing <= _MAX_MISSING_SHARE * everyone:
            return None
        return f"{self.missing} of {everyone} tasks have no final outcome, more than {_MAX_MISSING_SHARE:.0%}"

    def bounds(self) -> Range | None:
        """The ratio over judged and missing tasks together, at both extremes."""
        lowest, highest = self._lowest.totals(), self._highest.totals()
        if not sum(below for _, below in [*self.totals, *lowest]):
            return None
        return manski_bounds(self.totals, lowest=lowest, highest=highest)

    def bounds_confidence(self) -> Range | None:
        """What the confidence sets at both extremes span."""
        low, high = (
            _hull(self._recipe.estimator.confidence(self._judged.with_(missing).totals()))
            for missing in (self._lowest, self._highest)
        )
        return low.union(high)


def _pair(numerator: Decimal | None, denominator: Decimal | None) -> _Pair | None:
    return None if numerator is None or denominator is None else (numerator, denominator)


def standard_millions(task: TaskSummary) -> Decimal | None:
    """Millions of standard tokens that a task took; `None` when unknown."""
    tokens = task.spend.standard_tokens
    return None if tokens is None else tokens / _MILLION


def worth_of(task: TaskSummary) -> Decimal | None:
    """USD of value less harm; `None` when either is unknown."""
    return None if task.value_usd is None or task.harm_usd is None else task.value_usd - task.harm_usd


def _range_of(
    tasks: Iterable[TaskSummary], amount: Callable[[TaskSummary], Decimal | None]
) -> tuple[Decimal | None, Decimal | None]:
    """Least and most that a missing outcome is assumed to bring: as judged ones did, and possibly nothing."""
    known = [found for task in tasks if (found := amount(task)) is not None]
    return (min([*known, Decimal(0)]), max([*known, Decimal(0)])) if known else (None, None)


def _no_value(tasks: Iterable[TaskSummary]) -> str | None:
    if any(task.is_success and task.value_usd is not None for task in tasks):
        return None
    return "no success says what it is worth in USD"


def _too_wide(estimate: float, confidence: ConfidenceSet) -> str | None:
    if confidence.shape is not SetShape.INTERVAL or confidence.low is None or confidence.high is None:
        return "low confidence: the data leave one side open"
    if confidence.high - confidence.low > 2 * _MAX_HALF_WIDTH * abs(estimate):
        return f"low confidence: the interval is wider than ±{_MAX_HALF_WIDTH:.0%}"
    return None


def _interval(found: Range) -> ConfidenceSet:
    return ConfidenceSet(shape=SetShape.INTERVAL, low=found.low, high=found.high)


def _hull(found: ConfidenceSet) -> Range:
    """The smallest range that holds a set."""
    if found.shape in (SetShape.INTERVAL, SetShape.AT_LEAST, SetShape.AT_MOST):
        return Range(low=found.low, high=found.high)
    return Range(low=None, high=None)
