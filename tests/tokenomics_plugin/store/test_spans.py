from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import TraceStore
from tokenomics_plugin.usage import TokenUsage

LATEST = 2**63 - 2

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # protobuf's text holds no lone surrogates
TIMES = st.integers(0, LATEST)
COUNTS = st.none() | st.integers(-(2**63), 2**63 - 1)
SPAN_IDS = st.integers(1, 2**64 - 1).map("{:016x}".format)


@st.composite
def sent_spans(draw: st.DrawFn) -> tuple[SpanRecord, tuple[int | None, ...]]:
    """A span as reports see it, and its token counts as they were sent."""
    start, end = sorted((draw(TIMES), draw(TIMES)))
    optional = st.none() | TEXTS.filter(bool)
    counts = draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
    record = SpanRecord(
        trace_id=f"{draw(st.integers(1, 2**128 - 1)):032x}",
        span_id=draw(SPAN_IDS),
        parent_span_id=draw(st.none() | SPAN_IDS),
        name=draw(TEXTS),
        service_name=draw(TEXTS),
        start_unix_nano=start,
        duration_nano=end - start,
        status=draw(st.sampled_from(["Unset", "Ok", "Error"])),
        error_type=draw(optional),
        operation=draw(optional),
        provider=draw(optional),
        request_model=draw(optional),
        response_model=draw(optional),
        agent_name=draw(optional),
        tool_name=draw(optional),
        conversation_id=draw(optional),
        task_id=draw(optional),
        task_group=draw(optional),
        usage=None if counts == (None,) * 5 else usage(*counts),
        time_to_first_chunk_s=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        node_name=draw(optional),
        operation_id=draw(optional),
        attempt_kind=draw(optional),
        superseded_by=draw(optional),
        loop_kind=draw(optional),
        run_state=draw(optional),
        answered_by=draw(optional),
        is_resumed=draw(st.booleans()),
        is_replay=draw(st.booleans()),
        is_cache_hit=draw(st.booleans()),
        is_usage_estimated=draw(st.booleans()),
        plan_revision=draw(COUNTS),
        plan_steps_added=draw(COUNTS),
        plan_steps_removed=draw(COUNTS),
        plan_steps_completed=draw(COUNTS),
    )
    return record, counts


def usage(
    input_tokens: int | None,
    output_tokens: int | None,
    cache_read: int | None = None,
    cache_write: int | None = None,
    reasoning: int | None = None,
) -> TokenUsage:
    return TokenUsage.from_inclusive(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
    )


def as_span(otlp: Any, record: SpanRecord, counts: tuple[int | None, ...]) -> Span:
    """How a span looks on the wire."""
    attributes = {
        semconv.ERROR_TYPE: record.error_type,
        semconv.GEN_AI_OPERATION_NAME: record.operation,
        semconv.GEN_AI_PROVIDER_NAME: record.provider,
        semconv.GEN_AI_REQUEST_MODEL: record.request_model,
        semconv.GEN_AI_RESPONSE_MODEL: record.response_model,
        semconv.GEN_AI_AGENT_NAME: record.agent_name,
        semconv.GEN_AI_TOOL_NAME: record.tool_name,
        semconv.GEN_AI_CONVERSATION_ID: record.conversation_id,
        semconv.TASK_ID: record.task_id,
        semconv.TASK_GROUP: record.task_group,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: record.time_to_first_chunk_s,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: counts[0],
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: counts[1],
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: counts[2],
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: counts[3],
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: counts[4],
        semconv.NODE_NAME: record.node_name,
        semconv.LOGICAL_OPERATION_ID: record.operation_id,
        semconv.ATTEMPT_KIND: record.attempt_kind,
        semconv.ATTEMPT_SUPERSEDED_BY: record.superseded_by,
        semconv.LOOP_KIND: record.loop_kind,
        semconv.RUN_STATE: record.run_state,
        semconv.ANSWERED_BY: record.answered_by,
        semconv.REPLAY: record.is_replay,
        semconv.CACHE_HIT: record.is_cache_hit,
        semconv.USAGE_ESTIMATED: record.is_usage_estimated,
        semconv.PLAN_REVISION: record.plan_revision,
        semconv.PLAN_STEPS_ADDED: record.plan_steps_added,
        semconv.PLAN_STEPS_REMOVED: record.plan_steps_removed,
        semconv.PLAN_STEPS_COMPLETED: record.plan_steps_completed,
    }
    return Span(
        trace_id=bytes.fromhex(record.trace_id),
        span_id=bytes.fromhex(record.span_id),
        parent_span_id=bytes.fromhex(record.parent_span_id or ""),
        name=record.name,
        start_time_unix_nano=record.start_unix_nano,
        end_time_unix_nano=record.start_unix_nano + (record.duration_nano or 0),
        status=Status(code={"Unset": 0, "Ok": 1, "Error": 2}[record.status]),  # type: ignore[arg-type]
        attributes=otlp.attributes({name: value for name, value in attributes.items() if value is not None}),
        events=[Span.Event(name=semconv.EVENT_RESUME)] if record.is_resumed else [],
    )


