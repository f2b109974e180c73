"""The tables of a store, in one commented piece of SQL, and how an older store becomes a current one.

Names and meanings of the `otel_*` tables are those of the OpenTelemetry Collector's ClickHouse exporter,
so that queries can move to a cluster. Where ClickHouse has a `Nested` column, which there is a set of
arrays of equal length, DuckDB has those arrays under the same quoted names (`"Events.Name"`).
Text that a source did not give is '' in the exporter's columns, as it is there; it is NULL in ours.

Source: opentelemetry-collector-contrib, `exporter/clickhouseexporter/internal/sqltemplates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenomics_plugin.errors import StoreError

__all__ = ["SCHEMA", "SCHEMA_VERSION", "bring_up_to_date", "create"]

SCHEMA_VERSION: Final = 1
"""Version of `SCHEMA`. 1: the first one."""

_EVERY_POINT: Final = """\
    ResourceAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    ResourceSchemaUrl VARCHAR NOT NULL,
    ScopeName VARCHAR NOT NULL,
    ScopeVersion VARCHAR NOT NULL,
    ScopeAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    ScopeDroppedAttrCount UINTEGER NOT NULL,
    ScopeSchemaUrl VARCHAR NOT NULL,
    ServiceName VARCHAR NOT NULL,
    MetricName VARCHAR NOT NULL,
    MetricDescription VARCHAR NOT NULL,
    MetricUnit VARCHAR NOT NULL,
    Attributes MAP(VARCHAR, VARCHAR) NOT NULL,
    StartTimeUnix TIMESTAMP_NS NOT NULL,           -- 1970-01-01 when unknown, as the exporter has it
    TimeUnix TIMESTAMP_NS NOT NULL,
    Flags UINTEGER NOT NULL,
"""
_EXEMPLARS: Final = """\
    "Exemplars.FilteredAttributes" MAP(VARCHAR, VARCHAR)[] NOT NULL,
    "Exemplars.TimeUnix" TIMESTAMP_NS[] NOT NULL,
    "Exemplars.Value" DOUBLE[] NOT NULL,
    "Exemplars.SpanId" VARCHAR[] NOT NULL,
    "Exemplars.TraceId" VARCHAR[] NOT NULL,
"""

SCHEMA: Final = f"""\
CREATE TABLE tokenomics_schema (
    -- One row: which version of this schema the file has.
    Version INTEGER NOT NULL
);

CREATE TABLE otel_traces (
    -- One row a span, whatever number of times it arrived.
    Timestamp TIMESTAMP_NS NOT NULL,               -- start; TIMESTAMP_NS is an int64 of nanoseconds, so exact
    TraceId VARCHAR NOT NULL,                      -- 32 hex digits
    SpanId VARCHAR NOT NULL,                       -- 16 hex digits
    ParentSpanId VARCHAR NOT NULL,                 -- 16 hex digits, '' for a root
    TraceState VARCHAR NOT NULL,                   -- W3C tracestate
    SpanName VARCHAR NOT NULL,
    SpanKind VARCHAR NOT NULL,                     -- Unspecified | Internal | Server | Client | Producer | Consumer
    ServiceName VARCHAR NOT NULL,                  -- service.name of the resource
    ResourceAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    ScopeName VARCHAR NOT NULL,                    -- the instrumentation
    ScopeVersion VARCHAR NOT NULL,
    SpanAttributes MAP(VARCHAR, VARCHAR) NOT NULL, -- values as text; lists and maps as JSON, bytes as base64
    Duration BIGINT NOT NULL,                      -- ns, as sent: negative when the sender's clock stepped back
    StatusCode VARCHAR NOT NULL,                   -- Unset | Ok | Error
    StatusMessage VARCHAR NOT NULL,
    "Events.Timestamp" TIMESTAMP_NS[] NOT NULL,    -- the span's events, in the order they were sent
    "Events.Name" VARCHAR[] NOT NULL,
    "Events.Attributes" MAP(VARCHAR, VARCHAR)[] NOT NULL,
    "Links.TraceId" VARCHAR[] NOT NULL,            -- the span's links, in the order they were sent
    "Links.SpanId" VARCHAR[] NOT NULL,
    "Links.TraceState" VARCHAR[] NOT NULL,
    "Links.Attributes" MAP(VARCHAR, VARCHAR)[] NOT NULL,
    -- From here on ours: what reports read, taken out of SpanAttributes once, on loading.
    -- Today's spelling of an attribute wins over those of earlier generations.
    TaskId VARCHAR,                                -- tokenomics.task.id
    TaskGroup VARCHAR,                             -- tokenomics.task.group
    OperationName VARCHAR,                         -- gen_ai.operation.name
    ProviderName VARCHAR,                          -- gen_ai.provider.name
    RequestModel VARCHAR,                          -- gen_ai.request.model
    ResponseModel VARCHAR,                         -- gen_ai.response.model
    AgentName VARCHAR,                             -- gen_ai.agent.name
    ToolName VARCHAR,                              -- gen_ai.tool.name
    ConversationId VARCHAR,                        -- gen_ai.conversation.id
    ErrorType VARCHAR,                             -- error.type
    InputTokens BIGINT,                            -- gen_ai.usage.*, as sent: input includes both cache counts,
    OutputTokens BIGINT,                           -- output includes reasoning
    CacheReadInputTokens BIGINT,
    CacheWriteInputTokens BIGINT,
    ReasoningOutputTokens BIGINT,
    TimeToFirstChunk DOUBLE,                       -- gen_ai.response.time_to_first_chunk, seconds
    -- TraceId and SpanId in binary: finding duplicates reads these 24 bytes a row instead of 48 characters.
    TraceKey UUID NOT NULL,
    SpanKey UBIGINT NOT NULL
);

