"""Chat logs into a store: each run becomes a trace, its outcome what `record_outcome` would have sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import BinaryIO, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tokenomics_plugin import semconv
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing.blocks import process_keys
from tokenomics_plugin.importing.chat_log import read_run
from tokenomics_plugin.importing.judgement import carrier_span, evaluation_event
from tokenomics_plugin.importing.otlp import key_values, scope
from tokenomics_plugin.importing.run_trace import RunTrace
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store.importing import MAX_LINE_BYTES, ImportResult, Requests, import_lines
from tokenomics_plugin.store.trace_store import TraceStore

__all__ = ["ChatReader", "import_chat"]

_SERVICE: Final = "chat log"


def import_chat(
    store: TraceStore,
    file: BinaryIO,
    *,
    keys: FingerprintKeys | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ImportResult:
    """Load a chat log, one run a line, as `chat_log.schema.json` beside this module says, plain or gzipped.

    A line that breaks a rule is named in the result, and everything else goes in.

    Args:
        store: Where to.
        file: Open for reading bytes; need not be seekable.
        keys: Keys of the fingerprints; `process_keys` by default.
        max_line_bytes: Longest line that is read into memory.

    Raises:
        StoreError: If the store cannot be written; what was loaded until then stays.
    """
    reader = ChatReader(process_keys() if keys is None else keys)
    result = import_lines(store, file, reader.read, max_line_bytes=max_line_bytes)
    return replace(result, notes=reader.notes)


class ChatReader:
    """Turns lines into requests, and counts what a reader of the log should know.

    Args:
        keys: Keys of the fingerprints; a run has that of the period in which it started.
    """

    def __init__(self, keys: FingerprintKeys) -> None:
        self.notes: Counter[str] = Counter()
        """What was read in a way that the log does not say -> how often."""
        self._keys = keys

    def read(self, line: bytes) -> Requests:
        """What one line carries.

        Raises:
            ChatLogError: If the line breaks a rule.
        """
        run = read_run(line)
        trace = RunTrace(run, self._keys, self.notes)
        spans = [*trace.spans()]
        outcome = trace.outcome()
        resource = Resource(attributes=key_values({"service.name": run.agent or _SERVICE}))
        if outcome is None:
            return ((Signal.TRACES, _traces(resource, spans)),)
        judged = {"trace_id": trace.trace_id, "judged": trace.root_id}
        return (
            (Signal.TRACES, _traces(resource, [*spans, carrier_span(outcome, **judged)])),
            (Signal.LOGS, _logs(resource, evaluation_event(outcome, **judged))),
        )


def _traces(resource: Resource, spans: list[Span]) -> ExportTraceServiceRequest:
    of_scope = ScopeSpans(scope=scope("chat"), spans=spans, schema_url=semconv.SCHEMA_URL)
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[of_scope])])


def _logs(resource: Resource, record: LogRecord) -> ExportLogsServiceRequest:
    of_scope = ScopeLogs(scope=scope("chat"), log_records=[record], schema_url=semconv.SCHEMA_URL)
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource, scope_logs=[of_scope])])
