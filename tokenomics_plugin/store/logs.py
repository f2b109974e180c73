"""From log requests to rows of `otel_logs`.

A log record has no id, so its content stands for one. Two records that are equal in everything, time and
resource included, count as one that was delivered twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tokenomics_plugin.store.attributes import attribute_texts, value_text
from tokenomics_plugin.store.batch import Batch
from tokenomics_plugin.store.columns import Column, hex_id, integers, maps, texts, times, unsigned
from tokenomics_plugin.store.content_key import ContentKeys
from tokenomics_plugin.store.validation import log_problem

__all__ = ["LogBatch"]

# In the order of `_row`.
_COLUMNS: Final[tuple[tuple[str, Column], ...]] = (
    ("Timestamp", times),
    ("TraceId", texts),
    ("SpanId", texts),
    ("TraceFlags", unsigned),
    ("SeverityText", texts),
    ("SeverityNumber", integers),
    ("Body", texts),
    ("LogAttributes", maps),
    ("EventName", texts),
    ("ContentKey", texts),
)
_ATTRIBUTES: Final = [name for name, _ in _COLUMNS].index("LogAttributes")
_SCOPE_COLUMNS: Final = (
    "ServiceName",
    "ResourceSchemaUrl",
    "ResourceAttributes",
    "ScopeSchemaUrl",
    "ScopeName",
    "ScopeVersion",
    "ScopeAttributes",
)


class LogBatch(Batch):
    """Log records on their way into `otel_logs`."""

    def __init__(self) -> None:
        super().__init__(_COLUMNS, scope_columns=_SCOPE_COLUMNS)

    def add(self, request: Any) -> None:
        """Take the records of an `ExportLogsServiceRequest`."""
        for of_resource in request.resource_logs:
            for of_scope in of_resource.scope_logs:
                self._begin_scope(of_resource, of_scope)
                self._add_records(of_scope.log_records, ContentKeys(of_resource, of_scope))

    def _add_records(self, records: Iterable[Any], keys: ContentKeys) -> None:
        for record in records:
            key = keys.of(record)
            if self._is_new(key, log_problem(record)):
                row = _row(record, key)
                self._append(row, values=len(row[_ATTRIBUTES]))


def _row(record: Any, key: str) -> tuple[Any, ...]:
    return (
        record.time_unix_nano or record.observed_time_unix_nano,
        hex_id(record.trace_id, 16),
        hex_id(record.span_id, 8),
        record.flags & 0xFF,
        record.severity_text,
        record.severity_number,
        value_text(record.body),
        attribute_texts(record.attributes),
        record.event_name,
        key,
    )
