"""The OpenTelemetry SDK's own exporters and OTLP/JSON, for every signal."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tokenomics_plugin.collector import Addresses
from tokenomics_plugin.otlp_json import Signal

Post = Callable[..., tuple[int, dict[str, str], bytes]]
Start = Callable[..., Addresses]


HTTP = {Signal.TRACES: HttpSpanExporter, Signal.LOGS: HttpLogExporter, Signal.METRICS: HttpMetricExporter}
GRPC = {Signal.TRACES: GrpcSpanExporter, Signal.LOGS: GrpcLogExporter, Signal.METRICS: GrpcMetricExporter}


def http_exporter(addresses: Addresses, signal: Signal, **options: Any) -> Any:
    return HTTP[signal](f"http://{addresses.http}/v1/{signal}", headers={"Authorization": "Bearer secret"}, **options)


def grpc_exporter(addresses: Addresses, signal: Signal, **options: Any) -> Any:
    return GRPC[signal](addresses.grpc, insecure=True, headers={"authorization": "Bearer secret"}, **options)


def send_span(exporter: Any) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.get_tracer("test").start_span("name").end()
    provider.shutdown()


def send_log(exporter: Any) -> None:
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    provider.get_logger("test").emit(event_name="name")
    provider.shutdown()


def send_metric(exporter: Any) -> None:
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    provider.get_meter("test").create_counter("name").add(3)
    provider.shutdown()


SEND = {Signal.TRACES: send_span, Signal.LOGS: send_log, Signal.METRICS: send_metric}
STORED = {
    Signal.TRACES: "SELECT SpanName FROM otel_traces",
    Signal.LOGS: "SELECT EventName FROM otel_logs",
    Signal.METRICS: "SELECT MetricName FROM otel_metrics_sum",
}


def stored(db: Path, signal: Signal) -> list[tuple[str]]:
    with duckdb.connect(str(db), read_only=True) as store:
        rows: list[tuple[str]] = store.execute(STORED[signal]).fetchall()
    return rows


@pytest.mark.parametrize(
    "make_exporter",
    [
        pytest.param(http_exporter, id="http"),
        pytest.param(partial(http_exporter, compression=HttpCompression.Gzip), id="http-gzip"),
        pytest.param(partial(http_exporter, compression=HttpCompression.Deflate), id="http-deflate"),
        pytest.param(grpc_exporter, id="grpc"),
        pytest.param(partial(grpc_exporter, compression=grpc.Compression.Gzip), id="grpc-gzip"),
    ],
)
def test_the_sdk_s_exporters_reach_the_store(
    start: Start, db: Path, running: ExitStack, make_exporter: Callable[..., Any]
) -> None:
    addresses = start(token="secret")
    for signal in Signal:
        SEND[signal](make_exporter(addresses, signal))
    running.close()
    assert {signal: stored(db, signal) for signal in Signal} == {signal: [("name",)] for signal in Signal}


JSON = {
    Signal.TRACES: {
        "resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "a" * 32, "spanId": "b" * 16, "name": "name"}]}]}]
    },
    Signal.LOGS: {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "name"}]}]}]},
    Signal.METRICS: {
        "resourceMetrics": [
            {"scopeMetrics": [{"metrics": [{"name": "name", "sum": {"dataPoints": [{"asInt": "3"}]}}]}]}
        ]
    },
}


def test_json_reaches_the_store(start: Start, post: Post, db: Path, running: ExitStack) -> None:
    addresses = start()
    for signal in Signal:
        body = json.dumps(JSON[signal]).encode()
        status, _, answer = post(addresses, body, path=f"/v1/{signal}", content_type="application/json")
        assert (status, json.loads(answer)) == (200, {})
    running.close()
    assert {signal: stored(db, signal) for signal in Signal} == {signal: [("name",)] for signal in Signal}


REJECTED = {
    Signal.TRACES: {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "no ids"}, {"name": "neither"}]}]}]},
    Signal.LOGS: {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(2**64 - 1)}] * 2}]}]},
    Signal.METRICS: {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {"metrics": [{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": str(2**64 - 1)}] * 2}}]}
                ]
            }
        ]
    },
}


COUNT_FIELD = {
    Signal.TRACES: "rejectedSpans",
    Signal.LOGS: "rejectedLogRecords",
    Signal.METRICS: "rejectedDataPoints",
}


def test_items_that_cannot_be_stored_are_counted_with_a_reason(start: Start, post: Post) -> None:
    addresses = start()
    for signal in Signal:
        body = json.dumps(REJECTED[signal]).encode()
        status, _, answer = post(addresses, body, path=f"/v1/{signal}", content_type="application/json")
        partial_success = json.loads(answer)["partialSuccess"]
        assert (status, partial_success[COUNT_FIELD[signal]]) == (200, "2")
        assert "2 rejected: " in partial_success["errorMessage"]
