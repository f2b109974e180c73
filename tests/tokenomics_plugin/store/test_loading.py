from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.otlp_json import Signal, parse_protobuf
from tokenomics_plugin.store import LoadCounts, Payload, TraceStore, check_request, explain, trace_store

TABLES = ("otel_traces", "otel_logs", "otel_metrics_gauge")


def contents(path: Path) -> list[list[tuple[Any, ...]]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in TABLES]


def payload(otlp: Any, signal: Signal, items: list[int]) -> Payload:
    """A request with one item a number; equal numbers are equal items."""
    match signal:
        case Signal.TRACES:
            return otlp.traces(*(otlp.span(item, name=f"span {item}") for item in items))  # type: ignore[no-any-return]
        case Signal.LOGS:
            return otlp.logs(*(otlp.log(body=otlp.value(item)) for item in items))  # type: ignore[no-any-return]
        case Signal.METRICS:
            points = [NumberDataPoint(as_int=item, time_unix_nano=item) for item in items]
            return otlp.metrics(Metric(name="m", gauge=Gauge(data_points=points)))  # type: ignore[no-any-return]


PAYLOADS = st.tuples(st.sampled_from(Signal), st.lists(st.integers(1, 6), max_size=6))


@settings(max_examples=15, deadline=None)
@given(loads=st.lists(st.lists(PAYLOADS, max_size=4), max_size=4), rows_an_insert=st.integers(1, 8))
def test_however_items_are_split_repeated_and_ordered_the_store_is_the_same(
    otlp: Any, loads: list[list[tuple[Signal, list[int]]]], rows_an_insert: int
) -> None:
    sent = [(signal, item) for load in loads for signal, items in load for item in items]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        with TraceStore(Path(folder, "once")) as once:
            once.load(payload(otlp, signal, [item]) for signal, item in sorted(set(sent)))
        patch.setattr(trace_store, "_INSERT_ROWS", rows_an_insert)
        with TraceStore(Path(folder, "often")) as often:
            counts = sum(
                (often.load(payload(otlp, *request) for request in load) for load in loads), start=LoadCounts()
            )

        assert contents(Path(folder, "often")) == contents(Path(folder, "once"))

    new = {signal: len({item for of, item in sent if of is signal}) for signal in Signal}
    assert counts == LoadCounts(
        spans=new[Signal.TRACES],
        logs=new[Signal.LOGS],
        metric_points=new[Signal.METRICS],
        duplicates=len(sent) - sum(new.values()),
    )


def test_spans_with_the_same_span_id_in_two_traces_are_two_spans(store: TraceStore, otlp: Any) -> None:
    assert store.load([otlp.traces(otlp.span(1, trace=1), otlp.span(1, trace=2))]).spans == 2


def test_of_two_different_spans_with_the_same_ids_the_first_is_kept(store: TraceStore, otlp: Any) -> None:
    store.load([otlp.traces(otlp.span(name="first"))])

    counts = store.load([otlp.traces(otlp.span(name="second"))])

    assert counts == LoadCounts(duplicates=1)
    assert [span.name for span in store.spans()] == ["first"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"trace_id": b""}, "trace_id must be 16 bytes, not all zero", id="no-trace-id"),
        pytest.param({"trace_id": bytes(16)}, "trace_id must be 16 bytes, not all zero", id="zero-trace-id"),
        pytest.param({"trace_id": b"\1" * 17}, "trace_id must be 16 bytes, not all zero", id="long-trace-id"),
        pytest.param({"span_id": b""}, "span_id must be 8 bytes, not all zero", id="no-span-id"),
        pytest.param({"span_id": bytes(8)}, "span_id must be 8 bytes, not all zero", id="zero-span-id"),
        pytest.param({"parent_span_id": b"\1"}, "parent_span_id must be 8 bytes", id="short-parent"),
        pytest.param({"events": [Span.Event()] * 65_537}, "not have more than 65536 events", id="too-many-events"),
        pytest.param({"links": [Span.Link()] * 65_537}, "not have more than 65536 events", id="too-many-links"),
        pytest.param({"start_time_unix_nano": 2**63 - 1}, "is after 2262-04-11", id="start-too-late"),
        pytest.param({"end_time_unix_nano": 2**64 - 1}, "is after 2262-04-11", id="end-too-late"),
    ],
)
def test_a_span_without_a_place_in_the_table_is_rejected_and_the_others_of_its_request_are_kept(
    store: TraceStore, otlp: Any, change: dict[str, Any], rule: str
) -> None:
    request = otlp.traces(otlp.span(1), otlp.span(2, **change), otlp.span(3))

    counts = store.load([request])

    assert counts.spans == 2
    [(reason, count)] = counts.rejected.items()
    assert rule in reason
    assert count == 1
    assert check_request(Signal.TRACES, parse_protobuf(request.body, Signal.TRACES)) == counts.rejected


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.METRICS])
def test_logs_and_points_after_the_last_time_are_rejected(store: TraceStore, otlp: Any, signal: Signal) -> None:
    late = 2**63 - 1
    request = {
        Signal.LOGS: otlp.logs(otlp.log(time_unix_nano=late), otlp.log()),
        Signal.METRICS: otlp.metrics(
            Metric(gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=late), NumberDataPoint()]))
        ),
    }[signal]

    counts = store.load([request])

    assert counts.logs + counts.metric_points == 1
    assert counts.rejected.total() == 1
    assert check_request(signal, parse_protobuf(request.body, signal)) == counts.rejected


