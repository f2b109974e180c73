from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tokenomics_plugin import semconv
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.store import Payload, TraceStore
from tokenomics_plugin.tasks import record_outcome, task

TRACE_ID = f"{7:032x}"


@pytest.fixture
def load_captured(store: TraceStore, capture: Any) -> Any:
    """Put what the SDK exported into the store, as it goes over the wire."""

    def load() -> None:
        spans = encode_spans(capture.spans.get_finished_spans())
        logs = encode_logs(capture.logs.get_finished_logs())
        store.load([Payload(Signal.TRACES, spans.SerializeToString()), Payload(Signal.LOGS, logs.SerializeToString())])

    return load


def event(otlp: Any, attributes: dict[str, Any], **fields: Any) -> Any:
    return otlp.log(event_name=semconv.EVENT_EVALUATION_RESULT, attributes=attributes, **fields)


def carrier(otlp: Any, attributes: dict[str, Any], **fields: Any) -> Any:
    operation = {semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_RECORD_OUTCOME}
    return otlp.span(attributes=operation | attributes, **fields)


def test_an_outcome_comes_back_from_its_event_and_from_its_carrier_span(
    store: TraceStore, capture: Any, load_captured: Any
) -> None:
    providers = {"tracer_provider": capture.tracer_provider, "logger_provider": capture.logger_provider}
    with task("t-1", value="0.10", group="g", **providers) as judged:
        with capture.tracer_provider.get_tracer("test").start_as_current_span("work"):
            pass
        sent = judged.succeed(score=0.5, evidence="all green")
    load_captured()

    assert list(store.outcomes()) == [sent, sent]
    assert sent.value == Decimal("0.10")
    assert sent.trace_id is not None


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [pytest.param(f"00-{TRACE_ID}-{1:016x}-01", TRACE_ID, id="known"), pytest.param(None, None, id="unknown")],
)
def test_an_outcome_recorded_later_has_the_trace_that_it_was_told(
    store: TraceStore, capture: Any, load_captured: Any, traceparent: str | None, trace_id: str | None
) -> None:
    providers = {"tracer_provider": capture.tracer_provider, "logger_provider": capture.logger_provider}
    record_outcome("t-1", "failed", traceparent=traceparent, **providers)
    load_captured()

    assert [outcome.trace_id for outcome in store.outcomes()] == [trace_id, trace_id]


def test_carriers_of_outcomes_are_not_among_the_spans(store: TraceStore, otlp: Any) -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.FAILED)

    store.load([otlp.traces(otlp.span(1), carrier(otlp, outcome.to_attributes(), span_id=(2).to_bytes(8)))])

    assert [span.span_id for span in store.spans()] == [f"{1:016x}"]


def test_a_carrier_without_a_link_judges_no_trace(store: TraceStore, otlp: Any) -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.FAILED)

    store.load([otlp.traces(carrier(otlp, outcome.to_attributes()))])

    assert list(store.outcomes()) == [outcome]


def test_evaluations_of_others_are_no_outcomes(store: TraceStore, otlp: Any) -> None:
    others = {semconv.GEN_AI_EVALUATION_NAME: "relevance", semconv.GEN_AI_EVALUATION_SCORE_VALUE: 0.5}

    store.load([otlp.logs(event(otlp, others), otlp.log(attributes={semconv.TASK_ID: "t"}))])

    assert list(store.outcomes()) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({semconv.OUTCOME_STATUS: "superb"}, id="unknown-status"),
        pytest.param({semconv.OUTCOME_VALUE: "much"}, id="value-is-no-number"),
        pytest.param({semconv.OUTCOME_HARM: "-1"}, id="negative-harm"),
        pytest.param({semconv.OUTCOME_CURRENCY: "dollars"}, id="no-currency"),
        pytest.param({semconv.OUTCOME_VERSION: 1.5}, id="fractional-version"),
        pytest.param({semconv.GEN_AI_EVALUATION_SCORE_VALUE: "good"}, id="score-is-no-number"),
    ],
)
def test_a_malformed_outcome_is_left_out_and_reported(
    store: TraceStore, otlp: Any, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    good = Outcome(task_id="t", status=OutcomeStatus.SUCCEEDED, value=Decimal(1), harm=Decimal(0), score=1.0)
    bad = good.to_attributes() | change
    store.load(
        [
            otlp.logs(event(otlp, bad), event(otlp, good.to_attributes())),
            otlp.traces(carrier(otlp, bad), carrier(otlp, good.to_attributes(), span_id=(2).to_bytes(8))),
        ]
    )

    with caplog.at_level(logging.WARNING):
        assert list(store.outcomes()) == [good, good]

    [record] = caplog.records
    assert "2 outcomes could not be read" in record.getMessage()


def test_an_event_without_a_time_of_judgement_was_judged_when_it_happened(store: TraceStore, otlp: Any) -> None:
    attributes = {semconv.TASK_ID: "t", semconv.OUTCOME_STATUS: "succeeded"}

    store.load([otlp.logs(event(otlp, attributes, time_unix_nano=1_700_000_000_000_000_001))])

    [outcome] = store.outcomes()
    assert outcome.observed_time_unix_nano == 1_700_000_000_000_000_001


def test_the_first_link_of_a_carrier_names_the_judged_trace(store: TraceStore, otlp: Any) -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.FAILED)
    links = [Span.Link(trace_id=bytes.fromhex(TRACE_ID), span_id=b"12345678"), Span.Link(trace_id=b"x" * 16)]

    store.load([otlp.traces(carrier(otlp, outcome.to_attributes(), links=links))])

    assert [found.trace_id for found in store.outcomes()] == [TRACE_ID]
