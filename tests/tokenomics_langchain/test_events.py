from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import Span, set_span_in_context

from tokenomics_langchain.events import CallEvents
from tokenomics_plugin import semconv
from tokenomics_plugin.version import package_version

SENTINEL = "hunter2"
SPAN: dict[str, Any] = {
    semconv.GEN_AI_OPERATION_NAME: "chat",
    semconv.GEN_AI_REQUEST_MODEL: "toy-1",
    semconv.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
    semconv.GEN_AI_USAGE_INPUT_TOKENS: 12,
    semconv.GEN_AI_INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]',
}


class OutOfLuck(Exception):
    pass


@pytest.fixture
def exporter() -> InMemoryLogRecordExporter:
    return InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]


@pytest.fixture
def logger_provider(exporter: InMemoryLogRecordExporter) -> Iterator[LoggerProvider]:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def events(logger_provider: LoggerProvider) -> CallEvents:
    return CallEvents(logger_provider)


@pytest.fixture
def only(exporter: InMemoryLogRecordExporter) -> Callable[[], ReadableLogRecord]:
    """The one record that was emitted."""

    def only() -> ReadableLogRecord:
        (record,) = exporter.get_finished_logs()
        return record

    return only


def start_span(sampler: Sampler = ALWAYS_ON) -> Span:
    return TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test").start_span("chat toy-1")


def raised() -> OutOfLuck:
    try:
        try:
            raise KeyError(SENTINEL)
        except KeyError as error:
            raise OutOfLuck(f"no luck with {SENTINEL}") from error
    except OutOfLuck as error:
        return error


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "dropped"])
def test_details_repeat_the_span_and_belong_to_it(
    events: CallEvents, only: Callable[[], ReadableLogRecord], sampler: Sampler
) -> None:
    span = start_span(sampler)
    before = time.time_ns()
    events.details(SPAN, set_span_in_context(span, Context()))

    record = only().log_record
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert record.severity_number is SeverityNumber.DEBUG
    assert record.attributes == SPAN
    assert record.body is None
    assert (record.trace_id, record.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert record.timestamp is not None
    assert before <= record.timestamp <= time.time_ns()


def test_details_keep_what_the_attributes_were_at_the_time(
    events: CallEvents, only: Callable[[], ReadableLogRecord]
) -> None:
    attributes = dict(SPAN)
    events.details(attributes, set_span_in_context(start_span(), Context()))
    attributes.clear()

    assert only().log_record.attributes == SPAN


def test_the_scope_says_who_tells_and_by_which_conventions(
    events: CallEvents, only: Callable[[], ReadableLogRecord]
) -> None:
    events.details(SPAN, set_span_in_context(start_span(), Context()))

    scope = only().instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("tokenomics_langchain", package_version() or "")
    assert scope.schema_url == semconv.SCHEMA_URL


def test_an_exception_belongs_to_the_span_that_it_ended(
    events: CallEvents, only: Callable[[], ReadableLogRecord]
) -> None:
    span = start_span()
    events.exception(raised(), set_span_in_context(span, Context()), with_text=False)

    record = only().log_record
    assert record.event_name == "gen_ai.client.operation.exception"
    assert record.severity_number is SeverityNumber.WARN
    assert record.span_id == span.get_span_context().span_id


def test_an_exception_tells_its_type_alone_with_content_off(
    events: CallEvents, only: Callable[[], ReadableLogRecord]
) -> None:
    events.exception(raised(), set_span_in_context(start_span(), Context()), with_text=False)

    assert only().log_record.attributes == {"exception.type": f"{__name__}.OutOfLuck"}
    assert SENTINEL not in only().to_json()


def test_an_exception_tells_its_message_and_where_it_came_from_with_content_on(
    events: CallEvents, only: Callable[[], ReadableLogRecord]
) -> None:
    events.exception(raised(), set_span_in_context(start_span(), Context()), with_text=True)

    attributes: Any = only().log_record.attributes
    assert attributes["exception.type"] == f"{__name__}.OutOfLuck"
    assert attributes["exception.message"] == f"no luck with {SENTINEL}"
    assert attributes["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert f"KeyError: '{SENTINEL}'" in attributes["exception.stacktrace"]
    assert attributes["exception.stacktrace"].rstrip().endswith(f"OutOfLuck: no luck with {SENTINEL}")


def test_a_builtin_exception_goes_by_its_bare_name(events: CallEvents, only: Callable[[], ReadableLogRecord]) -> None:
    events.exception(TimeoutError(), set_span_in_context(start_span(), Context()), with_text=False)

    assert only().log_record.attributes == {"exception.type": "TimeoutError"}


def test_the_text_of_an_exception_is_redacted(
    logger_provider: LoggerProvider, only: Callable[[], ReadableLogRecord]
) -> None:
    def redact(name: str, text: str) -> str | None:
        return None if name == "exception.stacktrace" else text.replace(SENTINEL, "***")

    events = CallEvents(logger_provider, redact=redact)
    events.exception(raised(), set_span_in_context(start_span(), Context()), with_text=True)

    assert only().log_record.attributes == {
        "exception.type": f"{__name__}.OutOfLuck",
        "exception.message": "no luck with ***",
    }


def test_a_redaction_that_fails_lets_no_text_pass(
    logger_provider: LoggerProvider, only: Callable[[], ReadableLogRecord]
) -> None:
    def redact(name: str, text: str) -> str | None:
        raise ValueError(text)

    events = CallEvents(logger_provider, redact=redact)
    events.exception(raised(), set_span_in_context(start_span(), Context()), with_text=True)

    assert only().log_record.attributes == {"exception.type": f"{__name__}.OutOfLuck"}


def test_without_a_logger_provider_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    events = CallEvents(None)
    events.details(SPAN, Context())
    events.exception(raised(), Context(), with_text=True)

    assert not caplog.records
