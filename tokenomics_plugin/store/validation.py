"""Which items of a request a store refuses, and why.

Only what has no place in the tables is refused: ids that OpenTelemetry calls invalid, times that do not
fit 64 signed bits of nanoseconds, and spans with events by the ten thousands. The collector asks before it
acknowledges, so that the sender hears of it in `partial_success`; loading asks again, so both always agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store.columns import MAX_UNIX_NANO

__all__ = ["check_request", "explain", "log_problem", "metric_points", "point_problem", "span_problem"]

_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_MAX_PARTS: Final = 65_536  # 500 times the SDKs' own limit; a span is held in memory whole
_TIME_RULE: Final = f"is after 2262-04-11 ({MAX_UNIX_NANO} ns), the latest time that can be stored"


def check_request(signal: Signal, request: Message) -> Counter[str]:
    """Why items of a request are refused, and how many for each reason; empty when all are accepted."""
    problems = _CHECKS[signal](request)
    return Counter(problem for problem in problems if problem is not None)


def explain(rejected: Counter[str]) -> str:
    """The reasons in one sentence, for `partial_success.error_message`; empty when there are none."""
    return "; ".join(f"{count} rejected: {reason}" for reason, count in rejected.most_common())


def span_problem(span: Any) -> str | None:
    """Why a `Span` cannot be stored; `None` when it can.

    Source: opentelemetry-proto, `trace.proto`: an id of all zeroes or of another length is invalid.
    """
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        return "trace_id must be 16 bytes, not all zero"
    if len(span_id) != 8 or span_id == _NO_SPAN:
        return "span_id must be 8 bytes, not all zero"
    if len(span.parent_span_id) not in (0, 8):
        return "parent_span_id must be 8 bytes, or empty for a root"
    if len(span.events) > _MAX_PARTS or len(span.links) > _MAX_PARTS:
        return f"a span must not have more than {_MAX_PARTS} events or links"
    if span.start_time_unix_nano > MAX_UNIX_NANO or span.end_time_unix_nano > MAX_UNIX_NANO:
        return f"start_time_unix_nano or end_time_unix_nano {_TIME_RULE}"
    return None


def log_problem(record: Any) -> str | None:
    """Why a `LogRecord` cannot be stored; `None` when it can."""
    if record.time_unix_nano > MAX_UNIX_NANO or record.observed_time_unix_nano > MAX_UNIX_NANO:
        return f"time_unix_nano or observed_time_unix_nano {_TIME_RULE}"
    return None


def point_problem(point: Any) -> str | None:
    """Why a data point of any metric cannot be stored; `None` when it can."""
    if point.time_unix_nano > MAX_UNIX_NANO or point.start_time_unix_nano > MAX_UNIX_NANO:
        return f"time_unix_nano or start_time_unix_nano {_TIME_RULE}"
    return None


def metric_points(metric: Any) -> Any:
    """The data points of a `Metric`, whatever its kind; empty when it has none."""
    kind = metric.WhichOneof("data")
    return () if kind is None else getattr(metric, kind).data_points


def _span_problems(request: Any) -> Iterator[str | None]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from map(span_problem, scope.spans)


def _log_problems(request: Any) -> Iterator[str | None]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            yield from map(log_problem, scope.log_records)


def _point_problems(request: Any) -> Iterator[str | None]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from map(point_problem, metric_points(metric))


_CHECKS: Final = {Signal.TRACES: _span_problems, Signal.LOGS: _log_problems, Signal.METRICS: _point_problems}