@settings(max_examples=15, deadline=None)
@given(sent=st.lists(sent_spans(), max_size=8, unique_by=lambda sent: (sent[0].trace_id, sent[0].span_id)))
def test_spans_come_back_as_they_were_sent_by_trace_and_start(
    otlp: Any, sent: list[tuple[SpanRecord, tuple[int | None, ...]]]
) -> None:
    payloads = [
        otlp.traces(as_span(otlp, record, counts), resource={"service.name": record.service_name})
        for record, counts in sent
    ]

    with tempfile.TemporaryDirectory() as folder, TraceStore(Path(folder, "db")) as store:
        store.load(payloads)
        read = list(store.spans())

    expected = sorted((record for record, _ in sent), key=lambda r: (r.trace_id, r.start_unix_nano, r.span_id))
    assert read == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("x\0y\U0001f600", "x\0y\U0001f600", id="text-with-nul-and-astral"),
        pytest.param("", "", id="empty-text"),
        pytest.param(None, "", id="nothing"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param(0, "0", id="zero"),
        pytest.param(-(2**63), "-9223372036854775808", id="least-int"),
        pytest.param(0.1, "0.1", id="double"),
        pytest.param(float("nan"), "nan", id="nan"),
        pytest.param(b"\xff\x00", "/wA=", id="bytes"),
        pytest.param(["a", 1, None], '["a",1,null]', id="list"),
        pytest.param({"é": [b"\xff", {"b": 0.5}]}, '{"é":["/w==",{"b":0.5}]}', id="nested"),
    ],
)
def test_attributes_of_every_type_are_kept_as_text(
    db: Path, rows: Callable[[str], Any], otlp: Any, value: Any, text: str
) -> None:
    with TraceStore(db) as store:
        store.load([otlp.traces(otlp.span(attributes={"name": value}))])

    assert rows("SELECT SpanAttributes FROM otel_traces") == [({"name": text},)]


