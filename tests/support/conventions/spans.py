"""The rules for spans."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_trace_id

from conventions import tables
from conventions.attributes import findings_of_attributes
from conventions.findings import Finding, advice, violation

__all__ = ["violations_of_span"]

Attributes = Mapping[str, object]

_SPANS_ONLY: Final = {"openinference.span.kind": tables.STRING}
_UUID: Final = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def violations_of_span(
    span: ReadableSpan, *, with_content: bool = False, conversations: Collection[str] = ()
) -> list[Finding]:
    """Everything in which a span departs from the conventions.

    Args:
        span: It, ended.
        with_content: Whether content was asked for.
        conversations: The ids that the program gave to its conversations.
    """
    attributes: Attributes = span.attributes or {}
    operation = tables.OPERATIONS.get(str(attributes.get("gen_ai.operation.name")))
    if operation is None:
        return [violation("operation", span.name, f"{attributes.get('gen_ai.operation.name')!r} is no operation")]
    return [
        *_identity(span, attributes, operation),
        *_levels(span, attributes, operation),
        *findings_of_attributes(span.name, attributes, with_content=with_content, known=_SPANS_ONLY),
        *_places(span, attributes),
        *_conditions(span, attributes, conversations),
        *_status(span, attributes, with_content=with_content),
        *_events_and_links(span, with_content=with_content),
    ]


def _identity(span: ReadableSpan, attributes: Attributes, operation: tables.Operation) -> Iterator[Finding]:
    name, subject = str(attributes["gen_ai.operation.name"]), attributes.get(operation.subject or "")
    expected = f"{name} {subject}" if subject else name
    if span.name != expected:
        yield violation("name", span.name, f"should be called {expected!r}")
    if span.kind.name not in operation.kinds:
        yield violation("kind", span.name, f"is {span.kind.name}, should be {' or '.join(sorted(operation.kinds))}")
    scope = span.instrumentation_scope
    if scope is None or scope.schema_url != tables.SCHEMA_URL:
        yield violation("schema", span.name, f"is of the schema {scope.schema_url if scope else None!r}")


def _levels(span: ReadableSpan, attributes: Attributes, operation: tables.Operation) -> Iterator[Finding]:
    for name in sorted(operation.required - set(attributes)):
        yield violation("required", span.name, f"{name} is missing")
    recommended = operation.recommended
    if span.status.is_unset and not {"tokenomics.run.state", "tokenomics.cache.hit"} & set(attributes):
        recommended |= operation.answered
    if "tokenomics.usage.unknown_calls" in attributes:
        recommended -= tables.AGENT_USAGE
    for name in sorted(recommended - set(attributes)):
        yield advice("recommended", span.name, f"{name} is missing")


def _places(span: ReadableSpan, attributes: Attributes) -> Iterator[Finding]:
    operation = str(attributes["gen_ai.operation.name"])
    for name in attributes:
        prefixes = (
            place for place in tables.RESTRICTED if name == place or (place[-1] == "." and name.startswith(place))
        )
        if any(operation not in tables.RESTRICTED[place] for place in prefixes):
            yield violation("place", span.name, f"{name} does not belong on {operation}")
        elif operation == "invoke_agent" and name.startswith("gen_ai.usage.") and name not in tables.AGENT_USAGE:
            yield violation("place", span.name, f"{name} was removed from {operation}")


def _is_at(name: str, place: str) -> bool:
    return name.startswith(place) if place.endswith(".") else name == place


def _conditions(span: ReadableSpan, attributes: Attributes, conversations: Collection[str]) -> Iterator[Finding]:
    name = span.name
    if attributes.get("gen_ai.request.choice.count") == 1:
        yield violation("condition", name, "gen_ai.request.choice.count is only for more than one choice")
    if attributes.get("gen_ai.request.stream") is False:
        yield violation("condition", name, "gen_ai.request.stream is only for streams")
    if "gen_ai.response.time_to_first_chunk" in attributes and "gen_ai.request.stream" not in attributes:
        yield violation("condition", name, "gen_ai.request.stream is required of a stream")
    if "server.address" in attributes and "server.port" not in attributes:
        yield violation("condition", name, "server.port is required beside server.address")
    if _is_default(attributes.get("gen_ai.workflow.name")):
        yield violation("workflow", name, f"{attributes['gen_ai.workflow.name']!r} is a name that nobody chose")
    conversation = attributes.get("gen_ai.conversation.id")
    if conversation is not None and conversation not in conversations and _is_made_up(span, str(conversation)):
        yield violation("conversation", name, f"{conversation!r} was made up")


def _is_default(workflow: object) -> bool:
    return workflow is not None and (workflow in tables.DEFAULT_NAMES or str(workflow).startswith("Runnable"))


def _is_made_up(span: ReadableSpan, conversation: str) -> bool:
    context = span.get_span_context()
    trace_id = None if context is None else format_trace_id(context.trace_id)
    return conversation == trace_id or _UUID.fullmatch(conversation) is not None


def _status(span: ReadableSpan, attributes: Attributes, *, with_content: bool) -> Iterator[Finding]:
    is_error = span.status.status_code is StatusCode.ERROR
    if span.status.status_code is StatusCode.OK:
        yield violation("status", span.name, "OK is for the application to set")
    if is_error != ("error.type" in attributes):
        yield violation(
            "error", span.name, f"status {span.status.status_code.name}, error.type {attributes.get('error.type')!r}"
        )
    if span.status.description and not with_content:
        yield violation("content", span.name, "the status has a description")


def _events_and_links(span: ReadableSpan, *, with_content: bool) -> Iterator[Finding]:
    for event in span.events:
        subject = f"{span.name}: {event.name}"
        if event.name not in tables.OWN_SPAN_EVENTS | {"exception"}:
            yield violation("event", subject, "is an event of no convention")
        if event.name == "exception" and not {"exception.type", "exception.message"} & set(event.attributes or {}):
            yield violation("required", subject, "exception.type or exception.message is missing")
        yield from findings_of_attributes(subject, event.attributes or {}, with_content=with_content, known={})
    for link in span.links:
        yield from findings_of_attributes(f"{span.name}: link", link.attributes or {}, with_content=False, known={})
