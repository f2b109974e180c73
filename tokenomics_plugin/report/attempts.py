"""How often the same thing was tried, and what the tries used: per operation, and per attempt.

An attempt is a span, an operation all the spans with one operation id. A call may be retried by itself and inside
a tool or node that is retried too, so each subject has its own sums; no call is counted twice in any of them.

Nothing here says that a retry was wasted: whether the task would have ended as well without it, no trace tells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from tokenomics_plugin import semconv
from tokenomics_plugin.report.spend import Call, Spend, Tally
from tokenomics_plugin.span import SpanRecord

__all__ = ["AttemptKind", "Attempts", "AttemptsLedger", "Subject", "subject_of"]

_UNKNOWN_TOOL: Final = "unknown_tool"
_RETRIED_ONLY: Final = frozenset(
    {semconv.OPERATION_INVOKE_AGENT, semconv.OPERATION_INVOKE_WORKFLOW, semconv.OPERATION_RUN_BRANCH}
)
"""Operations whose spans speak of attempts only when there was more than one."""


class Subject(StrEnum):
    """What can be tried again, or done again."""

    MODEL_CALL = "model_call"
    TOOL = "tool"
    NODE = "node"


@dataclass(frozen=True, kw_only=True)
class AttemptKind:
    """The attempts after a first one that one mechanism made."""

    kind: str
    """`with_retry`, `model_retry`, `tool_retry`, `node_retry`, `fallback` or `structured_output_repair`."""
    spend: Spend
    """These attempts, as its spans, and the model calls that they are or contain."""


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The attempts of one subject. Spends count attempts as spans, with the model calls that they are or contain."""

    subject: Subject
    """Model calls, tools that ran, or nodes of graphs; with the nodes, agents and branches that were retried whole."""
    operations: int
    """Things that were to be done."""
    attempts: int
    """Tries; as many as operations when nothing was retried."""
    unlabelled: int
    """Attempts of model calls and tools that say nothing of attempts: each counts as an operation of its own."""
    retried_operations: int
    """Operations with more than one attempt."""
    retried: Spend
    """All attempts of the retried operations."""
    replaced: Spend
    """Those of them that another attempt replaced."""
    kinds: tuple[AttemptKind, ...]
    """What made the attempts after the first, the most frequent first."""


class AttemptsLedger:
    """The attempts so far."""

    def __init__(self) -> None:
        self._subjects = {subject: _SubjectLedger() for subject in Subject}
        self._replaced = Tally()

    def add_trace(self, spans: Sequence[SpanRecord], calls: Mapping[str, Call]) -> None:
        """Add all spans of one trace.

        Args:
            spans: The spans, in any order; parents may be missing.
            calls: Span id -> what that model call used.
        """
        attempts = [
            _Attempt(subject, span.operation_id or span.span_id, span)
            for span in spans
            if (subject := subject_of(span)) is not None
        ]
        retried = _retried(attempts)
        for subject, operation in {(attempt.subject, attempt.operation) for attempt in attempts}:
            self._subjects[subject].add_operation(is_retried=operation in retried)
        for attempt in attempts:
            self._subjects[attempt.subject].add_attempt(attempt.span, is_retried=attempt.operation in retried)
            if attempt.span.superseded_by is not None:
                self._replaced.add_span(attempt.span)
        if retried:
            again = {attempt.span.span_id: attempt for attempt in attempts if attempt.operation in retried}
            self._add_calls(again, {span.span_id: span for span in spans}, calls)

    def attempts(self) -> tuple[Attempts, ...]:
        """The attempts of each subject; all three, also at 0."""
        return tuple(ledger.attempts(subject) for subject, ledger in self._subjects.items())

    def replaced(self) -> Spend:
        """Replaced attempts of all subjects, with each of their model calls once, however many it was inside of."""
        return self._replaced.spend()

    def _add_calls(
        self, again: Mapping[str, _Attempt], by_id: Mapping[str, SpanRecord], calls: Mapping[str, Call]
    ) -> None:
        for span_id, call in calls.items():
            lineage = _lineage(by_id[span_id], by_id)
            around = [again[span.span_id] for span in lineage if span.span_id in again]
            # A call inside another is the same call, seen by a second instrumentation, or one of another model.
            around = [a for a in around if a.subject is not Subject.MODEL_CALL or a.span.span_id == span_id]
            for subject in {attempt.subject for attempt in around}:
                self._subjects[subject].add_call(call, [a.span for a in around if a.subject is subject])
            if any(attempt.span.superseded_by is not None for attempt in around):
                self._replaced.add_call(call)


