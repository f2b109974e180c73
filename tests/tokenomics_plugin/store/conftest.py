"""Requests, built in a line, and a store to put them into."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, TraceStore


class Otlp:
    """Builds OTLP messages from Python values."""

    @staticmethod
    def value(value: Any) -> AnyValue:
        match value:
            case None:
                return AnyValue()
            case bool():
                return AnyValue(bool_value=value)
            case int():
                return AnyValue(int_value=value)
            case float():
                return AnyValue(double_value=value)
            case bytes():
                return AnyValue(bytes_value=value)
            case list():
                return AnyValue(array_value=ArrayValue(values=map(Otlp.value, value)))
            case dict():
                return AnyValue(kvlist_value=KeyValueList(values=Otlp.attributes(value)))
        return AnyValue(string_value=value)

    @staticmethod
    def attributes(attributes: Mapping[str, Any]) -> list[KeyValue]:
        return [KeyValue(key=key, value=Otlp.value(value)) for key, value in attributes.items()]

    @staticmethod
    def span(number: int = 1, *, trace: int = 1, attributes: Mapping[str, Any] | None = None, **fields: Any) -> Span:
        """A span whose ids are small numbers."""
        ids: dict[str, Any] = {"trace_id": trace.to_bytes(16), "span_id": number.to_bytes(8)}
        return Span(**ids | {"start_time_unix_nano": 1_000} | fields, attributes=Otlp.attributes(attributes or {}))

    @staticmethod
    def traces(*spans: Span, resource: Mapping[str, Any] | None = None) -> Payload:
        of_scope = ScopeSpans(scope=InstrumentationScope(name="test", version="1"), spans=spans)
        of_resource = ResourceSpans(resource=Otlp.resource(resource), scope_spans=[of_scope])
        return Payload(Signal.TRACES, ExportTraceServiceRequest(resource_spans=[of_resource]).SerializeToString())

    @staticmethod
    def log(*, attributes: Mapping[str, Any] | None = None, **fields: Any) -> LogRecord:
        return LogRecord(**{"time_unix_nano": 1_000} | fields, attributes=Otlp.attributes(attributes or {}))

    @staticmethod
    def logs(*records: LogRecord, resource: Mapping[str, Any] | None = None) -> Payload:
        of_resource = ResourceLogs(resource=Otlp.resource(resource), scope_logs=[ScopeLogs(log_records=records)])
        return Payload(Signal.LOGS, ExportLogsServiceRequest(resource_logs=[of_resource]).SerializeToString())

    @staticmethod
    def metrics(*metrics: Metric, resource: Mapping[str, Any] | None = None) -> Payload:
        of_resource = ResourceMetrics(resource=Otlp.resource(resource), scope_metrics=[ScopeMetrics(metrics=metrics)])
        return Payload(Signal.METRICS, ExportMetricsServiceRequest(resource_metrics=[of_resource]).SerializeToString())

    @staticmethod
    def resource(attributes: Mapping[str, Any] | None) -> Resource:
        return Resource(attributes=Otlp.attributes(attributes or {"service.name": "agent"}))


@pytest.fixture(scope="session")
def otlp() -> type[Otlp]:
    return Otlp


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "traces.duckdb"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy, which takes less time than making one."""
    path = tmp_path_factory.mktemp("empty") / "traces.duckdb"
    TraceStore(path).close()
    return path


@pytest.fixture
def store(db: Path, empty_store: Path) -> Iterator[TraceStore]:
    shutil.copyfile(empty_store, db)
    with TraceStore(db) as store:
        yield store


@pytest.fixture
def rows(db: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    """What a query finds in the file, as anybody with DuckDB would ask; the store must be closed."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(db), read_only=True) as connection:
            return connection.execute(query).fetchall()

    return rows
