from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)

from tokenomics_plugin.store import LoadCounts, TraceStore

TIMES: dict[str, Any] = {"start_time_unix_nano": 1, "time_unix_nano": 2, "flags": 1}
EXEMPLAR = Exemplar(time_unix_nano=3, as_int=4, span_id=(5).to_bytes(8), trace_id=(6).to_bytes(16))
ALL_OF_UINT64 = 2**64 - 1

METRICS = {
    "otel_metrics_gauge": (
        Metric(gauge=Gauge(data_points=[NumberDataPoint(as_double=0.5, exemplars=[EXEMPLAR], **TIMES)])),
        {"Value": 0.5, "Exemplars.Value": [4.0], "Exemplars.TraceId": [f"{6:032x}"], "Exemplars.SpanId": [f"{5:016x}"]},
    ),
    "otel_metrics_sum": (
        Metric(
            sum=Sum(
                data_points=[NumberDataPoint(as_int=7, **TIMES)],
                aggregation_temporality=AGGREGATION_TEMPORALITY_DELTA,
                is_monotonic=True,
            )
        ),
        {"Value": 7.0, "AggregationTemporality": 1, "IsMonotonic": True, "Exemplars.Value": []},
    ),
    "otel_metrics_histogram": (
        Metric(
            histogram=Histogram(
                data_points=[
                    HistogramDataPoint(
                        count=ALL_OF_UINT64, sum=1.5, bucket_counts=[1, ALL_OF_UINT64], explicit_bounds=[0.1], **TIMES
                    )
                ]
            )
        ),
        {
            "Count": ALL_OF_UINT64,
            "Sum": 1.5,
            "BucketCounts": [1, ALL_OF_UINT64],
            "ExplicitBounds": [0.1],
            "Min": None,
            "Max": None,
        },
    ),
    "otel_metrics_exponential_histogram": (
        Metric(
            exponential_histogram=ExponentialHistogram(
                data_points=[
                    ExponentialHistogramDataPoint(
                        count=3,
                        scale=-2,
                        zero_count=1,
                        positive=ExponentialHistogramDataPoint.Buckets(offset=-1, bucket_counts=[1]),
                        negative=ExponentialHistogramDataPoint.Buckets(offset=4, bucket_counts=[0, 1]),
                        min=-9,
                        max=0,
                        **TIMES,
                    )
                ]
            )
        ),
        {
            "Count": 3,
            "Sum": None,
            "Scale": -2,
            "ZeroCount": 1,
            "PositiveOffset": -1,
            "PositiveBucketCounts": [1],
            "NegativeOffset": 4,
            "NegativeBucketCounts": [0, 1],
            "Min": -9.0,
            "Max": 0.0,
        },
    ),
    "otel_metrics_summary": (
        Metric(
            summary=Summary(
                data_points=[
                    SummaryDataPoint(
                        count=2,
                        sum=3.0,
                        quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=1.0)],
                        **TIMES,
                    )
                ]
            )
        ),
        {"Count": 2, "Sum": 3.0, "ValueAtQuantiles.Quantile": [0.5], "ValueAtQuantiles.Value": [1.0]},
    ),
}


@pytest.mark.parametrize(("table", "metric", "expected"), [(table, *case) for table, case in METRICS.items()])
def test_columns_are_those_of_the_clickhouse_exporter(
    db: Path, rows: Callable[[str], Any], otlp: Any, table: str, metric: Metric, expected: dict[str, Any]
) -> None:
    metric.name, metric.description, metric.unit = "tokens", "what it counts", "{token}"
    with TraceStore(db) as store:
        assert store.load([otlp.metrics(metric)]) == LoadCounts(metric_points=1)

    columns = ", ".join(f'"{name}"' for name in expected)
    [row] = rows(f"""
        SELECT ServiceName, MetricName, MetricDescription, MetricUnit, epoch_ns(StartTimeUnix), epoch_ns(TimeUnix),
            Flags, {columns} FROM {table}
    """)
    assert row == ("agent", "tokens", "what it counts", "{token}", 1, 2, 1, *expected.values())


def test_a_point_without_a_value_has_none(db: Path, rows: Callable[[str], Any], otlp: Any) -> None:
    with TraceStore(db) as store:
        store.load([otlp.metrics(Metric(gauge=Gauge(data_points=[NumberDataPoint()])))])

    assert rows("SELECT Value FROM otel_metrics_gauge") == [(None,)]


def test_an_integer_too_large_for_a_double_is_rounded_as_the_exporter_does(
    db: Path, rows: Callable[[str], Any], otlp: Any
) -> None:
    with TraceStore(db) as store:
        store.load([otlp.metrics(Metric(gauge=Gauge(data_points=[NumberDataPoint(as_int=2**63 - 1)])))])

    assert rows("SELECT Value FROM otel_metrics_gauge") == [(2.0**63,)]


def test_a_metric_without_data_is_no_point(store: TraceStore, otlp: Any) -> None:
    assert store.load([otlp.metrics(Metric(name="empty"))]) == LoadCounts()


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"unit": "s"}, {"gauge": Gauge(data_points=[NumberDataPoint(as_int=2)])}]
)
def test_points_that_differ_in_anything_are_different_points(
    store: TraceStore, otlp: Any, change: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"name": "one", "gauge": Gauge(data_points=[NumberDataPoint(as_int=1)])}

    assert store.load([otlp.metrics(Metric(**fields), Metric(**fields | change))]) == LoadCounts(metric_points=2)
