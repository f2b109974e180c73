"""From the tasks of a store to the lines of a set: judged, ranked, without repetitions, within a budget, split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tokenomics_plugin.dataset.chat import Json
from tokenomics_plugin.dataset.choice import Reason, Worth, judge
from tokenomics_plugin.dataset.conversation import Conversation
from tokenomics_plugin.dataset.split import Side, side_of
from tokenomics_plugin.report import TaskSummary

__all__ = ["EVERYTHING", "DatasetOptions", "Line", "Material", "Selection", "select"]


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What is exported."""

    held_out: float = 0.2
    """Share of the tasks that is held out, from 0 to below 1."""
    max_tasks: int | None = None
    """The most tasks; `None` for all that are worth it."""
    max_tokens: int | None = None
    """The most tokens of conversations, as the providers counted them; `None` for any number."""
    value: Decimal | None = None
    """USD that a success is worth which does not say its own."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be a share from 0 to below 1, got {self.held_out}")
        for name in ("max_tasks", "max_tokens"):
            if (most := getattr(self, name)) is not None and most < 1:
                raise ValueError(f"{name} must be at least 1, got {most}; use None for no limit")


EVERYTHING: Final = DatasetOptions()
"""All that is worth it, a fifth of it held out."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a task offers to learn."""

    has_content: bool = False
    """Whether what some call of it said can be read."""
    conversations: tuple[tuple[str, Conversation], ...] = ()
    """With the traces that they are from."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One conversation with where it is from."""

    task: TaskSummary
    """Whose conversation it is."""
    trace_id: str
    """Where it took place."""
    worth: Worth
    """Of the whole task."""
    side: Side
    """What it is for."""
    conversation: Conversation
    """What is learned."""

    def to_json(self) -> Json:
        """The line as the fine-tuner reads it; `metadata` is for people."""
        tools = {"tools": list(self.conversation.tools)} if self.conversation.tools else {}
        group = {} if self.task.group is None else {"group": self.task.group}
        return {
            "messages": list(self.conversation.messages),
            **tools,
            "metadata": {
                "task_id": self.task.task_id,
                **group,
                "trace_id": self.trace_id,
                "net_value_usd": f"{self.worth.net_value_usd.normalize():f}",
                "tokens": self.worth.tokens,
                "net_value_usd_per_million_tokens": float(self.worth.per_million_tokens),
            },
        }


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The lines, and what became of every task."""

    tasks: int
    """Tasks in the store."""
    kept: int
    """Tasks with a line."""
    left_out: Mapping[Reason, int]
    """Those without, by the first reason that holds."""
    lines: tuple[Line, ...] = field(repr=False)
    """The most net value per token first."""

    def side(self, side: Side) -> tuple[Line, ...]:
        """The lines of one side."""
        return tuple(line for line in self.lines if line.side is side)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    task: TaskSummary
    worth: Worth
    material: Material

    @property
    def rank(self) -> tuple[Decimal, str]:
        return -self.worth.per_million_tokens, self.task.task_id


def select(tasks: Sequence[TaskSummary], material: Mapping[str, Material], options: DatasetOptions) -> Selection:
    """Choose what to learn; the order of tasks changes nothing.

    Args:
        tasks: All tasks, as the report has them.
        material: Task id -> what it offers; a missing task offers nothing.
        options: Budget, split and value.
    """
    left_out, candidates = Counter[Reason](), list[_Candidate]()
    for task in tasks:
        offered = material.get(task.task_id, Material())
        match judge(task, has_content=offered.has_content, value=options.value):
            case Worth() as worth if offered.conversations:
                candidates.append(_Candidate(task=task, worth=worth, material=offered))
            case Worth():
                left_out[Reason.NOTHING_WHOLE] += 1
            case reason:
                left_out[reason] += 1
    candidates.sort(key=lambda candidate: candidate.rank)
    kept, lines = 0, list[Line]()
    for found in _within_budget(_without_repetitions(candidates, options), options):
        if isinstance(found, Reason):
            left_out[found] += 1
        else:
            kept, lines = kept + 1, lines + found
    return Selection(tasks=len(tasks), kept=kept, left_out=left_out, lines=tuple(lines))


def _without_repetitions(candidates: Iterable[_Candidate], options: DatasetOptions) -> Iterator[list[Line] | Reason]:
    seen = set[str]()
    for candidate in candidates:
        new = []
        for trace_id, conversation in candidate.material.conversations:
            if conversation.key not in seen:
                seen.add(conversation.key)
                new.append(_line(candidate, trace_id, conversation, options))
        yield new or Reason.DUPLICATE


def _line(candidate: _Candidate, trace_id: str, conversation: Conversation, options: DatasetOptions) -> Line:
    task = candidate.task
    side = side_of(task.task_id if task.group is None else task.group, held_out=options.held_out)
    return Line(task=task, trace_id=trace_id, worth=candidate.worth, side=side, conversation=conversation)


def _within_budget(found: Iterable[list[Line] | Reason], options: DatasetOptions) -> Iterator[list[Line] | Reason]:
    """The first that fit: a larger budget only adds."""
    tasks, tokens, is_spent = 0, 0, False
    most_tasks, most_tokens = (math.inf if most is None else most for most in (options.max_tasks, options.max_tokens))
    for lines in found:
        if isinstance(lines, Reason):
            yield lines
            continue
        tasks, tokens = tasks + 1, tokens + _tokens(lines)
        is_spent = is_spent or tasks > most_tasks or tokens > most_tokens
        yield Reason.BEYOND_BUDGET if is_spent else lines


def _tokens(lines: Sequence[Line]) -> int:
    # Of a conversation whose size nobody said, what its whole task took is the most that it can be.
    return sum(line.worth.tokens if (size := line.conversation.tokens) is None else size for line in lines)
