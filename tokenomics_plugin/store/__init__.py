"""Traces, logs and metrics in one DuckDB file: `TraceStore`, and what goes in and comes out.

Tables follow the OpenTelemetry Collector's ClickHouse exporter (`SCHEMA`).
"""

from tokenomics_plugin.store.content import CallContent
from tokenomics_plugin.store.garbage import collect_rarely
from tokenomics_plugin.store.importing import BadLine, ImportResult, import_otlp_json
from tokenomics_plugin.store.payload import LoadCounts, Payload
from tokenomics_plugin.store.schema import SCHEMA, SCHEMA_VERSION
from tokenomics_plugin.store.trace_store import TraceStore
from tokenomics_plugin.store.validation import check_request, explain

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "BadLine",
    "CallContent",
    "ImportResult",
    "LoadCounts",
    "Payload",
    "TraceStore",
    "check_request",
    "collect_rarely",
    "explain",
    "import_otlp_json",
]
