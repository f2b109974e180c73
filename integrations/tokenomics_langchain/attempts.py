"""Several tries at one thing: which runs are attempts of the same operation, and which replaced which.

LangChain numbers only the attempts of `with_retry`. The others show in how runs lie beside each other: a
second call of the same model below one step of an agent, a second run of a tool for the same tool call, a
second run of a node with the same checkpoint namespace.

An attempt that did not succeed is kept until its parent ends, and its span with it: only then is it known
whether another one replaced it. The span still ends when the attempt did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import Link, format_span_id

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_langchain.runs import NodeRole, Run, RunKind
from tokenomics_plugin import semconv

__all__ = [
    "Attempt",
    "Replaced",
    "await_repair",
    "begin_attempt",
    "keep_answer",
    "keep_attempt",
    "name_operation",
    "release_attempts",
]

_RETRY_TAG: Final = "retry:attempt:"
# What was attempted, where it is not a tool call or a node.
_MODEL: Final = "model"
_CHAIN: Final = "chain"
_ANSWER: Final = "answer"


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One try at an operation."""

    run: Run
    """The run that tried."""
    operation_id: str | None = None
    """Span id of the first attempt."""
    number: int = 1
    """1 for the first."""
    replaces: Attempt | None = None
    """The attempt before."""
    kind: str | None = None
    """What made it: `with_retry`, `model_retry`, `tool_retry`, `node_retry`, `fallback` or
    `structured_output_repair`; `None` for the first."""
    ended_unix_nano: int | None = None
    """When it ended, while its span is kept open."""

    def attributes(self) -> Attributes:
        """What its span says about it from the start; the id of a first attempt is not known yet."""
        return known(
            (semconv.ATTEMPT_NUMBER, self.number),
            (semconv.ATTEMPT_KIND, self.kind),
            (semconv.LOGICAL_OPERATION_ID, self.operation_id),
        )

    def links(self) -> list[Link]:
        """To the attempt that it replaces."""
        before = None if self.replaces is None else self.replaces.run.span_context()
        return [] if before is None else [Link(before, {semconv.LINK_KIND: semconv.LINK_RETRIES})]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaced:
    """What was attempted below a run that another run replaces as a whole."""

    kind: str
    """What made the other run."""
    attempts: Mapping[object, Attempt]
    """By what was attempted."""


def begin_attempt(run: Run) -> None:
    """Find out which attempt a run is that starts: a first one, or the one after another that did not succeed."""
    before, kind = _before(run)
    if run.kind is RunKind.PART:
        run.replaced = None if before is None else Replaced(kind=kind, attempts=_inside(before))
        return
    if before is not None and before.run.span is None:
        before = _inside(before).get(_key(run))
    if before is None or before.run.span is None:
        run.attempt = Attempt(run=run)
    else:
        run.attempt = Attempt(
            run=run, operation_id=_operation_id(before), number=before.number + 1, replaces=before, kind=kind
        )


def name_operation(attempt: Attempt, *, is_first_named: bool) -> None:
    """Say which operation an attempt belongs to, and which one replaced the attempt before; its span has begun.

    Args:
        attempt: It.
        is_first_named: Whether a first attempt says so before there is a second one.
    """
    span, before = attempt.run.span, attempt.replaces
    if span is None:
        return
    if before is None:
        if is_first_named:
            span.set_attribute(semconv.LOGICAL_OPERATION_ID, _operation_id(attempt))
        return
    if before.run.span is not None:
        before.run.span.set_attributes(
            {
                semconv.LOGICAL_OPERATION_ID: _operation_id(before),
                semconv.ATTEMPT_NUMBER: before.number,
                semconv.ATTEMPT_SUPERSEDED_BY: format_span_id(span.get_span_context().span_id),
            }
        )
    _release(before)
    attempt.replaces = None


def keep_attempt(run: Run, ended_unix_nano: int) -> bool:
    """Keep a run that did not succeed, for another may replace it; false when none can."""
    parent = run.parent
    if parent is None or parent.has_ended:
        return False
    if run.span is None and not run.attempts:
        return False
    attempt = run.attempt or Attempt(run=run)
    attempt.ended_unix_nano = ended_unix_nano
    _put(parent, _key(run), attempt)
    return True


