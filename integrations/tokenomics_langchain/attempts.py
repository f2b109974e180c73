"""Several tries at one thing: which runs are attempts of the same operation, and which replaced which.

LangChain numbers only the attempts of `with_retry`. The others show in how runs lie beside each other: a
second call of the same model below one step of an agent, a second run of a tool for the same tool call, a
second run of a node with the same checkpoint namespace.

An attempt that did not succeed stays replaceable until its parent ends, and its span is kept as long: only
then is it known whether another one replaced it. The span still ends when the attempt did.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.trace import Link

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_langchain.runs import NodeRole, Run, RunKind
from tokenomics_plugin import semconv

__all__ = [
    "attempt_attributes",
    "attempt_links",
    "await_repair",
    "begin_attempt",
    "keep_answer",
    "keep_attempt",
    "operation_id",
    "release_attempts",
    "release_replaced",
    "supersede",
]

_RETRY_TAG: Final = "retry:attempt:"
_POSITION_TAGS: Final = ("seq:step:", "map:key:")
# What was attempted, where it is not a tool call or a node.
_MODEL: Final = "model"
_CHAIN: Final = "chain"
_ANSWER: Final = "answer"


def begin_attempt(run: Run) -> None:
    """Find out which attempt a run is that starts: a first one, or the one after another that did not succeed."""
    if run.replaces is None:  # else it took itself for a part at first, and has found that out already
        parent = run.parent
        if parent is None or (parent.replaceable is None and parent.replaces is None and parent.role is None):
            return  # nearly always
        run.replaces, run.attempt_kind = _before(run)
    if run.replaces is not None and run.kind is not RunKind.PART:
        if run.replaces.span is None:
            run.replaces = None
        else:
            run.attempt_number, run.operation_id = run.replaces.attempt_number + 1, operation_id(run.replaces)


def attempt_attributes(run: Run) -> Attributes:
    """What the span of an attempt says from its start; the operation of a first attempt has no id yet."""
    attributes: Attributes = {semconv.ATTEMPT_NUMBER: run.attempt_number}
    if run.attempt_kind is not None:
        attributes[semconv.ATTEMPT_KIND] = run.attempt_kind
    if run.operation_id is not None:
        attributes[semconv.LOGICAL_OPERATION_ID] = run.operation_id
    return attributes


def attempt_links(run: Run) -> list[Link]:
    """To the attempt that a run replaces."""
    before = None if run.replaces is None else run.replaces.span_context
    return [] if before is None else [Link(before, {semconv.LINK_KIND: semconv.LINK_RETRIES})]


def operation_id(run: Run) -> str | None:
    """The id of the operation that a run is an attempt of."""
    if run.operation_id is None:
        run.operation_id = run.span_id or None
    return run.operation_id


def supersede(run: Run) -> None:
    """Tell the attempt before which one replaced it, now that this one's span has an id."""
    before, run.replaces = run.replaces, None
    if before is None or before.span is None or run.span is None:
        return
    before.span.set_attributes(
        known(
            (semconv.LOGICAL_OPERATION_ID, operation_id(before)),
            (semconv.ATTEMPT_NUMBER, before.attempt_number),
            (semconv.ATTEMPT_SUPERSEDED_BY, run.span_id),
        )
    )
    _release(before)


def keep_attempt(run: Run, ended_unix_nano: int) -> bool:
    """Keep a run that did not succeed, for another may replace it; false when none can."""
    if run.parent is None or run.parent.ended_unix_nano is not None or (run.span is None and not run.replaceable):
        return False
    run.kept_since_unix_nano = ended_unix_nano
    _put(run.parent, _key(run), run)
    return True


def keep_answer(run: Run, ended_unix_nano: int) -> bool:
    """Keep a model call of an agent that answered, until its node says whether the answer can be used."""
    if run.parent is None or run.parent.ended_unix_nano is not None:
        return False
    run.kept_since_unix_nano = ended_unix_nano
    _put(run.parent, _ANSWER, run)
    return True


def await_repair(node: Run) -> None:
    """The structured answer of an agent's model did not parse: the agent's next call repairs it."""
    if node.replaceable and node.graph is not None and (answer := node.replaceable.pop(_ANSWER, None)) is not None:
        _put(node.graph, _ANSWER, answer)


