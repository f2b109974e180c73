"""An outcome as OTLP: the event and the carrier span that `tokenomics_plugin.record_outcome` sends."""

from __future__ import annotations

import json

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tokenomics_plugin import semconv
from tokenomics_plugin.importing.otlp import Attribute, derived_id, encodable, key_values
from tokenomics_plugin.outcome import Outcome

__all__ = ["carrier_span", "evaluation_event"]


def carrier_span(outcome: Outcome, *, trace_id: bytes, judged: bytes) -> Span:
    """The outcome as a span; its id is derived from what it says, so that a revision is another one.

    Args:
        outcome: What became of the run.
        trace_id: The run's trace.
        judged: Id of the span that stands for the run.
    """
    attributes: dict[str, Attribute | None] = {
        **outcome.to_attributes(),
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_RECORD_OUTCOME,
        semconv.OPENINFERENCE_SPAN_KIND: "EVALUATOR",
    }
    return Span(
        trace_id=trace_id,
        span_id=derived_id(8, trace_id, "outcome", json.dumps(attributes, sort_keys=True)),
        parent_span_id=judged,
        name=encodable(f"{semconv.OPERATION_RECORD_OUTCOME} {outcome.evaluator}"),
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=outcome.observed_time_unix_nano,
        end_time_unix_nano=outcome.observed_time_unix_nano,
        links=[Span.Link(trace_id=trace_id, span_id=judged)],
        attributes=key_values(attributes),
    )


def evaluation_event(outcome: Outcome, *, trace_id: bytes, judged: bytes) -> LogRecord:
    """The outcome as an event; arguments as for `carrier_span`."""
    return LogRecord(
        time_unix_nano=outcome.observed_time_unix_nano,
        observed_time_unix_nano=outcome.observed_time_unix_nano,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        event_name=semconv.EVENT_EVALUATION_RESULT,
        trace_id=trace_id,
        span_id=judged,
        attributes=key_values({**outcome.to_attributes()}),
    )
