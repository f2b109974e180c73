"""What reflection, verification and self-refinement add: the draft before is scored as well as the one after.

Here the counterfactual is on the record. A run that revises its draft shows what it would have delivered without the
revision, so nothing has to be estimated but the mean of a difference. Right drafts that a revision breaks count
against it as wrong ones that it mends count for it.

Exact McNemar interval: Clopper and Pearson, Biometrika 26(4), 1934, on the flips alone. Outcome efficiency: Chen et
al., arXiv 2412.21187, generalised from tokens to any spend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite

from scipy import special

from tokenomics_plugin.resampling import cluster_codes
from tokenomics_plugin.statistics import Mean, Range, cluster_mean

__all__ = ["Draft", "DraftedTask", "Flips", "Revision", "TrailingSpend", "revision_value", "trailing_spend"]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An answer that could have been delivered."""

    is_correct: bool | None
    """Its score; `None` when it was not scored."""
    spend: float
    """What was spent since the draft before it, or since the start: money, or tokens of one model."""

    def __post_init__(self) -> None:
        if not (isfinite(self.spend) and self.spend >= 0):
            raise ValueError(f"spend must be a finite amount of at least 0, got {self.spend}")


@dataclass(frozen=True, kw_only=True)
class DraftedTask:
    """A task with its drafts in order; the last one was delivered."""

    task_id: str
    """Which task."""
    drafts: tuple[Draft, ...]
    """The first one and its revisions."""
    cluster: str | None = None
    """Tasks that are alike share a cluster; `None` for a task like no other."""


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Revisions that changed whether the draft was right."""

    mended: int
    """n01: wrong before, right after."""
    broken: int
    """n10: right before, wrong after."""
    kept_right: int
    """Right before and after."""
    kept_wrong: int
    """Wrong before and after."""

    @property
    def scored(self) -> int:
        """Revisions with both scores."""
        return self.mended + self.broken + self.kept_right + self.kept_wrong

    def mended_share(self, *, confidence: float = 0.95) -> Range:
        """Exact interval of the share of flips that mend: above 1/2 the revision helps. (0, 1) without a flip."""
        tail, mended, broken = (1 - confidence) / 2, self.mended, self.broken
        return Range(
            low=float(special.betaincinv(mended, broken + 1, tail)) if mended else 0.0,
            high=float(special.betaincinv(mended + 1, broken, 1 - tail)) if broken else 1.0,
        )

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test of mending as often as breaking."""
        return min(1.0, 2 * float(special.bdtr(min(self.mended, self.broken), self.mended + self.broken, 0.5)))


@dataclass(frozen=True, kw_only=True)
class Revision:
    """What one more draft is worth."""

    flips: Flips
    """What it did to the drafts that were scored."""
    unscored: int
    """Revisions without both scores."""
    marginal_value: Mean | None
    """MV = V (n01 - n10) / n - mean spend, clustered, over scored revisions; `None` below two clusters."""
    bounds: Range
    """The same mean over all revisions, whatever the missing scores turn out to be (Manski)."""
    break_even_value: float | None
    """The V above which it pays; `None` when it mends no more than it breaks: then no V does."""
    breaking_spend: float
    """Spent on revisions that broke a right draft: tokens of negative value."""
    idle_spend: float
    """Spent on revisions of drafts that were right and stayed so."""
    spend: float
    """Spent on all revisions."""


@dataclass(frozen=True, kw_only=True)
class TrailingSpend:
    """What was spent after a task first had a right draft."""

    after_correct: float
    """Spent after the first right draft."""
    spend: float
    """Spent in all, on tasks whose drafts were all scored."""
    outcome_efficiency: float | None
    """Mean of (spend until the first right draft) / (spend in all), 0 for tasks never right; `None` without a task."""
    tasks: int
    """Tasks whose drafts were all scored."""
    unscored_tasks: int
    """Tasks with a draft that was not: left out."""