def test_of_an_attribute_sent_twice_the_last_value_counts(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    span = otlp.span()
    span.attributes.extend([*otlp.attributes({"a": "first"}), *otlp.attributes({"a": "last"})])

    with TraceStore(db) as store:
        store.load([otlp.traces(span)])

    assert rows("SELECT SpanAttributes FROM otel_traces") == [({"a": "last"},)]


def test_an_attribute_of_megabytes_is_kept(store: TraceStore, otlp: Any) -> None:
    huge = "x" * (20 * 2**20)

    store.load([otlp.traces(otlp.span(attributes={semconv.GEN_AI_AGENT_NAME: huge}))])

    assert next(store.spans()).agent_name == huge


def test_nested_values_at_the_depth_that_protobuf_allows_are_kept(
    db: Path, rows: Callable[[str], Any], otlp: Any
) -> None:
    value: Any = "deep"
    for _ in range(40):  # each level takes two of the parser's hundred
        value = [value]

    with TraceStore(db) as store:
        store.load([otlp.traces(otlp.span(attributes={"a": value}))])

    [(attributes,)] = rows("SELECT SpanAttributes FROM otel_traces")
    assert json.loads(attributes["a"]) == value


def test_columns_are_those_of_the_clickhouse_exporter(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    span = otlp.span(
        name="chat m",
        kind=Span.SPAN_KIND_CLIENT,
        trace_state="a=b",
        end_time_unix_nano=1_500,
        status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
        events=[Span.Event(time_unix_nano=7, name="e", attributes=otlp.attributes({"k": 1}))],
        links=[Span.Link(trace_id=(5).to_bytes(16), span_id=(6).to_bytes(8), trace_state="c=d")],
    )
    with TraceStore(db) as store:
        store.load([otlp.traces(span)])

    assert rows("""
        SELECT epoch_ns(Timestamp), SpanName, SpanKind, TraceState, ServiceName, ResourceAttributes, ScopeName,
            ScopeVersion, Duration, StatusCode, StatusMessage, epoch_ns("Events.Timestamp"[1]),
            "Events.Name", "Events.Attributes", "Links.TraceId", "Links.SpanId", "Links.TraceState", "Links.Attributes"
        FROM otel_traces
    """) == [
        (
            *(1_000, "chat m", "Client", "a=b", "agent", {"service.name": "agent"}, "test"),
            *("1", 500, "Error", "no", 7),
            *(["e"], [{"k": "1"}], [f"{5:032x}"], [f"{6:016x}"], ["c=d"], [{}]),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        pytest.param({"gen_ai.usage.prompt_tokens": 7}, 7, id="earlier-spelling"),
        pytest.param({"gen_ai.usage.prompt_tokens": 7, semconv.GEN_AI_USAGE_INPUT_TOKENS: 8}, 8, id="today's-wins"),
        pytest.param(
            {"gen_ai.usage.prompt_tokens": 7, semconv.GEN_AI_USAGE_INPUT_TOKENS: "?"}, 7, id="today's-is-no-number"
        ),
        pytest.param({semconv.GEN_AI_USAGE_INPUT_TOKENS: "7"}, 7, id="text"),
        pytest.param({semconv.GEN_AI_USAGE_INPUT_TOKENS: 7.0}, 7, id="double"),
        pytest.param({semconv.GEN_AI_USAGE_INPUT_TOKENS: 0}, 0, id="zero"),
    ],
)
def test_token_counts_are_read_in_any_spelling_and_type(
    store: TraceStore, otlp: Any, attributes: dict[str, Any], tokens: int
) -> None:
    store.load([otlp.traces(otlp.span(attributes=attributes))])

    assert next(store.spans()).usage == usage(tokens, None)


@pytest.mark.parametrize("value", ["", "many", True, 1.5, float("inf"), float("nan"), str(2**63), "9" * 5000, [1]])
def test_what_is_no_count_of_tokens_is_unknown(store: TraceStore, otlp: Any, value: Any) -> None:
    store.load([otlp.traces(otlp.span(attributes={semconv.GEN_AI_USAGE_INPUT_TOKENS: value}))])

    assert next(store.spans()).usage is None


def test_a_clock_that_stepped_back_is_kept_as_sent_and_leaves_the_duration_unknown(
    db: Path, rows: Callable[[str], Any], otlp: Any
) -> None:
    with TraceStore(db) as store:
        store.load([otlp.traces(otlp.span(start_time_unix_nano=900, end_time_unix_nano=400))])
        assert next(store.spans()).duration_nano is None

    assert rows("SELECT Duration FROM otel_traces") == [(-500,)]


def test_kinds_and_codes_that_the_protocol_does_not_know_are_empty(
    db: Path, rows: Callable[[str], Any], otlp: Any
) -> None:
    with TraceStore(db) as store:
        store.load([otlp.traces(otlp.span(kind=99, status=Status(code=99)))])  # type: ignore[arg-type]

    assert rows("SELECT SpanKind, StatusCode FROM otel_traces") == [("", "")]


def test_an_event_at_an_impossible_time_does_not_cost_the_span(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    with TraceStore(db) as store:
        store.load([otlp.traces(otlp.span(events=[Span.Event(time_unix_nano=2**64 - 1, name="e")]))])

    assert rows('SELECT "Events.Timestamp", "Events.Name" FROM otel_traces') == [([None], ["e"])]


def test_spans_and_outcomes_can_be_read_side_by_side_and_while_loading(store: TraceStore, otlp: Any) -> None:
    store.load([otlp.traces(*(otlp.span(number) for number in range(1, 11)))])

    spans = store.spans()
    first = next(spans)
    assert list(store.outcomes()) == []
    store.load([otlp.traces(otlp.span(11))])

    assert [first, *spans] == list(store.spans())[:10]
