from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tokenomics_plugin.errors import MalformedOtlpError
from tokenomics_plugin.otlp_json import Signal, parse_json, parse_line, parse_protobuf, to_json

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        span = request.resource_spans.add().scope_spans.add().spans.add()
        span.trace_id, span.span_id = draw(st.binary(min_size=16, max_size=16)), draw(st.binary(min_size=8, max_size=8))
        span.name = draw(text)
        span.start_time_unix_nano = draw(st.integers(0, 2**64 - 1))
        span.kind = draw(st.integers(0, 5))  # type: ignore[assignment]  # the stubs want the enum
        for key, value in draw(st.dictionaries(text, int64 | text | st.binary(), max_size=3)).items():
            field = {int: "int_value", str: "string_value", bytes: "bytes_value"}[type(value)]
            setattr(span.attributes.add(key=key).value, field, value)
    return request


@given(requests())
def test_a_request_survives_json_unchanged(request: ExportTraceServiceRequest) -> None:
    assert parse_json(to_json(request), Signal.TRACES) == request


def test_ids_are_hex_enums_are_numbers_and_long_integers_are_strings() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.start_time_unix_nano = b"\xab" * 16, b"\x01" * 8, 1
    span.kind = Span.SPAN_KIND_CLIENT

    written = json.loads(to_json(request))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]

    assert written == {"traceId": "ab" * 16, "spanId": "01" * 8, "kind": 3, "startTimeUnixNano": "1"}


def test_an_attribute_called_like_an_id_is_left_alone() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.attributes.add(key="traceId").value.string_value = "not hex"

    assert parse_line(to_json(request)) == (Signal.TRACES, request)


def test_null_is_the_default_for_an_id_as_for_any_field() -> None:
    line = '{"resourceSpans": [{"scopeSpans": [{"spans": [{"parentSpanId": null, "name": null}]}]}]}'

    assert parse_line(line)[0] is Signal.TRACES


def test_unknown_fields_are_ignored() -> None:
    assert parse_line('{"resourceLogs": [], "fromTheFuture": 1}')[0] is Signal.LOGS


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"resourceSpans": [], "resourceLogs": []}',
        '{"resourceSpans": 1}',
        '{"resourceSpans": [null]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 7}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "abcd"}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "-1"}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e400}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        '{"resourceSpans": [{"\\ud800": 1}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": 1e999}]}]}]}',
        "[" * 100_000,
        '{"resourceSpans":' + '[{"a":' * 5000 + "1" + "}]" * 5000 + "}",
    ],
    ids=range(18),
)
def test_a_line_that_is_not_a_request_says_so(line: str) -> None:
    with pytest.raises(MalformedOtlpError):
        parse_line(line)


@given(st.text() | st.binary())
def test_no_text_does_more_than_fail_to_parse(line: str | bytes) -> None:
    with pytest.raises(MalformedOtlpError):
        parse_line(line)


@given(st.sampled_from(Signal), st.binary())
def test_no_bytes_do_more_than_fail_to_parse(signal: Signal, body: bytes) -> None:
    try:
        parsed = parse_protobuf(body, signal)
    except MalformedOtlpError:
        parsed = None

    assert parsed is None or isinstance(parsed, signal.request_type)