class _Attempt(NamedTuple):
    """A span that is a try at something."""

    subject: Subject
    operation: str
    span: SpanRecord


class _SubjectLedger:
    """What is kept of one subject."""

    def __init__(self) -> None:
        self._operations = self._attempts = self._unlabelled = self._retried_operations = 0
        self._retried, self._replaced = Tally(), Tally()
        self._kinds: defaultdict[str, Tally] = defaultdict(Tally)

    def add_operation(self, *, is_retried: bool) -> None:
        self._operations += 1
        self._retried_operations += is_retried

    def add_attempt(self, span: SpanRecord, *, is_retried: bool) -> None:
        self._attempts += 1
        self._unlabelled += span.operation_id is None and span.operation != semconv.OPERATION_RUN_NODE
        if is_retried:
            for tally in self._tallies([span]):
                tally.add_span(span)

    def add_call(self, call: Call, around: Sequence[SpanRecord]) -> None:
        """Add a model call inside attempts of retried operations, the innermost first."""
        for tally in self._tallies(around):
            tally.add_call(call)

    def attempts(self, subject: Subject) -> Attempts:
        kinds = [AttemptKind(kind=kind, spend=tally.spend()) for kind, tally in self._kinds.items()]
        return Attempts(
            subject=subject,
            operations=self._operations,
            attempts=self._attempts,
            unlabelled=self._unlabelled,
            retried_operations=self._retried_operations,
            retried=self._retried.spend(),
            replaced=self._replaced.spend(),
            kinds=tuple(sorted(kinds, key=lambda kind: (-kind.spend.spans, kind.kind))),
        )

    def _tallies(self, around: Sequence[SpanRecord]) -> Iterator[Tally]:
        yield self._retried
        if any(span.superseded_by is not None for span in around):
            yield self._replaced
        kind = next((span.attempt_kind for span in around if span.attempt_kind is not None), None)
        if kind is not None:
            yield self._kinds[kind]


def subject_of(span: SpanRecord) -> Subject | None:
    """What a span is an attempt of; `None` for one that ran nothing, or nothing that can be tried again."""
    if span.is_billed:
        return Subject.MODEL_CALL
    if span.operation == semconv.OPERATION_EXECUTE_TOOL:
        has_run = span.answered_by is None and span.error_type != _UNKNOWN_TOOL
        return Subject.TOOL if has_run else None
    is_node = span.operation == semconv.OPERATION_RUN_NODE or (
        span.operation in _RETRIED_ONLY and span.operation_id is not None
    )
    return Subject.NODE if is_node else None


def _retried(attempts: Iterable[_Attempt]) -> set[str]:
    """Operations with more than one attempt; a span that speaks of another one is enough, if that one was lost."""
    sizes = Counter(attempt.operation for attempt in attempts)
    return {
        attempt.operation
        for attempt in attempts
        if sizes[attempt.operation] > 1
        or attempt.span.superseded_by is not None
        or attempt.span.attempt_kind is not None
    }


def _lineage(span: SpanRecord, by_id: Mapping[str, SpanRecord]) -> Iterator[SpanRecord]:
    """A span and those around it, the innermost first; a hostile trace may have a ring of parents."""
    seen: set[str] = set()
    current: SpanRecord | None = span
    while current is not None and current.span_id not in seen:
        seen.add(current.span_id)
        yield current
        current = by_id.get(current.parent_span_id or "")