def test_rejections_are_explained_in_one_sentence(otlp: Any) -> None:
    request = otlp.traces(otlp.span(1), otlp.span(2, trace_id=b""), otlp.span(3, trace_id=b"x"))
    rejected = check_request(Signal.TRACES, parse_protobuf(request.body, Signal.TRACES))

    assert explain(rejected) == "2 rejected: trace_id must be 16 bytes, not all zero"


def test_a_request_that_cannot_be_parsed_is_counted_and_the_others_are_kept(store: TraceStore, otlp: Any) -> None:
    counts = store.load([Payload(Signal.TRACES, b"\xff\xff"), otlp.traces(otlp.span())])

    assert counts.spans == 1
    assert counts.rejected.total() == 1


def test_a_load_that_fails_leaves_nothing_behind(store: TraceStore, otlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_store, "_INSERT_ROWS", 1)

    def payloads() -> Any:
        yield otlp.traces(otlp.span(1))
        raise OSError("the journal cannot be read")

    with pytest.raises(OSError, match="the journal"):
        store.load(payloads())

    assert list(store.spans()) == []
    assert store.load([otlp.traces(otlp.span(1))]).spans == 1


def test_a_store_that_is_open_for_reading_refuses_to_load(db: Path, otlp: Any) -> None:
    TraceStore(db).close()

    with TraceStore(db, read_only=True) as store, pytest.raises(StoreError, match=r"traces\.duckdb: .*read-only"):
        store.load([otlp.traces(otlp.span())])


def test_threads_that_load_the_same_spans_store_them_once(db: Path, otlp: Any) -> None:
    request = otlp.traces(*(otlp.span(number) for number in range(1, 501)))
    stores = [TraceStore(db) for _ in range(4)]
    threads = [threading.Thread(target=store.load, args=([request],)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(list(stores[0].spans())) == 500
    for store in stores:
        store.close()


def test_every_span_keeps_its_resource_across_chunks(store: TraceStore, otlp: Any) -> None:
    services = ["a", "b", "nothing", "c"]
    sizes = {"a": 700, "b": 2_100, "nothing": 0, "c": 700}
    requests = [
        otlp.traces(
            *(otlp.span(number, trace=trace) for number in range(1, sizes[service] + 1)),
            resource={"service.name": service},
        )
        for trace, service in enumerate(services, start=1)
    ]

    store.load(requests)

    found = {(int(span.trace_id, 16), span.service_name) for span in store.spans()}
    assert found == {(1, "a"), (2, "b"), (4, "c")}


def test_requests_larger_than_a_chunk_are_stored_whole(store: TraceStore, otlp: Any) -> None:
    spans = [otlp.span(number, name=str(number)) for number in range(1, 5_001)]

    assert store.load([otlp.traces(*spans[:10]), otlp.traces(*spans)]) == LoadCounts(spans=5_000, duplicates=10)

    assert {span.name for span in store.spans()} == {span.name for span in spans}


def test_small_requests_that_unpack_to_more_than_the_memory_limit_are_stored(db: Path, otlp: Any) -> None:
    events = [Span.Event()] * 20_000  # 2 bytes each on the wire, 40 in the database
    request = otlp.traces(*(otlp.span(number, events=events) for number in range(1, 21)))

    with TraceStore(db, memory_limit_mib=32) as store:
        assert store.load([request]).spans == 20
        assert store.load([request, otlp.traces(otlp.span(21))]) == LoadCounts(spans=1, duplicates=20)
