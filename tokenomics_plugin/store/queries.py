"""All SQL with which reports read a store, on the column names of the Collector's ClickHouse exporter.

It is written so that it can move to ClickHouse. What differs there is said beside each query; for all of
them, the typed columns (`TaskId`, `InputTokens`, …) have to be added to the exporter's table first, such as
`TaskId Nullable(String) MATERIALIZED nullIf(SpanAttributes['tokenomics.task.id'], '')`.
"""

from __future__ import annotations

from typing import Final

from tokenomics_plugin import semconv

__all__ = [
    "ATTRIBUTES",
    "CONTENT_EVENTS",
    "CONTENT_SPANS",
    "CONTENT_TRACES",
    "EVENTS",
    "EVENTS_OF_TASKS",
    "OF_PART",
    "OF_TRACES",
    "OUTCOME_EVENTS",
    "OUTCOME_SPANS",
    "SPANS",
    "SPANS_OF_TASKS",
    "STEPS",
    "TASKS_OF_TRACES",
    "TRACE_COUNT",
]

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
_FLAGS: Final = (semconv.REPLAY, semconv.CACHE_HIT, semconv.USAGE_ESTIMATED)
_PLAN_COUNTS: Final = (
    semconv.PLAN_REVISION,
    semconv.PLAN_STEPS_ADDED,
    semconv.PLAN_STEPS_REMOVED,
    semconv.PLAN_STEPS_COMPLETED,
)

# A clock that stepped back leaves a negative number; how long the span took is then unknown. Times that an importer
# made up say nothing of it either. In ClickHouse the exporter's Duration is unsigned and wraps around, so bound it from
# above.
_DURATION: Final = (
    f"CASE WHEN Duration >= 0 AND coalesce(SpanAttributes['{semconv.TIME_SYNTHESIZED}'], '') = '' THEN Duration END"
)

SPANS: Final = f"""
SELECT
    TraceId,
    SpanId,
    nullif(ParentSpanId, ''),
    SpanName,
    ServiceName,
    epoch_ns(Timestamp),     -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
    {_DURATION},
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
    {", ".join(f"coalesce(SpanAttributes['{name}'] = 'true', FALSE)" for name in _FLAGS)},
    -- ClickHouse: toInt64OrNull(...)
    {", ".join(f"TRY_CAST(SpanAttributes['{name}'] AS BIGINT)" for name in _PLAN_COUNTS)}
FROM otel_traces
WHERE coalesce(OperationName, '') <> '{semconv.OPERATION_RECORD_OUTCOME}'{{only}}
ORDER BY TraceId, Timestamp, SpanId
"""
"""Every span but the carriers of outcomes, in the order of `records.span_record`'s arguments; `{only}` as `STEPS`."""

# A trajectory's names that few others read. In ClickHouse an absent one is '' and not NULL, hence nullif.
_STEP_TEXTS: Final = (
    semconv.RUN_STATE,
    semconv.NODE_NAME,
    semconv.STEP_KIND,
    semconv.PLAN_STEP_ID,
    semconv.LOGICAL_OPERATION_ID,
    semconv.ATTEMPT_KIND,
    semconv.ATTEMPT_SUPERSEDED_BY,
    semconv.ANSWERED_BY,
    semconv.ARGUMENTS_FINGERPRINT,
    semconv.RESULT_FINGERPRINT,
    semconv.GEN_AI_TOOL_CALL_ID,
    semconv.GEN_AI_RESPONSE_FINISH_REASONS,
    semconv.CONTEXT_PREVIOUS,
    semconv.CONTEXT_KEPT,
    semconv.CONTEXT_BLOCKS,
    semconv.LOOP_KIND,
    semconv.PLAN_ID,
    semconv.PLAN_STEPS,
    semconv.PLAN_STEP_STATUSES,
)
_STEP_COUNTS: Final = (
    semconv.ATTEMPT_NUMBER,
    semconv.LOOP_REPEATS,
    semconv.GEN_AI_REQUEST_MAX_TOKENS,
    *_PLAN_COUNTS,
)

STEPS: Final = f"""
SELECT
    TraceId,
    SpanId,
    nullif(ParentSpanId, ''),
    SpanName,
    epoch_ns(Timestamp),     -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
    {_DURATION},
    StatusCode,
    ErrorType,
    OperationName,
    ProviderName,
    RequestModel,
    ResponseModel,
    AgentName,
    ToolName,
    TaskId,
    TaskGroup,
    nullif(SpanAttributes['{semconv.USAGE_COST}'], ''),
    InputTokens,
    OutputTokens,
    CacheReadInputTokens,
    CacheWriteInputTokens,
    ReasoningOutputTokens,
    {", ".join(f"nullif(SpanAttributes['{name}'], '')" for name in _STEP_TEXTS)},
    {", ".join(f"coalesce(SpanAttributes['{name}'] = 'true', FALSE)" for name in _FLAGS)},
    -- ClickHouse: toInt64OrNull(...), toFloat64OrNull(...)
    {", ".join(f"TRY_CAST(SpanAttributes['{name}'] AS BIGINT)" for name in _STEP_COUNTS)},
    TRY_CAST(SpanAttributes['{semconv.GEN_AI_REQUEST_TEMPERATURE}'] AS DOUBLE),
    -- The span that a repeat repeats. ClickHouse: arrayMap, indexOf.
    CASE WHEN SpanAttributes['{semconv.LOOP_KIND}'] <> '' THEN "Links.SpanId"[list_position(
        [link['{semconv.LINK_KIND}'] FOR link IN "Links.Attributes"], '{semconv.LINK_REPEATS}'
    )] END
FROM otel_traces
WHERE coalesce(OperationName, '') <> '{semconv.OPERATION_RECORD_OUTCOME}'{{only}}
ORDER BY TraceId, Timestamp, Duration, SpanId
"""
"""Every span but the carriers of outcomes, in the order of the fields of `trajectories.Row`. `{only}` stands for
nothing, or for one of the clauses below."""

