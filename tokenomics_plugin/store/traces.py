"""From trace requests to rows of `otel_traces`.

The loop over spans is what a collector spends its time on: it makes one tuple a span, and everything else
is done a column at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa

from tokenomics_plugin.store.attributes import attribute_texts
from tokenomics_plugin.store.batch import Batch
from tokenomics_plugin.store.columns import (
    Column,
    bigints,
    hex_id,
    lists,
    maps,
    storable_time,
    texts,
    times,
)
from tokenomics_plugin.store.typed_columns import TypedColumns
from tokenomics_plugin.store.validation import span_problem

__all__ = ["SpanBatch"]

# The exporter's spelling. A number that the protocol does not know becomes '', as there.
_KINDS: Final = {0: "Unspecified", 1: "Internal", 2: "Server", 3: "Client", 4: "Producer", 5: "Consumer"}
_STATUS_CODES: Final = {0: "Unset", 1: "Ok", 2: "Error"}

# In the order of `_row`.
_COLUMNS: Final[tuple[tuple[str, Column], ...]] = (
    ("Timestamp", times),
    ("TraceId", texts),
    ("SpanId", texts),
    ("ParentSpanId", texts),
    ("TraceState", texts),
    ("SpanName", texts),
    ("SpanKind", texts),
    ("SpanAttributes", maps),
    ("Duration", bigints),
    ("StatusCode", texts),
    ("StatusMessage", texts),
    ("Events.Timestamp", partial(lists, column=times)),
    ("Events.Name", partial(lists, column=texts)),
    ("Events.Attributes", partial(lists, column=maps)),
    ("Links.TraceId", partial(lists, column=texts)),
    ("Links.SpanId", partial(lists, column=texts)),
    ("Links.TraceState", partial(lists, column=texts)),
    ("Links.Attributes", partial(lists, column=maps)),
)
_NAMES: Final = [name for name, _ in _COLUMNS]
_ATTRIBUTES: Final = _NAMES.index("SpanAttributes")
_EVENTS: Final = _NAMES.index("Events.Attributes")
_LINKS: Final = _NAMES.index("Links.Attributes")
_SCOPE_COLUMNS: Final = ("ServiceName", "ResourceAttributes", "ScopeName", "ScopeVersion")


class SpanBatch(Batch):
    """Spans on their way into `otel_traces`."""

    def __init__(self) -> None:
        super().__init__(_COLUMNS, scope_columns=_SCOPE_COLUMNS)
        self._typed = TypedColumns()

    def add(self, request: Any) -> None:
        """Take the spans of an `ExportTraceServiceRequest`."""
        for of_resource in request.resource_spans:
            for of_scope in of_resource.scope_spans:
                self._begin_scope(of_resource, of_scope)
                self._add_spans(of_scope.spans)

    def _add_spans(self, spans: Iterable[Any]) -> None:
        for span in spans:
            if self._is_new(span.trace_id + span.span_id, span_problem(span)):
                row = _row(span)
                self._typed.add(row[_ATTRIBUTES])
                self._append(row, values=_values(row))

    def _more_columns(self) -> dict[str, pa.Array]:
        typed, self._typed = self._typed, TypedColumns()
        return typed.columns()


def _row(span: Any) -> tuple[Any, ...]:
    start, status = span.start_time_unix_nano, span.status
    return (
        start,
        span.trace_id.hex(),
        span.span_id.hex(),
        hex_id(span.parent_span_id, 8),
        span.trace_state,
        span.name,
        _KINDS.get(span.kind, ""),
        attribute_texts(span.attributes),
        span.end_time_unix_nano - start,
        _STATUS_CODES.get(status.code, ""),
        status.message,
        *_events(span.events),
        *_links(span.links),
    )


def _values(row: tuple[Any, ...]) -> int:
    events, links = row[_EVENTS], row[_LINKS]
    return len(row[_ATTRIBUTES]) + len(events) + sum(map(len, events)) + len(links) + sum(map(len, links))


def _events(events: Sequence[Any]) -> tuple[Sequence[Any], ...]:
    if not len(events):
        return (), (), ()
    return (
        [storable_time(event.time_unix_nano) for event in events],
        [event.name for event in events],
        [attribute_texts(event.attributes) for event in events],
    )


def _links(links: Sequence[Any]) -> tuple[Sequence[Any], ...]:
    if not len(links):
        return (), (), (), ()
    return (
        [hex_id(link.trace_id, 16) for link in links],
        [hex_id(link.span_id, 8) for link in links],
        [link.trace_state for link in links],
        [attribute_texts(link.attributes) for link in links],
    )
