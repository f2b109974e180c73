from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_WARN

from tokenomics_plugin.store import LoadCounts, TraceStore


def test_columns_are_those_of_the_clickhouse_exporter(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    record = otlp.log(
        trace_id=(1).to_bytes(16),
        span_id=(2).to_bytes(8),
        flags=0x101,  # of the 32 bits, 8 are W3C's trace flags
        severity_text="WARN",
        severity_number=SEVERITY_NUMBER_WARN,
        body=otlp.value({"a": [1]}),
        event_name="happened",
        attributes={"k": "v"},
    )
    with TraceStore(db) as store:
        store.load([otlp.logs(record)])

    assert rows("""
        SELECT epoch_ns(Timestamp), TraceId, SpanId, TraceFlags, SeverityText, SeverityNumber, ServiceName, Body,
            ResourceAttributes, LogAttributes, EventName FROM otel_logs
    """) == [
        (
            *(1_000, f"{1:032x}", f"{2:016x}", 1, "WARN", 13, "agent", '{"a":[1]}'),
            *({"service.name": "agent"}, {"k": "v"}, "happened"),
        )
    ]


def test_a_record_without_a_time_happened_when_it_was_observed(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    with TraceStore(db) as store:
        store.load([otlp.logs(otlp.log(time_unix_nano=0, observed_time_unix_nano=5))])

    assert rows("SELECT epoch_ns(Timestamp) FROM otel_logs") == [(5,)]


def test_invalid_ids_mean_that_a_record_belongs_to_no_trace(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    with TraceStore(db) as store:
        store.load([otlp.logs(otlp.log(trace_id=b"short", span_id=bytes(8)))])

    assert rows("SELECT TraceId, SpanId FROM otel_logs") == [("", "")]


@pytest.mark.parametrize("number", [-1, 2**31 - 1])
def test_any_severity_is_kept(db: Path, rows: Callable[[str], Any], otlp: Any, number: int) -> None:
    with TraceStore(db) as store:
        store.load([otlp.logs(otlp.log(severity_number=number))])

    assert rows("SELECT SeverityNumber FROM otel_logs") == [(number,)]


def test_the_same_record_of_another_service_is_another_record(store: TraceStore, otlp: Any) -> None:
    one, other = otlp.logs(otlp.log()), otlp.logs(otlp.log(), resource={"service.name": "other"})

    assert store.load([one, other]) == LoadCounts(logs=2)
