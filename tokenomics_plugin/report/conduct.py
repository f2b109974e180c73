"""What agents did beyond plain calls: tried again, repeated themselves, failed, stopped, were answered for.

All of it is read from what spans say of themselves. Spans of other instrumentations say little of it, so each count
is about the spans that could have said so, and stands beside the number of those that could not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from tokenomics_plugin import semconv
from tokenomics_plugin.report.attempts import Attempts, AttemptsLedger, Subject, subject_of
from tokenomics_plugin.report.spend import Call, Spend, Tally
from tokenomics_plugin.span import SpanRecord

__all__ = ["Answers", "Conduct", "ConductLedger", "Ending", "Plans", "Repeats", "ToolErrors"]

T = TypeVar("T")

_ALTERNATION: Final = "alternation"
_WORK: Final = semconv.BILLED_OPERATIONS | {semconv.OPERATION_EXECUTE_TOOL}


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Runs of one tool or node that did what had been done before: same arguments, same result or state."""

    subject: Subject
    """A tool or a node."""
    name: str | None
    """Its name."""
    repeats: int
    """How many runs repeated an earlier one."""
    in_cycles: int
    """Those of them that were part of a cycle, such as A-B-A-B; the others came back to one action."""
    runs: int
    """All runs of this tool or node."""


@dataclass(frozen=True, kw_only=True)
class ToolErrors:
    """Tool calls that failed alike."""

    error_type: str | None
    """`error.type`: an exception's class, `tool_error` for an error message, `unknown_tool` for a tool that is none."""
    errors: int
    """How many."""
    retried: int
    """Those that another attempt replaced."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Runs that neither completed nor failed, and ended alike."""

    state: str
    """`interrupted`, `handed_off`, `drained`, `abandoned` or `cancelled`."""
    runs: int
    """How many; a run inside one that ended with it is not counted again."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Model and tool calls that something else answered, or that do not say exactly what they used."""

    cached_model_calls: int
    """Model calls answered by the framework's own cache, at no cost."""
    skipped_model_calls: int
    """Times that a middleware answered in a model's place; these are no model calls."""
    skipped_tool_calls: int
    """Tool calls that a middleware answered, so that the tool did not run."""
    estimated_model_calls: int
    """Model calls whose output was estimated, because their stream broke off."""
    estimated_output_tokens: int
    """Output tokens of these calls: the estimates. Without a count of input such a call has no cost."""


@dataclass(frozen=True, kw_only=True)
class Plans:
    """Plans that agents wrote, where tracing knows them to be plans."""

    made: int
    """Plans."""
    revised: int
    """Times that one was written again."""
    steps_added: int
    """Steps that were planned, at first or by a revision."""
    steps_removed: int
    """Steps that a revision dropped, not done."""
    steps_completed: int
    """Steps that a revision found done; what is done after the last one is not known."""


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """What agents did beyond plain calls."""

    attempts: tuple[Attempts, ...]
    """Attempts at model calls, tools and nodes; all three, also at 0."""
    replaced: Spend
    """All attempts that another one replaced; each model call once, also if it was inside several of them."""
    tool_calls: int
    """Calls of tools, also those that failed, were answered by a middleware, or named a tool that does not exist."""
    watched_tool_calls: int
    """Tool runs that were watched for repeats: those that say which operation they are an attempt of."""
    repeated_tool_calls: int
    """Those of them that repeated an earlier one."""
    repeats: tuple[Repeats, ...]
    """Repeats by tool or node, the most frequent first."""
    tool_errors: tuple[ToolErrors, ...]
    """Errors of tools by type, the most frequent first."""
    endings: tuple[Ending, ...]
    """Runs that neither completed nor failed, the most frequent first."""
    resumed_runs: int
    """Runs that went on from a checkpoint."""
    replayed: Spend
    """Model and tool calls that ran again after a resume, having run before the interrupt; they are no retries."""
    answers: Answers
    """Calls that something else answered, or whose usage is an estimate."""
    plans: Plans
    """Plans that were made and revised."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing of the kind was recorded."""
        return not (
            any(attempts.retried_operations for attempts in self.attempts)
            or self.repeats
            or self.tool_errors
            or self.endings
            or self.resumed_runs
            or self.replayed.spans
            or any(vars(self.answers).values())
            or any(vars(self.plans).values())
        )


