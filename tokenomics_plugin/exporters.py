"""OTLP as JSON lines in a file: the format of the OpenTelemetry Collector's file exporter.

Several processes may append to one file: a line is written under a file lock, and a line that a killed
process left torn is closed with a newline first, so that it spoils nothing but itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tokenomics_plugin.otlp_json import to_json

__all__ = ["OtlpJsonFileLogExporter", "OtlpJsonFileMetricExporter", "OtlpJsonFileSpanExporter"]

_LOGGER = logging.getLogger(__name__)


class OtlpJsonFileSpanExporter(SpanExporter):
    """Appends each batch of spans to a file as one line of OTLP JSON."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = _JsonLinesFile(path)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the batch; FAILURE when the file cannot be written."""
        written = self._file.append(encode_spans(spans))
        return SpanExportResult.SUCCESS if written else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered here."""
        return True


class OtlpJsonFileLogExporter(LogRecordExporter):
    """Appends each batch of log records, events included, to a file as one line of OTLP JSON."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = _JsonLinesFile(path)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Append the batch; FAILURE when the file cannot be written."""
        written = self._file.append(encode_logs(batch))
        return LogRecordExportResult.SUCCESS if written else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing is buffered here."""
        return True

    def shutdown(self) -> None:
        """Nothing is held open."""


class OtlpJsonFileMetricExporter(MetricExporter):
    """Appends each collection of metrics to a file as one line of OTLP JSON."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _JsonLinesFile(path)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Append the collection; FAILURE when the file cannot be written."""
        written = self._file.append(encode_metrics(metrics_data))
        return MetricExportResult.SUCCESS if written else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is buffered here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is held open."""


class _JsonLinesFile:
    """Appends whole lines, whoever else appends at the same time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, request: Message) -> bool:
        """Write one line; whether it is in the file. An exporter must not raise."""
        try:
            with self._path.open("ab+") as file:
                _append_line(file, to_json(request).encode())
        except OSError as error:
            _LOGGER.error("telemetry was not written to %s: %s", self._path, error)
            return False
        return True


def _append_line(file: IO[bytes], line: bytes) -> None:
    # Opened for each batch: the lock is the open file's, and a file that was rotated away is left alone.
    import fcntl  # POSIX only: without file locks there is no safe append, and the import says so

    fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes
    size = file.seek(0, os.SEEK_END)
    torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
    file.write((b"\n" if torn else b"") + line + b"\n")
    file.flush()
