"""The store: OTLP requests in, spans and outcomes out, one DuckDB file.

An item that arrives twice is stored once, however requests are split, repeated or ordered.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tokenomics_plugin.outcome import Outcome, latest_outcomes, tasks_by_trace
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import queries, records
from tokenomics_plugin.store.content import CallContent
from tokenomics_plugin.store.database import errors_of, open_database
from tokenomics_plugin.store.insertion import insert_new
from tokenomics_plugin.store.metrics import METRIC_TABLES
from tokenomics_plugin.store.payload import LoadCounts, Payload
from tokenomics_plugin.store.staging import Staging
from tokenomics_plugin.store.trajectories import read_trajectories
from tokenomics_plugin.trajectory import UNDECLARED, SideEffects, Trajectory

__all__ = ["TraceStore"]

_logger = logging.getLogger(__name__)

_INSERT_ROWS: Final = 50_000
_INSERT_BYTES: Final = 32 * 2**20
_FETCH_ROWS: Final = 5_000

# Two transactions that do not see each other's rows could both find a span to be new. Other processes are
# kept out by the file's lock, other threads by this one.
_loading = threading.Lock()


class TraceStore:
    """A DuckDB file of traces, logs and metrics; a context manager, and a `span.TraceReader`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        lock_timeout_s: float = 10.0,
        memory_limit_mib: int = 256,
        threads: int = 1,
    ) -> None:
        """Open a store.

        Args:
            path: The file. It is created when it is missing, unless `read_only`.
            read_only: Open it so that other processes may read it too. One that writes excludes all others.
            lock_timeout_s: How long to wait for a process that has it open.
            memory_limit_mib: Memory for DuckDB, MiB; beyond it DuckDB uses the disk.
            threads: Threads for DuckDB. Loading gains nothing from more: Python is the slower half.

        Raises:
            StoreError: If it is missing, stays locked, is not a store, or was written by a newer version.
        """
        self._path = Path(path)
        self._connection = open_database(
            self._path,
            read_only=read_only,
            lock_timeout_s=lock_timeout_s,
            settings={"memory_limit": f"{memory_limit_mib}MiB", "threads": threads},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending to the file and let go of it; closing twice is fine."""
        with errors_of(self._path):
            self._connection.close()

    def load(self, payloads: Iterable[Payload]) -> LoadCounts:
        """Put requests into the store, in one transaction; loading some of them again changes nothing.

        Items that cannot be stored are counted in `LoadCounts.rejected` and harm no others. `check_request`
        tells of them beforehand.

        Raises:
            StoreError: If the file cannot be written; then nothing of this call is in it.
        """
        with _loading, errors_of(self._path), self._transaction():
            counts, staging = LoadCounts(), Staging()
            for payload in payloads:
                staging.add(payload)
                if len(staging) >= _INSERT_ROWS or staging.size_bytes >= _INSERT_BYTES:
                    counts, staging = counts + self._insert(staging), Staging()
            return counts + self._insert(staging)

    def spans(self, *, traces: Sequence[str] | None = None) -> Iterator[SpanRecord]:
        """Every span once, those of a trace together and by start time.

        The carriers of outcomes are left out: they are our own telemetry, and `outcomes` reads them.
        Rows are fetched as they are asked for; the store must stay open meanwhile.

        Args:
            traces: Trace ids; `None` for all.
        """
        return map(records.span_record, self._rows(*_narrowed(queries.SPANS, traces, None)))

    def trajectories(
        self,
        *,
        side_effects: SideEffects = UNDECLARED,
        traces: Sequence[str] | None = None,
        part: tuple[int, int] | None = None,
    ) -> Iterator[Trajectory]:
        """What was done for each task in each trace, trace by trace.

        Memory is that of the largest trace and of the outcomes. The store must stay open meanwhile.

        Args:
            side_effects: What the tools do; undeclared ones may write.
            traces: Trace ids; `None` for all.
            part: (index, count): one of so many parts of all traces, for as many processes; `None` for all.
        """
        latest = latest_outcomes(self.outcomes(traces=traces))
        yield from read_trajectories(
            self._rows(*_narrowed(queries.STEPS, traces, part)),
            outcomes=latest,
            judged_tasks=tasks_by_trace(latest.values()),
            side_effects=side_effects,
        )

    def contents(self, *, traces: Sequence[str] | None = None) -> Iterator[CallContent]:
        """What model calls were sent and answered, where that was captured; twice if on span and event.

        Args:
            traces: Trace ids; `None` for all.
        """
        for query in (queries.CONTENT_SPANS, queries.CONTENT_EVENTS):
            yield from (CallContent(*row) for row in self._rows(*_narrowed(query, traces, None)))

    def traces_with_content(self) -> list[str]:
        """Ids of the traces of which `contents` has something, in order."""
        return [trace_id for (trace_id,) in self._rows(queries.CONTENT_TRACES)]

    def trace_count(self) -> int:
        """How many traces there are."""
        return int(next(self._rows(queries.TRACE_COUNT))[0])

    def attributes(self, trace_id: str, span_id: str) -> dict[str, str] | None:
        """What a span says of itself; `None` when there is no such span."""
        row = next(self._rows(queries.ATTRIBUTES, (trace_id, span_id)), None)
        return None if row is None else dict(row[0])

    def events(self, name: str) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Attributes of each span event of a name, and of its span, by start of the span; values as text."""
        return ((dict(event), dict(span)) for event, span in self._rows(queries.EVENTS, (name, name)))

    def outcomes(self, *, traces: Sequence[str] | None = None) -> Iterator[Outcome]:
        """Every outcome that arrived, as an event or in its carrier span, so mostly twice.

        Ones that cannot be read are left out, and a warning says how many and why.

        Args:
            traces: Trace ids, for the outcomes of all tasks that have to do with them; `None` for all outcomes.
        """
        malformed, problem = 0, ValueError()
        for query, parameters in self._outcome_queries(traces):
            for row in self._rows(query, parameters):
                try:
                    outcome = records.outcome(row)
                except ValueError as error:
                    malformed, problem = malformed + 1, error
                else:
                    yield outcome
        if malformed:
            _logger.warning("%s: %d outcomes could not be read, the last: %s", self._path, malformed, problem)

    def _outcome_queries(self, traces: Sequence[str] | None) -> Iterator[tuple[str, list[object]]]:
        if traces is None:
            yield from ((query.format(only=""), []) for query in (queries.OUTCOME_EVENTS, queries.OUTCOME_SPANS))
            return
        tasks = [task_id for (task_id,) in self._rows(queries.TASKS_OF_TRACES, [list(traces)] * 3)]
        yield queries.OUTCOME_EVENTS.format(only=queries.EVENTS_OF_TASKS), [tasks]
        yield queries.OUTCOME_SPANS.format(only=queries.SPANS_OF_TASKS), [tasks]

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        with errors_of(self._path), self._connection.cursor() as cursor:
            cursor.execute(query, list(parameters))
            while rows := cursor.fetchmany(_FETCH_ROWS):
                yield from rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _insert(self, staging: Staging) -> LoadCounts:
        new = {table: insert_new(self._connection, table, batch) for table, batch in staging.batches()}
        return LoadCounts(
            spans=new["otel_traces"],
            logs=new["otel_logs"],
            metric_points=sum(new[table] for table in METRIC_TABLES.values()),
            duplicates=staging.duplicates + len(staging) - sum(new.values()),
            rejected=staging.rejected,
        )


def _narrowed(query: str, traces: Sequence[str] | None, part: tuple[int, int] | None) -> tuple[str, list[object]]:
    """A query of spans with its clauses, and their parameters."""
    only, parameters = "", list[object]()
    if traces is not None:
        only, parameters = only + queries.OF_TRACES, [*parameters, list(traces)]
    if part is not None:
        index, count = part
        only, parameters = only + queries.OF_PART, [*parameters, count, index]
    return query.format(only=only), parameters
