"""The rules for events, which are log records with a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from conventions import tables
from conventions.attributes import findings_of_attributes
from conventions.findings import Finding, violation

__all__ = ["violations_of_log"]


def violations_of_log(
    log: ReadableLogRecord, *, spans: Sequence[ReadableSpan] = (), with_content: bool = False
) -> list[Finding]:
    """Everything in which an event departs from the conventions.

    Args:
        log: It.
        spans: Those that were recorded with it, among which must be the one that it belongs to.
        with_content: Whether content was asked for.
    """
    name = log.log_record.event_name
    rule = tables.EVENTS.get(name or "")
    if rule is None:
        return [violation("event", str(name), "is an event of no convention")]
    attributes: Mapping[str, object] = log.log_record.attributes or {}
    return [
        *_levels(str(name), rule, attributes, log),
        *findings_of_attributes(str(name), attributes, with_content=with_content, known={}),
        *_parent(str(name), rule, log, spans),
    ]


def _levels(
    name: str, rule: tables.EventRule, attributes: Mapping[str, object], log: ReadableLogRecord
) -> Iterator[Finding]:
    severity = log.log_record.severity_number
    if rule.severity is not None and (severity is None or severity.value != rule.severity):
        yield violation("severity", name, f"is {severity}, should be {rule.severity}")
    for required in sorted(rule.required - set(attributes)):
        yield violation("required", name, f"{required} is missing")
    if rule.allowed is not None:
        for attribute in sorted(set(attributes) - rule.allowed):
            if not attribute.startswith("tokenomics."):
                yield violation("place", name, f"{attribute} does not belong here")
    if log.log_record.body is not None:
        yield violation("place", name, "has a body; events say everything in attributes")


def _parent(
    name: str, rule: tables.EventRule, log: ReadableLogRecord, spans: Sequence[ReadableSpan]
) -> Iterator[Finding]:
    if not log.log_record.span_id:
        if name != "gen_ai.evaluation.result":  # an outcome may be known of a task without a trace
            yield violation("parent", name, "belongs to no span")
        return
    parent = next((span for span in spans if span.context.span_id == log.log_record.span_id), None)
    operation = None if parent is None else (parent.attributes or {}).get("gen_ai.operation.name")
    if spans and operation not in rule.parents:
        yield violation("parent", name, f"belongs to a span of {operation}")
