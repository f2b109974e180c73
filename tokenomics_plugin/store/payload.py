"""What goes into a store, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tokenomics_plugin.otlp_json import Signal

__all__ = ["LoadCounts", "Payload"]


class Payload(NamedTuple):
    """One OTLP export request, still in its binary encoding."""

    signal: Signal
    """What it carries."""
    body: bytes
    """Serialized `Export*ServiceRequest`."""


@dataclass(frozen=True, kw_only=True)
class LoadCounts:
    """What `TraceStore.load` did with the items of some requests; each item is counted once."""

    spans: int = 0
    """Spans that were new."""
    logs: int = 0
    """Log records that were new."""
    metric_points: int = 0
    """Metric data points that were new."""
    duplicates: int = 0
    """Items of any kind that the store had already, or that came twice in the same requests."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Why items were not stored -> how many."""

    def __add__(self, other: LoadCounts) -> LoadCounts:
        return LoadCounts(
            spans=self.spans + other.spans,
            logs=self.logs + other.logs,
            metric_points=self.metric_points + other.metric_points,
            duplicates=self.duplicates + other.duplicates,
            rejected=self.rejected + other.rejected,
        )