CREATE TABLE otel_logs (
    -- One row a log record. Equal records are one row: they cannot be told from a repeated delivery.
    Timestamp TIMESTAMP_NS NOT NULL,               -- when it happened, else when it was observed
    TraceId VARCHAR NOT NULL,                      -- '' outside a trace
    SpanId VARCHAR NOT NULL,
    TraceFlags UTINYINT NOT NULL,                  -- W3C trace flags
    SeverityText VARCHAR NOT NULL,
    SeverityNumber INTEGER NOT NULL,               -- 1 to 24, 0 when unspecified
    ServiceName VARCHAR NOT NULL,
    Body VARCHAR NOT NULL,                         -- as text, like an attribute
    ResourceSchemaUrl VARCHAR NOT NULL,
    ResourceAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    ScopeSchemaUrl VARCHAR NOT NULL,
    ScopeName VARCHAR NOT NULL,
    ScopeVersion VARCHAR NOT NULL,
    ScopeAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    LogAttributes MAP(VARCHAR, VARCHAR) NOT NULL,
    EventName VARCHAR NOT NULL,                    -- '' when the record is not an event
    ContentKey UUID NOT NULL                       -- ours: BLAKE2b-128 of all that makes up the row
);

-- Metrics: one row a data point. Equal points are one row, as with logs.

CREATE TABLE otel_metrics_gauge (
{_EVERY_POINT}    Value DOUBLE,                                  -- integers too, as in the exporter; NULL: none
{_EXEMPLARS}    ContentKey UUID NOT NULL                       -- ours: BLAKE2b-128 of all that makes up the row
);

CREATE TABLE otel_metrics_sum (
{_EVERY_POINT}    Value DOUBLE,
    AggregationTemporality INTEGER NOT NULL,       -- 1 delta, 2 cumulative
    IsMonotonic BOOLEAN NOT NULL,
{_EXEMPLARS}    ContentKey UUID NOT NULL
);

CREATE TABLE otel_metrics_histogram (
{_EVERY_POINT}    Count UBIGINT NOT NULL,
    Sum DOUBLE,                                    -- NULL when not sent; so are Min and Max
    BucketCounts UBIGINT[] NOT NULL,
    ExplicitBounds DOUBLE[] NOT NULL,
    Min DOUBLE,
    Max DOUBLE,
    AggregationTemporality INTEGER NOT NULL,
{_EXEMPLARS}    ContentKey UUID NOT NULL
);

CREATE TABLE otel_metrics_exponential_histogram (
{_EVERY_POINT}    Count UBIGINT NOT NULL,
    Sum DOUBLE,
    Scale INTEGER NOT NULL,
    ZeroCount UBIGINT NOT NULL,
    PositiveOffset INTEGER NOT NULL,
    PositiveBucketCounts UBIGINT[] NOT NULL,
    NegativeOffset INTEGER NOT NULL,
    NegativeBucketCounts UBIGINT[] NOT NULL,
    Min DOUBLE,
    Max DOUBLE,
    AggregationTemporality INTEGER NOT NULL,
{_EXEMPLARS}    ContentKey UUID NOT NULL
);

CREATE TABLE otel_metrics_summary (
{_EVERY_POINT}    Count UBIGINT NOT NULL,
    Sum DOUBLE NOT NULL,
    "ValueAtQuantiles.Quantile" DOUBLE[] NOT NULL,
    "ValueAtQuantiles.Value" DOUBLE[] NOT NULL,
    ContentKey UUID NOT NULL
);
"""

MIGRATIONS: Final[Mapping[int, str]] = {}
"""Version -> SQL that turns a store of that version into one of the next. Empty: there was only one."""


def create(connection: Any) -> None:
    """Make the tables in an empty database."""
    connection.execute("BEGIN")
    connection.execute(SCHEMA)
    connection.execute("INSERT INTO tokenomics_schema VALUES (?)", [SCHEMA_VERSION])
    connection.execute("COMMIT")


def bring_up_to_date(
    connection: Any,
    *,
    read_only: bool,
    target: int = SCHEMA_VERSION,
    migrations: Mapping[int, str] = MIGRATIONS,
) -> None:
    """Check that a database is a store of a version that can be read, and migrate it if it is an older one.

    Raises:
        StoreError: If it is not a store, is newer than `target`, or is older and cannot be written.
    """
    version = _version(connection)
    if version > target:
        raise StoreError(
            f"written by a newer version of tokenomics-plugin: it has schema {version}, this one knows {target}; "
            f"run `pip install -U tokenomics-plugin`"
        )
    if version < target and read_only:
        raise StoreError(
            f"has schema {version}, which must become {target} before it can be read; open it once for writing, "
            f"for instance with `tokenomics import`"
        )
    for step in range(version, target):
        _migrate(connection, migrations[step], to=step + 1)


def _version(connection: Any) -> int:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "tokenomics_schema" not in tables:
        raise StoreError("a DuckDB database, but not a store of traces (no table tokenomics_schema); use another path")
    [(version,)] = connection.execute("SELECT Version FROM tokenomics_schema").fetchall()
    return int(version)


def _migrate(connection: Any, sql: str, *, to: int) -> None:
    connection.execute("BEGIN")
    connection.execute(sql)
    connection.execute("UPDATE tokenomics_schema SET Version = ?", [to])
    connection.execute("COMMIT")