def keep_answer(run: Run, ended_unix_nano: int) -> bool:
    """Keep a model call of an agent that answered, until its node says whether the answer can be used."""
    if run.attempt is None or run.parent is None or run.parent.has_ended:
        return False
    run.attempt.ended_unix_nano = ended_unix_nano
    _put(run.parent, _ANSWER, run.attempt)
    return True


def await_repair(node: Run) -> None:
    """The structured answer of an agent's model did not parse: the agent's next call repairs it."""
    if node.attempts and node.graph is not None and (answer := node.attempts.pop(_ANSWER, None)) is not None:
        _put(node.graph, _ANSWER, answer)


def release_attempts(run: Run) -> None:
    """End the spans that were kept below a run: nothing replaces them any more."""
    kept, run.attempts = run.attempts, None
    for attempt in (kept or {}).values():
        _release(attempt)


def _before(run: Run) -> tuple[Attempt | None, str]:
    """The attempt that a run comes after, and what made it try again."""
    parent, key = run.parent, _key(run)
    if parent is None:
        return None, ""
    if parent.attempts and (before := parent.attempts.pop(key, None) or _other_choice(parent)) is not None:
        if _is_same_work(run, before):
            return before, _kind(run, before)
        _release(before)
    elif parent.replaced is not None and key in parent.replaced.attempts:
        return parent.replaced.attempts[key], parent.replaced.kind
    elif run.kind is RunKind.MODEL and parent.role is NodeRole.MODEL and parent.graph and parent.graph.attempts:
        return parent.graph.attempts.pop(_ANSWER, None), "structured_output_repair"
    return None, ""


def _other_choice(parent: Run) -> Attempt | None:
    """A fallback need not be of the same kind as what it stands in for."""
    if not parent.is_fallbacks or not parent.attempts:
        return None
    return parent.attempts.popitem()[1]


def _inside(attempt: Attempt) -> Mapping[object, Attempt]:
    """What was attempted: the run itself, or what lies below one without a span."""
    return (attempt.run.attempts or {}) if attempt.run.span is None else {_key(attempt.run): attempt}


def _kind(run: Run, before: Attempt) -> str:
    if any(tag.startswith(_RETRY_TAG) for tag in run.tags):
        return "with_retry"
    if run.parent is not None and run.parent.is_fallbacks:
        return "fallback"
    if run.kind is RunKind.MODEL:
        return "model_retry" if run.name == before.run.name else "fallback"
    return "tool_retry" if run.kind is RunKind.TOOL else "node_retry"


def _is_same_work(run: Run, before: Attempt) -> bool:
    """Whether a run does again what another did; below code of the application's, only its input tells."""
    if run.kind in (RunKind.TOOL, RunKind.NODE) or any(tag.startswith(_RETRY_TAG) for tag in run.tags):
        return True
    parent = run.parent
    if parent is None or parent.is_fallbacks or parent.role is NodeRole.MODEL:
        return True
    return run.kind is RunKind.MODEL and bool(run.inputs == before.run.inputs)


def _operation_id(attempt: Attempt) -> str:
    if attempt.operation_id is None and attempt.run.span is not None:
        attempt.operation_id = format_span_id(attempt.run.span.get_span_context().span_id)
    return attempt.operation_id or ""


def _key(run: Run) -> object:
    match run.kind:
        case RunKind.MODEL:
            return _MODEL
        case RunKind.TOOL:
            return RunKind.TOOL, run.tool_call_id or run.name
        case RunKind.NODE:
            return RunKind.NODE, run.metadata.get("langgraph_checkpoint_ns")
        case _:
            return _CHAIN


def _put(parent: Run, key: object, attempt: Attempt) -> None:
    if parent.attempts is None:
        parent.attempts = {}
    if (older := parent.attempts.pop(key, None)) is not None:
        _release(older)
    parent.attempts[key] = attempt


def _release(attempt: Attempt) -> None:
    if attempt.ended_unix_nano is not None:
        if attempt.run.span is not None:
            attempt.run.span.end(attempt.ended_unix_nano)
        attempt.ended_unix_nano = None
        attempt.run.attempt = None  # a cycle that only the garbage collector would undo
    release_attempts(attempt.run)
