"""The rules that can be evaluated exactly: each keeps a prefix of a run, or keeps an answer it already had.

A rule looks only at what it would have known before a call was made, so it may be enforced as it was simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokenomics_plugin.simulation.run_table import RunTable

__all__ = [
    "CallCap",
    "CostBudget",
    "Effect",
    "LoopBreaker",
    "MemoReads",
    "RetryCap",
    "Rule",
    "StopAfterErrors",
]


_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What a rule does to each run; arrays are (runs,)."""

    saved: NDArray[np.float64]
    """What the run would not have cost."""
    is_touched: NDArray[np.bool_]
    """Whether the run would have been shorter or cheaper in calls."""
    is_cut_short: NDArray[np.bool_]
    """Whether it would have ended before its success stood, if it had one."""
    first_touched_call: NDArray[np.int64]
    """Index of the first call in the run that would not have been made as it was; its length where none."""


class Rule(Protocol):
    """A policy with its parameters."""

    @property
    def description(self) -> str:
        """What it does, as the end of a sentence."""
        ...

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for its evaluation to be exact."""
        ...

    @property
    def can_lose_success(self) -> bool:
        """Whether a run may end differently under it."""
        ...

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run.

        Raises:
            ValueError: If the runs did not record what the rule looks at.
        """
        ...


_TRUNCATION = (
    "A stopped run delivers nothing, unless its success already stood.",
    "The agent does not work differently because it knows of the limit.",
    "Costs and outcomes of the next runs are like those of the logged ones.",
)


@dataclass(frozen=True, kw_only=True)
class CallCap:
    """At most so many model calls a run."""

    calls: int
    """Calls that are made."""
    assumptions: ClassVar[tuple[str, ...]] = _TRUNCATION
    can_lose_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _at_least("calls", self.calls, 1)

    @property
    def description(self) -> str:
        """What it does."""
        return f"stop a run after {_count(self.calls, 'model call')}"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        return _truncated(table, np.minimum(table.calls, self.calls))


@dataclass(frozen=True, kw_only=True)
class CostBudget:
    """No further model call once a run has spent its budget: the call that reaches it is still paid."""

    limit: float
    """Budget of a run, in the currency of the costs."""
    assumptions: ClassVar[tuple[str, ...]] = _TRUNCATION
    can_lose_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (isfinite(self.limit) and self.limit > 0):
            raise ValueError(f"limit must be a finite amount above 0, got {self.limit}")

    @property
    def description(self) -> str:
        """What it does."""
        return f"stop a run that has spent {self.limit:g}"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        # A billionth below counts as reached: sums of the same costs in another order differ by less.
        return _truncated(table, table.prefix(table.spent_before < self.limit * (1 - 1e-9)))


@dataclass(frozen=True, kw_only=True)
class StopAfterErrors:
    """No further model call once so many steps of a run have failed."""

    errors: int
    """Failures that end it."""
    assumptions: ClassVar[tuple[str, ...]] = _TRUNCATION
    can_lose_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _at_least("errors", self.errors, 1)

    @property
    def description(self) -> str:
        """What it does."""
        return f"stop a run after {_count(self.errors, 'failed step')}"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        failed = _recorded(table.errors_before, "step_errors")
        return _truncated(table, table.prefix(failed < self.errors))


@dataclass(frozen=True, kw_only=True)
class RetryCap:
    """At most so many attempts at a whole task."""

    attempts: int
    """Attempts that are made, the first included."""
    assumptions: ClassVar[tuple[str, ...]] = _TRUNCATION
    can_lose_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _at_least("attempts", self.attempts, 1)

    @property
    def description(self) -> str:
        """What it does."""
        return f"give a task up after {_count(self.attempts, 'attempt')}"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        return _truncated(table, table.prefix(table.call_attempts <= self.attempts))


@dataclass(frozen=True, kw_only=True)
class LoopBreaker:
    """No further model call once a run has taken the same action in the same state so often; the last one is paid."""

    repeats: int
    """Occurrences that end it, the first included."""
    read_only: tuple[str, ...] = ()
    """Names or patterns of the tools that begin no new state: what the configuration says."""
    assumptions: ClassVar[tuple[str, ...]] = _TRUNCATION
    can_lose_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _at_least("repeats", self.repeats, 2)

    @property
    def description(self) -> str:
        """What it does."""
        return f"stop a run that takes one action {self.repeats} times in the same state"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        repeats = _recorded(table.most_repeats_before, "action_keys")
        return _truncated(table, table.prefix(repeats < self.repeats))


@dataclass(frozen=True, kw_only=True)
class MemoReads:
    """Answer a read that the run has made before, in the same state, from memory."""

    read_only: tuple[str, ...] = ()
    """Names or patterns of the tools whose reads the keys stand for: what the configuration says."""
    assumptions: ClassVar[tuple[str, ...]] = (
        "A read has no effect, and the same read in the same state gives the same answer: the run goes on as it did.",
        "An answer from memory costs nothing.",
        "Costs of the next runs are like those of the logged ones.",
    )
    can_lose_success: ClassVar[bool] = False

    @property
    def description(self) -> str:
        """What it does."""
        return "answer repeated reads from memory"

    def effect(self, table: RunTable) -> Effect:
        """What it would have done to each run."""
        repeated = _recorded(table.occurrence("read_keys"), "read_keys") > 1
        per_call = np.add.reduceat(np.where(repeated, table.step_costs, 0.0), table.call_starts[:-1])
        is_touched = np.logical_or.reduceat(repeated, table.step_offsets[:-1])
        in_call = np.logical_or.reduceat(repeated, table.call_starts[:-1])
        return Effect(
            saved=table.run_sums(per_call),
            is_touched=is_touched,
            is_cut_short=np.zeros(len(table), bool),
            first_touched_call=table.prefix(table.before(in_call) + in_call == 0),
        )


def _truncated(table: RunTable, kept: NDArray[np.int64]) -> Effect:
    is_touched = kept < table.calls
    return Effect(
        # A run that is not touched saves nothing at all, not a rounding error of its sum.
        saved=np.where(is_touched, np.maximum(table.spend - table.spend_of(kept), 0.0), 0.0),
        is_touched=is_touched,
        is_cut_short=is_touched & (kept < table.calls_to_success),
        first_touched_call=kept,
    )


def _recorded(column: NDArray[_Number] | None, name: str) -> NDArray[_Number]:
    if column is None:
        raise ValueError(f"a run did not record {name}, which this rule looks at: leave such runs out, and count them")
    return column


def _at_least(name: str, number: int, least: int) -> None:
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
