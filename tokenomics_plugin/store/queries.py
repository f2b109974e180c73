"""All SQL with which reports read a store, on the column names of the Collector's ClickHouse exporter.

It is written so that it can move to ClickHouse. What differs there is said beside each query; for all of
them, the typed columns (`TaskId`, `InputTokens`, …) have to be added to the exporter's table first, such as
`TaskId Nullable(String) MATERIALIZED nullIf(SpanAttributes['tokenomics.task.id'], '')`.
"""

from __future__ import annotations

from typing import Final

from tokenomics_plugin import semconv

__all__ = ["OUTCOME_EVENTS", "OUTCOME_SPANS", "SPANS"]

# What few traces have stays in the map: these look-ups take a few microseconds a span, columns a migration.
_CONDUCT_TEXTS: Final = (
    semconv.NODE_NAME,
    semconv.LOGICAL_OPERATION_ID,
    semconv.ATTEMPT_KIND,
    semconv.ATTEMPT_SUPERSEDED_BY,
    semconv.LOOP_KIND,
    semconv.RUN_STATE,
    semconv.ANSWERED_BY,
)
_CONDUCT_FLAGS: Final = (semconv.REPLAY, semconv.CACHE_HIT, semconv.USAGE_ESTIMATED)
_CONDUCT_COUNTS: Final = (
    semconv.PLAN_REVISION,
    semconv.PLAN_STEPS_ADDED,
    semconv.PLAN_STEPS_REMOVED,
    semconv.PLAN_STEPS_COMPLETED,
)

SPANS: Final = f"""
SELECT
    TraceId,
    SpanId,
    nullif(ParentSpanId, ''),
    SpanName,
    ServiceName,
    epoch_ns(Timestamp),     -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
    -- A clock that stepped back leaves a negative number; how long the span took is then unknown.
    -- ClickHouse: the exporter's Duration is unsigned and wraps around, so bound it from above.
    -- Times that an importer made up say nothing of it either.
    CASE WHEN Duration >= 0 AND coalesce(SpanAttributes['{semconv.TIME_SYNTHESIZED}'], '') = '' THEN Duration END,
    StatusCode,
    ErrorType,
    OperationName,
    ProviderName,
    RequestModel,
    ResponseModel,
    AgentName,
    ToolName,
    ConversationId,
    TaskId,
    TaskGroup,
    nullif(SpanAttributes['{semconv.USAGE_COST}'], ''),
    TimeToFirstChunk,
    InputTokens,
    OutputTokens,
    CacheReadInputTokens,
    CacheWriteInputTokens,
    ReasoningOutputTokens,
    {", ".join(f"nullif(SpanAttributes['{name}'], '')" for name in _CONDUCT_TEXTS)},
    list_contains("Events.Name", '{semconv.EVENT_RESUME}'),     -- ClickHouse: has(Events.Name, ...)
    {", ".join(f"coalesce(SpanAttributes['{name}'] = 'true', FALSE)" for name in _CONDUCT_FLAGS)},
    -- ClickHouse: toInt64OrNull(...)
    {", ".join(f"TRY_CAST(SpanAttributes['{name}'] AS BIGINT)" for name in _CONDUCT_COUNTS)}
FROM otel_traces
WHERE coalesce(OperationName, '') <> '{semconv.OPERATION_RECORD_OUTCOME}'
ORDER BY TraceId, Timestamp, SpanId
"""
"""Every span but the carriers of outcomes, in the order of `records.span_record`'s arguments."""

OUTCOME_EVENTS: Final = f"""
SELECT
    LogAttributes,
    nullif(TraceId, ''),
    epoch_ns(Timestamp)      -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
FROM otel_logs
WHERE EventName = '{semconv.EVENT_EVALUATION_RESULT}'
  AND LogAttributes['{semconv.TASK_ID}'] <> ''   -- absent: NULL here, '' in ClickHouse; left out in both
ORDER BY Timestamp, ContentKey
"""
"""Attributes, trace and time of each evaluation event that names a task; those of others name none."""

OUTCOME_SPANS: Final = f"""
SELECT
    SpanAttributes,
    nullif("Links.TraceId"[1], ''),   -- the judged trace; there may be none
    epoch_ns(Timestamp)               -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
FROM otel_traces
WHERE OperationName = '{semconv.OPERATION_RECORD_OUTCOME}'
ORDER BY Timestamp, SpanId
"""
"""The same of each carrier span, which says it again for backends without logs."""