OF_TRACES: Final = "\n  AND TraceId IN (SELECT unnest(?))"  # ClickHouse: has(?, TraceId)
"""Narrows to the traces of a list."""
OF_PART: Final = "\n  AND hash(TraceId) % ? = ?"  # ClickHouse: cityHash64(TraceId)
"""Narrows to one of several parts of all traces, about equally large."""

ATTRIBUTES: Final = "SELECT SpanAttributes FROM otel_traces WHERE TraceId = ? AND SpanId = ? LIMIT 1"
"""What one span says of itself."""

_CONTENT_TEXTS: Final = (
    semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.GEN_AI_TOOL_DEFINITIONS,
)

_SPANS_WITH_CONTENT: Final = f"""
FROM otel_traces
WHERE OperationName IN ({", ".join(f"'{operation}'" for operation in sorted(semconv.BILLED_OPERATIONS))})
  AND SpanAttributes['{semconv.GEN_AI_OUTPUT_MESSAGES}'] <> ''   -- absent: NULL here, '' in ClickHouse
"""
_EVENTS_WITH_CONTENT: Final = f"""
FROM otel_logs
WHERE EventName = '{semconv.EVENT_INFERENCE_DETAILS}'
  AND LogAttributes['{semconv.GEN_AI_OUTPUT_MESSAGES}'] <> ''
"""

CONTENT_TRACES: Final = f"""
SELECT TraceId {_SPANS_WITH_CONTENT} UNION SELECT TraceId {_EVENTS_WITH_CONTENT}
ORDER BY TraceId
"""
"""The traces of which some call's content is known."""

CONTENT_SPANS: Final = f"""
SELECT TraceId, SpanId, {", ".join(f"nullif(SpanAttributes['{name}'], '')" for name in _CONTENT_TEXTS)}
{_SPANS_WITH_CONTENT}{{only}}
ORDER BY TraceId, Timestamp, SpanId
"""
"""What each model call was sent and answered, where its span says so; `{only}` stands for nothing, or for
`OF_TRACES`."""

CONTENT_EVENTS: Final = f"""
SELECT TraceId, SpanId, {", ".join(f"nullif(LogAttributes['{name}'], '')" for name in _CONTENT_TEXTS)}
{_EVENTS_WITH_CONTENT}{{only}}
ORDER BY TraceId, Timestamp, ContentKey
"""
"""The same where an event says so; `{only}` as `CONTENT_SPANS`."""

EVENTS: Final = """
SELECT "Events.Attributes"[place], SpanAttributes
FROM otel_traces, range(1, len("Events.Name") + 1) places(place)     -- ClickHouse: arrayJoin(arrayEnumerate(...))
WHERE list_contains("Events.Name", ?) AND "Events.Name"[place] = ?
ORDER BY Timestamp, TraceId, SpanId, place
"""
"""Attributes of each span event of one name, and of its span."""

TRACE_COUNT: Final = "SELECT count(DISTINCT TraceId) FROM otel_traces"
"""How many traces there are."""

OUTCOME_EVENTS: Final = f"""
SELECT
    LogAttributes,
    nullif(TraceId, ''),
    epoch_ns(Timestamp)      -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
FROM otel_logs
WHERE EventName = '{semconv.EVENT_EVALUATION_RESULT}'
  AND LogAttributes['{semconv.TASK_ID}'] <> ''   -- absent: NULL here, '' in ClickHouse; left out in both{{only}}
ORDER BY Timestamp, ContentKey
"""
"""Attributes, trace and time of each evaluation event that names a task; those of others name none. `{only}` stands
for nothing, or for `EVENTS_OF_TASKS`."""

OUTCOME_SPANS: Final = f"""
SELECT
    SpanAttributes,
    nullif("Links.TraceId"[1], ''),   -- the judged trace; there may be none
    epoch_ns(Timestamp)               -- ClickHouse: toUnixTimestamp64Nano(Timestamp)
FROM otel_traces
WHERE OperationName = '{semconv.OPERATION_RECORD_OUTCOME}'{{only}}
ORDER BY Timestamp, SpanId
"""
"""The same of each carrier span, which says it again for backends without logs; `{only}` as `SPANS_OF_TASKS`."""

TASKS_OF_TRACES: Final = f"""
SELECT TaskId FROM otel_traces WHERE TaskId <> '' AND TraceId IN (SELECT unnest(?))
UNION
SELECT TaskId FROM otel_traces
WHERE OperationName = '{semconv.OPERATION_RECORD_OUTCOME}' AND "Links.TraceId"[1] IN (SELECT unnest(?))
UNION
SELECT LogAttributes['{semconv.TASK_ID}'] FROM otel_logs
WHERE EventName = '{semconv.EVENT_EVALUATION_RESULT}' AND TraceId IN (SELECT unnest(?))
"""
"""The tasks that the spans of some traces name, or outcomes that name these traces."""
EVENTS_OF_TASKS: Final = f"\n  AND LogAttributes['{semconv.TASK_ID}'] IN (SELECT unnest(?))"
SPANS_OF_TASKS: Final = "\n  AND TaskId IN (SELECT unnest(?))"
"""Narrow outcomes to those of a list of tasks."""