def release_attempts(run: Run) -> None:
    """End the spans that were kept below a run: nothing replaces them any more."""
    if run.replaceable is not None:
        kept, run.replaceable = run.replaceable, None
        for attempt in kept.values():
            _release(attempt)


def release_replaced(run: Run) -> None:
    """End the spans of those attempts that a run without a span stood in for, and nothing below it replaced."""
    if run.replaces is not None:
        before, run.replaces = run.replaces, None
        _release(before)


def _before(run: Run) -> tuple[Run | None, str | None]:
    """The attempt that a run comes after, and what made it try again."""
    parent = run.parent
    if parent is None:
        return None, None
    if parent.replaceable and (before := _taken(parent, run)) is not None:
        if _is_same_work(run, before):
            return _like(run, before), _kind(run, before)
        _release(before)
    elif parent.replaces is not None and parent.kind is RunKind.PART:
        return _below(parent.replaces, run), parent.attempt_kind
    elif run.kind is RunKind.MODEL and parent.role is NodeRole.MODEL and parent.graph and parent.graph.replaceable:
        return parent.graph.replaceable.pop(_ANSWER, None), "structured_output_repair"
    return None, None


def _taken(parent: Run, run: Run) -> Run | None:
    kept = parent.replaceable or {}
    if (before := kept.pop(_key(run), None)) is not None:
        return before
    # A fallback need not be of the same kind as what it stands in for.
    return kept.popitem()[1] if parent.is_fallbacks and kept else None


def _like(run: Run, before: Run) -> Run | None:
    """The attempt that a run replaces: the one before, or the one like it below that."""
    if run.kind is RunKind.PART or before.span is not None:
        return before
    # Where a whole chain failed, what stands in for it need not have the same place; the only attempt is the one.
    return _below(before, run) or _only(before)


def _below(before: Run, run: Run) -> Run | None:
    """What was attempted below one run, of the kind that another run is."""
    return None if before.replaceable is None else before.replaceable.pop(_key(run), None)


def _only(before: Run) -> Run | None:
    kept = before.replaceable or {}
    return kept.popitem()[1] if len(kept) == 1 else None


def _kind(run: Run, before: Run) -> str:
    if _is_tagged(run):
        return "with_retry"
    if run.parent is not None and run.parent.is_fallbacks:
        return "fallback"
    if run.kind is RunKind.MODEL:
        return "model_retry" if run.name == before.name else "fallback"
    return "tool_retry" if run.kind is RunKind.TOOL else "node_retry"


def _is_same_work(run: Run, before: Run) -> bool:
    """Whether a run does again what another did; below code of the application's, only its input tells."""
    if run.kind is RunKind.NODE or run.tool_call_id is not None or _is_tagged(run):
        return True
    parent = run.parent
    if parent is None or parent.is_fallbacks or parent.role is NodeRole.MODEL:
        return True
    return run.kind in (RunKind.MODEL, RunKind.TOOL) and bool(run.inputs == before.inputs)


def _is_tagged(run: Run) -> bool:
    return any(tag.startswith(_RETRY_TAG) for tag in run.tags)


def _key(run: Run) -> object:
    match run.kind:
        case RunKind.MODEL:
            # Calls that a middleware makes for its own ends say so.
            return _MODEL, run.metadata.get("lc_source"), _position(run)
        case RunKind.TOOL:
            return RunKind.TOOL, run.tool_call_id or run.name
        case RunKind.NODE:
            return RunKind.NODE, run.metadata.get("langgraph_checkpoint_ns")
        case _:
            return _CHAIN, _position(run)


def _position(run: Run) -> str | None:
    """The place in a sequence, or the branch, by which several calls below one run are told apart."""
    return next((tag for tag in run.tags if tag.startswith(_POSITION_TAGS)), None)


def _put(parent: Run, key: object, attempt: Run) -> None:
    if parent.replaceable is None:
        parent.replaceable = {}
    elif (older := parent.replaceable.pop(key, None)) is not None:
        _release(older)
    parent.replaceable[key] = attempt


def _release(attempt: Run) -> None:
    if attempt.kept_since_unix_nano is not None:
        if attempt.span is not None:
            attempt.span.end(attempt.kept_since_unix_nano)
        attempt.kept_since_unix_nano = None
    release_attempts(attempt)