class ConductLedger:
    """What agents did so far."""

    def __init__(self) -> None:
        self._attempts = AttemptsLedger()
        self._replayed = Tally()
        self._runs: Counter[_Runner] = Counter()
        self._repeats: Counter[_Runner] = Counter()
        self._cycles: Counter[_Runner] = Counter()
        self._tool_errors: Counter[str | None] = Counter()
        self._retried_tool_errors: Counter[str | None] = Counter()
        self._endings: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._plans: Counter[str] = Counter()
        self._tool_calls = self._watched_tool_calls = self._resumed_runs = 0

    def add_trace(self, spans: Sequence[SpanRecord], calls: Mapping[str, Call]) -> None:
        """Add all spans of one trace.

        Args:
            spans: The spans, in any order; parents may be missing.
            calls: Span id -> what that model call used.
        """
        self._attempts.add_trace(spans, calls)
        self._endings.update(_endings(spans))
        for span in spans:
            self._resumed_runs += span.is_resumed
            if span.operation == semconv.OPERATION_EXECUTE_TOOL:
                self._add_tool(span)
            self._add_answer(span)
            self._add_run(span)
            if span.plan_revision is not None:
                self._add_plan(span, span.plan_revision)
            if span.is_replay and span.operation in _WORK:
                self._add_replay(span, calls.get(span.span_id))

    def conduct(self) -> Conduct:
        """What has been added up."""
        return Conduct(
            attempts=self._attempts.attempts(),
            replaced=self._attempts.replaced(),
            tool_calls=self._tool_calls,
            watched_tool_calls=self._watched_tool_calls,
            repeated_tool_calls=sum(n for who, n in self._repeats.items() if who.subject is Subject.TOOL),
            repeats=tuple(
                Repeats(
                    subject=who.subject,
                    name=who.name,
                    repeats=repeats,
                    in_cycles=self._cycles[who],
                    runs=self._runs[who],
                )
                for who, repeats in _most_frequent_first(self._repeats)
            ),
            tool_errors=tuple(
                ToolErrors(error_type=error_type, errors=errors, retried=self._retried_tool_errors[error_type])
                for error_type, errors in _most_frequent_first(self._tool_errors)
            ),
            endings=tuple(Ending(state=state, runs=runs) for state, runs in _most_frequent_first(self._endings)),
            resumed_runs=self._resumed_runs,
            replayed=self._replayed.spend(),
            answers=Answers(**{name: self._answers[name] for name in Answers.__dataclass_fields__}),
            plans=Plans(**{name: self._plans[name] for name in Plans.__dataclass_fields__}),
        )

    def _add_tool(self, span: SpanRecord) -> None:
        self._tool_calls += 1
        self._watched_tool_calls += subject_of(span) is Subject.TOOL and span.operation_id is not None
        # A tool that was cancelled did not fail: that is an ending.
        if span.status == "Error" and span.run_state is None:
            self._tool_errors[span.error_type] += 1
            self._retried_tool_errors[span.error_type] += span.superseded_by is not None

    def _add_run(self, span: SpanRecord) -> None:
        """Count the runs of tools and nodes, and those that repeat an earlier one."""
        subject = subject_of(span)
        if subject is None or subject is Subject.MODEL_CALL:
            return
        who = _Runner(subject, span.tool_name if subject is Subject.TOOL else span.node_name)
        self._runs[who] += 1
        if span.loop_kind is not None:
            self._repeats[who] += 1
            self._cycles[who] += span.loop_kind == _ALTERNATION

    def _add_answer(self, span: SpanRecord) -> None:
        if span.operation == semconv.OPERATION_SKIP_MODEL_CALL:
            self._answers["skipped_model_calls"] += 1
        elif span.operation == semconv.OPERATION_EXECUTE_TOOL:
            self._answers["skipped_tool_calls"] += span.answered_by is not None
        elif span.is_billed:
            self._answers["cached_model_calls"] += span.is_cache_hit
            if span.is_usage_estimated:
                self._answers["estimated_model_calls"] += 1
                self._answers["estimated_output_tokens"] += _count(
                    None if span.usage is None else span.usage.output_tokens
                )

    def _add_plan(self, span: SpanRecord, revision: int) -> None:
        self._plans["revised" if revision else "made"] += 1
        self._plans["steps_added"] += _count(span.plan_steps_added)
        self._plans["steps_removed"] += _count(span.plan_steps_removed)
        self._plans["steps_completed"] += _count(span.plan_steps_completed)

    def _add_replay(self, span: SpanRecord, call: Call | None) -> None:
        self._replayed.add_span(span)
        if call is not None:
            self._replayed.add_call(call)


class _Runner(NamedTuple):
    """A tool or a node."""

    subject: Subject
    name: str | None


def _count(sent: int | None) -> int:
    """A count as it was sent; one below 0 counts nothing."""
    return max(sent or 0, 0)


def _endings(spans: Sequence[SpanRecord]) -> list[str]:
    """How runs ended, each run that took others along once."""
    if all(span.run_state is None for span in spans):
        return []
    by_id = {span.span_id: span for span in spans}
    return [span.run_state for span in spans if span.run_state and span.run_state != _around(span, by_id)]


def _around(span: SpanRecord, by_id: Mapping[str, SpanRecord]) -> str | None:
    """How the run around a span ended; spans of the application's own lie between runs and say nothing."""
    seen = {span.span_id}
    around = by_id.get(span.parent_span_id or "")
    while around is not None and around.operation is None and around.span_id not in seen:
        seen.add(around.span_id)
        around = by_id.get(around.parent_span_id or "")
    return None if around is None else around.run_state


def _most_frequent_first(counter: Counter[T]) -> list[tuple[T, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], str(item[0])))