def revision_value(
    tasks: Sequence[DraftedTask], *, value: float, revision: int | None = None, confidence: float = 0.95
) -> Revision:
    """Price revisions by their drafts.

    Args:
        tasks: Tasks with their drafts; those without a revision add nothing.
        value: V, worth of a right answer, in the unit of the spend.
        revision: Only the n-th one, from 1; by default all.
        confidence: Nominal coverage.

    Raises:
        ValueError: If no task has such a revision.
    """
    pairs = [pair for task in tasks for pair in _revisions(task, revision)]
    if not pairs:
        raise ValueError(f"there is no revision to price: revision={revision}, tasks={len(tasks)}")
    scored = [pair for pair in pairs if pair.is_scored]
    flips = _flips(scored)
    gained, spent = flips.mended - flips.broken, fsum(pair.after.spend for pair in scored)
    return Revision(
        flips=flips,
        unscored=len(pairs) - len(scored),
        marginal_value=_mean(scored, value, confidence),
        bounds=_bounds(pairs, value),
        break_even_value=spent / gained if gained > 0 else None,
        breaking_spend=fsum(pair.after.spend for pair in scored if pair.change < 0),
        idle_spend=fsum(pair.after.spend for pair in scored if pair.before.is_correct and pair.after.is_correct),
        spend=fsum(pair.after.spend for pair in pairs),
    )


def trailing_spend(tasks: Sequence[DraftedTask]) -> TrailingSpend:
    """Add up what tasks spent after they were first right."""
    scored = [task for task in tasks if task.drafts and all(draft.is_correct is not None for draft in task.drafts)]
    spend = [fsum(draft.spend for draft in task.drafts) for task in scored]
    until = [_until_correct(task) for task in scored]
    shares = [
        0.0 if first is None else first / whole if whole else 1.0 for first, whole in zip(until, spend, strict=True)
    ]
    return TrailingSpend(
        after_correct=fsum(whole - first for first, whole in zip(until, spend, strict=True) if first is not None),
        spend=fsum(spend),
        outcome_efficiency=fsum(shares) / len(shares) if shares else None,
        tasks=len(scored),
        unscored_tasks=len(tasks) - len(scored),
    )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A draft and its revision."""

    before: Draft
    after: Draft
    cluster: object

    @property
    def is_scored(self) -> bool:
        return self.before.is_correct is not None and self.after.is_correct is not None

    @property
    def change(self) -> int:
        """1 when mended, -1 when broken; of a scored pair."""
        return int(bool(self.after.is_correct)) - int(bool(self.before.is_correct))

    @property
    def possible_changes(self) -> tuple[int, int]:
        """The least and the most that the change can be, with what is known."""
        before, after = _possible(self.before), _possible(self.after)
        return min(after) - max(before), max(after) - min(before)


def _possible(draft: Draft) -> tuple[int, ...]:
    return (0, 1) if draft.is_correct is None else (int(draft.is_correct),)


def _revisions(task: DraftedTask, number: int | None) -> list[_Pair]:
    cluster = ("task", task.task_id) if task.cluster is None else task.cluster
    pairs = [
        _Pair(before=before, after=after, cluster=cluster)
        for before, after in zip(task.drafts, task.drafts[1:], strict=False)
    ]
    return pairs if number is None else pairs[number - 1 : number]


def _flips(scored: Sequence[_Pair]) -> Flips:
    right = sum(bool(pair.after.is_correct) for pair in scored)
    mended, broken = (sum(pair.change == change for pair in scored) for change in (1, -1))
    return Flips(mended=mended, broken=broken, kept_right=right - mended, kept_wrong=len(scored) - right - broken)


def _mean(scored: Sequence[_Pair], value: float, confidence: float) -> Mean | None:
    codes = cluster_codes(pair.cluster for pair in scored)
    sums: dict[int, list[float]] = {}
    for code, pair in zip(codes.tolist(), scored, strict=True):
        sums.setdefault(code, []).append(value * pair.change - pair.after.spend)
    if len(sums) < 2:
        return None
    return cluster_mean(((fsum(worths), len(worths)) for worths in sums.values()), confidence=confidence)


def _bounds(pairs: Sequence[_Pair], value: float) -> Range:
    spend = fsum(pair.after.spend for pair in pairs)
    ends = [value * sum(pair.possible_changes[end] for pair in pairs) - spend for end in (0, 1)]
    return Range(low=min(ends) / len(pairs), high=max(ends) / len(pairs))


def _until_correct(task: DraftedTask) -> float | None:
    spent = 0.0
    for draft in task.drafts:
        spent += draft.spend
        if draft.is_correct:
            return spent
    return None
