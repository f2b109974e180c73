"""From metric requests to rows of the five `otel_metrics_*` tables, one for each kind of metric.

A data point has no id either: equal points of equal metrics count as one that was delivered twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from functools import partial
from typing import Any, Final, NamedTuple

from tokenomics_plugin.store.attributes import attribute_texts
from tokenomics_plugin.store.batch import Batch
from tokenomics_plugin.store.columns import (
    Column,
    booleans,
    counts,
    doubles,
    hex_id,
    integers,
    lists,
    maps,
    storable_time,
    texts,
    times,
    unsigned,
)
from tokenomics_plugin.store.content_key import ContentKeys
from tokenomics_plugin.store.validation import point_problem

__all__ = ["METRIC_TABLES", "PointBatch"]

METRIC_TABLES: Final[Mapping[str, str]] = {
    "gauge": "otel_metrics_gauge",
    "sum": "otel_metrics_sum",
    "histogram": "otel_metrics_histogram",
    "exponential_histogram": "otel_metrics_exponential_histogram",
    "summary": "otel_metrics_summary",
}
"""Field of `Metric.data` -> table of its points."""

_SCOPE_COLUMNS: Final = (
    "ResourceAttributes",
    "ResourceSchemaUrl",
    "ScopeName",
    "ScopeVersion",
    "ScopeAttributes",
    "ScopeDroppedAttrCount",
    "ScopeSchemaUrl",
    "ServiceName",
)


class _Field(NamedTuple):
    column: str
    make: Column
    read: Callable[[Any, Any, Any], Any]
    """Value for a `Metric`, its `data` and one of the data's points."""


def _attribute(name: str) -> Callable[[Any, Any, Any], Any]:
    """Reads a field of the point as it is."""
    return lambda _metric, _data, point: getattr(point, name)


def _optional(name: str) -> Callable[[Any, Any, Any], Any]:
    return lambda _metric, _data, point: getattr(point, name) if point.HasField(name) else None


def _of_exemplars(read: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda _metric, _data, point: [read(exemplar) for exemplar in point.exemplars]


def _number(item: Any) -> float | None:
    kind = item.WhichOneof("value")
    return None if kind is None else float(getattr(item, kind))


_EVERY_POINT: Final = (
    _Field("MetricName", texts, lambda metric, _data, _point: metric.name),
    _Field("MetricDescription", texts, lambda metric, _data, _point: metric.description),
    _Field("MetricUnit", texts, lambda metric, _data, _point: metric.unit),
    _Field("Attributes", maps, lambda _metric, _data, point: attribute_texts(point.attributes)),
    _Field("StartTimeUnix", times, _attribute("start_time_unix_nano")),
    _Field("TimeUnix", times, _attribute("time_unix_nano")),
    _Field("Flags", unsigned, _attribute("flags")),
)
_EXEMPLARS: Final = (
    _Field(
        "Exemplars.FilteredAttributes",
        partial(lists, column=maps),
        _of_exemplars(lambda exemplar: attribute_texts(exemplar.filtered_attributes)),
    ),
    _Field(
        "Exemplars.TimeUnix",
        partial(lists, column=times),
        _of_exemplars(lambda exemplar: storable_time(exemplar.time_unix_nano)),
    ),
    _Field("Exemplars.Value", partial(lists, column=doubles), _of_exemplars(_number)),
    _Field(
        "Exemplars.SpanId", partial(lists, column=texts), _of_exemplars(lambda exemplar: hex_id(exemplar.span_id, 8))
    ),
    _Field(
        "Exemplars.TraceId", partial(lists, column=texts), _of_exemplars(lambda exemplar: hex_id(exemplar.trace_id, 16))
    ),
)
_VALUE: Final = _Field("Value", doubles, lambda _metric, _data, point: _number(point))
_TEMPORALITY: Final = _Field(
    "AggregationTemporality", integers, lambda _metric, data, _point: data.aggregation_temporality
)
_DISTRIBUTION: Final = (
    _Field("Count", counts, _attribute("count")),
    _Field("Sum", doubles, _optional("sum")),
    _Field("Min", doubles, _optional("min")),
    _Field("Max", doubles, _optional("max")),
    _TEMPORALITY,
)
_FIELDS: Final[Mapping[str, tuple[_Field, ...]]] = {
    "gauge": (_VALUE, *_EXEMPLARS),
    "sum": (
        _VALUE,
        _TEMPORALITY,
        _Field("IsMonotonic", booleans, lambda _metric, data, _point: data.is_monotonic),
        *_EXEMPLARS,
    ),
    "histogram": (
        *_DISTRIBUTION,
        _Field("BucketCounts", partial(lists, column=counts), _attribute("bucket_counts")),
        _Field("ExplicitBounds", partial(lists, column=doubles), _attribute("explicit_bounds")),
        *_EXEMPLARS,
    ),
    "exponential_histogram": (
        *_DISTRIBUTION,
        _Field("Scale", integers, _attribute("scale")),
        _Field("ZeroCount", counts, _attribute("zero_count")),
        _Field("PositiveOffset", integers, lambda _metric, _data, point: point.positive.offset),
        _Field(
            "PositiveBucketCounts",
            partial(lists, column=counts),
            lambda _metric, _data, point: point.positive.bucket_counts,
        ),
        _Field("NegativeOffset", integers, lambda _metric, _data, point: point.negative.offset),
        _Field(
            "NegativeBucketCounts",
            partial(lists, column=counts),
            lambda _metric, _data, point: point.negative.bucket_counts,
        ),
        *_EXEMPLARS,
    ),
    "summary": (
        _Field("Count", counts, _attribute("count")),
        _Field("Sum", doubles, _attribute("sum")),
        _Field(
            "ValueAtQuantiles.Quantile",
            partial(lists, column=doubles),
            lambda _metric, _data, point: [item.quantile for item in point.quantile_values],
        ),
        _Field(
            "ValueAtQuantiles.Value",
            partial(lists, column=doubles),
            lambda _metric, _data, point: [item.value for item in point.quantile_values],
        ),
    ),
}


class PointBatch(Batch):
    """Data points of one kind of metric on their way into that kind's table."""

    def __init__(self, kind: str) -> None:
        self._fields = _EVERY_POINT + _FIELDS[kind]
        columns = [(field.column, field.make) for field in self._fields]
        super().__init__([*columns, ("ContentKey", texts)], scope_columns=_SCOPE_COLUMNS)

    def add(self, of_resource: Any, of_scope: Any, metric: Any, data: Any) -> None:
        """Take the points of a `Metric`, whose `data` is of this kind."""
        keys, described = ContentKeys(of_resource, of_scope), _description(metric, data)
        self._begin_scope(of_resource, of_scope)
        for point in data.data_points:
            key = keys.of(*described, point)
            if self._is_new(key, point_problem(point)):
                row = (*(field.read(metric, data, point) for field in self._fields), key)
                self._append(row, values=sum(len(value) for value in row if isinstance(value, Sized)))


def _description(metric: Any, data: Any) -> tuple[str, ...]:
    temporality, is_monotonic = getattr(data, "aggregation_temporality", 0), getattr(data, "is_monotonic", False)
    return metric.name, metric.description, metric.unit, str(temporality), str(is_monotonic)
