"""Requests on their way into the tables: parsed, sorted by table, and held until there is enough to insert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tokenomics_plugin.errors import MalformedOtlpError
from tokenomics_plugin.otlp_json import Signal, parse_protobuf
from tokenomics_plugin.store.batch import Batch
from tokenomics_plugin.store.logs import LogBatch
from tokenomics_plugin.store.metrics import METRIC_TABLES, PointBatch
from tokenomics_plugin.store.payload import Payload
from tokenomics_plugin.store.traces import SpanBatch

__all__ = ["Staging"]


class Staging:
    """One batch for each table."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._malformed: Counter[str] = Counter()
        self._spans = SpanBatch()
        self._logs = LogBatch()
        self._points = {kind: PointBatch(kind) for kind in METRIC_TABLES}

    def __len__(self) -> int:
        return sum(len(batch) for _, batch in self.batches())

    @property
    def duplicates(self) -> int:
        """Items left out because a batch has them already."""
        return sum(batch.duplicates for _, batch in self.batches())

    @property
    def rejected(self) -> Counter[str]:
        """Why items are not in any batch, and how many; a request that cannot be parsed counts as one."""
        return sum((batch.rejected for _, batch in self.batches()), self._malformed)

    def batches(self) -> Iterator[tuple[str, Batch]]:
        """Name of each table, with what goes into it."""
        yield "otel_traces", self._spans
        yield "otel_logs", self._logs
        for kind, batch in self._points.items():
            yield METRIC_TABLES[kind], batch

    def add(self, payload: Payload) -> None:
        """Take the items of a request; what is wrong with some is counted and does not harm the others."""
        self.size_bytes += len(payload.body)
        try:
            request: Any = parse_protobuf(payload.body, payload.signal)
        except MalformedOtlpError as error:
            self._malformed[str(error)] += 1
            return
        match payload.signal:
            case Signal.TRACES:
                self._spans.add(request)
            case Signal.LOGS:
                self._logs.add(request)
            case Signal.METRICS:
                self._add_metrics(request)

    def _add_metrics(self, request: Any) -> None:
        for of_resource in request.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    if kind := metric.WhichOneof("data"):
                        self._points[kind].add(of_resource, of_scope, metric, getattr(metric, kind))
