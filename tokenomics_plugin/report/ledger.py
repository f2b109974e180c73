"""Adds spans up, trace by trace: to their task, their agent, their model and their tool.

What is kept grows with tasks, agents, models, tools and the largest trace, not with spans: a million of them fit on
a laptop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from tokenomics_plugin import semconv
from tokenomics_plugin.pricing import PriceBook, StandardPrices, Unpriced
from tokenomics_plugin.report.attribution import Owner, attribute
from tokenomics_plugin.report.conduct import ConductLedger
from tokenomics_plugin.report.spend import Call, Tally
from tokenomics_plugin.span import SpanRecord

__all__ = ["Ledger", "ModelName", "Party", "PartyKind", "TaskLedger"]


class ModelName(NamedTuple):
    """A model as its spans name it; two providers' models of one name are two models."""

    provider: str | None
    """`gen_ai.provider.name`."""
    model: str | None
    """The model that answered, else the one that was asked for."""


class PartyKind(StrEnum):
    """What can take part in a task."""

    AGENT = "agent"
    MODEL = "model"
    TOOL = "tool"


class Party(NamedTuple):
    """An agent, a model or a tool."""

    kind: PartyKind
    """Which of the three."""
    name: str | ModelName | None
    """Its name; `None` for what happened outside any named agent."""


class TaskLedger:
    """What is kept of one task while spans are read."""

    __slots__ = ("failed_without_usage", "group", "parties", "tally", "traces")

    def __init__(self) -> None:
        self.failed_without_usage = 0
        self.tally = Tally()
        self.traces = 0
        self.group: str | None = None
        self.parties: set[Party] = set()


class Ledger:
    """The sums so far."""

    def __init__(self, prices: PriceBook, *, judged_tasks: Mapping[str, str]) -> None:
        """Start at zero.

        Args:
            prices: What calls cost.
            judged_tasks: Trace id -> task, where an outcome names its trace.
        """
        self.total = Tally()
        self.traces = 0
        self.start_unix_nano: int | None = None
        self.end_unix_nano: int | None = None
        self.tasks: dict[str, TaskLedger] = {}
        self.parties: dict[Party, Tally] = {}
        self.unpriced: Counter[tuple[Unpriced, ModelName]] = Counter()
        self.failed_unpriced: Counter[tuple[Unpriced, ModelName]] = Counter()
        self.conduct = ConductLedger()
        self._prices = prices
        self._standard = StandardPrices()
        self._judged_tasks = judged_tasks

    def add_trace(self, spans: Sequence[SpanRecord]) -> None:
        """Add all spans of one trace."""
        self.traces += 1
        # The carrier of an outcome is none of the work.
        work = [span for span in spans if span.operation != semconv.OPERATION_RECORD_OUTCOME]
        calls = {span.span_id: Call.of(span, self._prices, self._standard) for span in work if span.is_billed}
        self.conduct.add_trace(work, calls)
        tasks_here: set[str] = set()
        for span, owner in attribute(spans, judged_task=self._judged_tasks.get(spans[0].trace_id)):
            if span.operation == semconv.OPERATION_RECORD_OUTCOME:
                continue
            task_id = owner.task_id or _implicit_task(span)
            self._add(span, owner, task_id, calls.get(span.span_id))
            if task_id is not None:
                tasks_here.add(task_id)
        for task_id in tasks_here:
            self.tasks[task_id].traces += 1

    def _add(self, span: SpanRecord, owner: Owner, task_id: str | None, call: Call | None) -> None:
        task = None if task_id is None else self._task(task_id, span)
        for tally in self._tallies(span, owner, task):
            tally.add_span(span)
            if call is not None:
                tally.add_call(call)
        if call is not None:
            self._add_call(span, owner, call)
            if task is not None:
                task.failed_without_usage += _failed_without_usage(span, call)
        self._extend_period(span)

    def _tallies(self, span: SpanRecord, owner: Owner, task: TaskLedger | None) -> Iterator[Tally]:
        yield self.total
        if task is not None:
            yield task.tally
        for party in _parties(span, owner):
            if task is not None:
                task.parties.add(party)
            yield self._party(party)

    def _add_call(self, span: SpanRecord, owner: Owner, call: Call) -> None:
        if owner.tool is not None:  # made inside the tool, whose own span is counted elsewhere
            self._party(Party(PartyKind.TOOL, owner.tool)).add_call(call)
        if call.quote.unpriced is not None:
            reason = call.quote.unpriced, ModelName(span.provider, span.model)
            self.unpriced[reason] += 1
            self.failed_unpriced[reason] += span.status == "Error"

    def _task(self, task_id: str, span: SpanRecord) -> TaskLedger:
        task = self.tasks.get(task_id)
        if task is None:
            task = self.tasks[task_id] = TaskLedger()
        if span.task_group and span.task_id == task_id:
            # One task has one group; of contradicting ones the first by name, in whatever order spans are read.
            task.group = span.task_group if task.group is None else min(task.group, span.task_group)
        return task

    def _party(self, party: Party) -> Tally:
        tally = self.parties.get(party)
        if tally is None:
            tally = self.parties[party] = Tally()
        return tally

    def _extend_period(self, span: SpanRecord) -> None:
        start, end = span.start_unix_nano, span.start_unix_nano + (span.duration_nano or 0)
        self.start_unix_nano = start if self.start_unix_nano is None else min(self.start_unix_nano, start)
        self.end_unix_nano = end if self.end_unix_nano is None else max(self.end_unix_nano, end)


def _failed_without_usage(span: SpanRecord, call: Call) -> bool:
    return call.quote.unpriced is Unpriced.USAGE_UNKNOWN and span.status == "Error"


def _implicit_task(span: SpanRecord) -> str | None:
    """The task of a span that nothing names one for: its trace, if it is an agent's work at all."""
    return None if span.operation is None else span.trace_id


def _parties(span: SpanRecord, owner: Owner) -> Iterator[Party]:
    """The agent, the model and the tool whose span this is."""
    if owner.agent is not None or span.is_billed:
        yield Party(PartyKind.AGENT, owner.agent)
    if span.is_billed:
        yield Party(PartyKind.MODEL, ModelName(span.provider, span.model))
    if span.operation == semconv.OPERATION_EXECUTE_TOOL:
        yield Party(PartyKind.TOOL, owner.tool)
