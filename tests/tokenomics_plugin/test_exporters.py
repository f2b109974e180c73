from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tokenomics_plugin.exporters import OtlpJsonFileLogExporter, OtlpJsonFileMetricExporter, OtlpJsonFileSpanExporter
from tokenomics_plugin.otlp_json import Signal, parse_line

WRITER = textwrap.dedent("""
    import sys
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from tokenomics_plugin.exporters import OtlpJsonFileSpanExporter

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OtlpJsonFileSpanExporter(sys.argv[1])))
    for number in range(100):
        provider.get_tracer("t").start_span(f"{sys.argv[2]}-{number}", attributes={"padding": "x" * 20_000}).end()
""")


def span_names(path: Path) -> list[str]:
    requests: list[Any] = [parse_line(line)[1] for line in path.read_bytes().splitlines()]
    return [
        span.name
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def end_span(path: Path, name: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OtlpJsonFileSpanExporter(path)))
    provider.get_tracer("t").start_span(name).end()
    provider.shutdown()


def test_all_three_signals_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "telemetry.jsonl"
    logs = LoggerProvider()
    logs.add_log_record_processor(SimpleLogRecordProcessor(OtlpJsonFileLogExporter(path)))
    metrics = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OtlpJsonFileMetricExporter(path))])

    end_span(path, "work")
    logs.get_logger("t").emit(LogRecord(event_name="happened", body="it"))
    metrics.get_meter("t").create_counter("calls").add(1)
    logs.shutdown()
    metrics.shutdown()

    assert [parse_line(line)[0] for line in path.read_bytes().splitlines()] == list(Signal)


def test_several_processes_append_without_tearing_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in "abcd"]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4

    assert sorted(span_names(path)) == sorted(f"{name}-{number}" for name in "abcd" for number in range(100))


def test_a_line_torn_by_a_killed_process_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    end_span(path, "first")
    with path.open("ab") as file:
        file.write(b'{"resourceSpans":[{"sco')

    end_span(path, "second")

    lines = path.read_bytes().splitlines()
    assert (len(lines), lines[1]) == (3, b'{"resourceSpans":[{"sco')
    path.write_bytes(lines[0] + b"\n" + lines[2] + b"\n")
    assert span_names(path) == ["first", "second"]


def test_a_file_that_cannot_be_written_fails_the_export_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.mkdir()
    with caplog.at_level(logging.ERROR):
        end_span(path, "lost")

    assert f"telemetry was not written to {path}" in caplog.text
