"""From batches into tables, leaving out what a table has already.

The keys of what comes in are joined with the keys in the table. DuckDB has primary keys as well, but
their index must fit in memory: with a limit of 256 MiB, inserts fail after 3 million rows. The join needs
memory for the batch alone, and 14 ns for each row of the table; so large batches are better than small ones.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tokenomics_plugin.store.batch import Batch
from tokenomics_plugin.store.columns import bigints

__all__ = ["insert_new"]

_SPANS: Final = "otel_traces"
_SPAN_KEY: Final = "CAST(TraceId AS UUID) AS TraceKey, CAST('0x' || SpanId AS UBIGINT) AS SpanKey"

_KNOWN: Final = "SELECT RowNumber FROM (SELECT RowNumber, {key} FROM incoming) SEMI JOIN {table} USING ({names})"
_KNOWN_SPANS: Final = _KNOWN.format(table=_SPANS, key=_SPAN_KEY, names="TraceKey, SpanKey")
_KNOWN_OTHERS: Final = _KNOWN.format(table="{table}", key="CAST(ContentKey AS UUID) AS ContentKey", names="ContentKey")

# Without a join, which would put rows together by the thousand, however long their lists are.
_INSERT_SPANS: Final = f"INSERT INTO {_SPANS} BY NAME SELECT * EXCLUDE (RowNumber), {_SPAN_KEY} FROM incoming"
_INSERT_OTHERS: Final = "INSERT INTO {table} BY NAME SELECT * EXCLUDE (RowNumber) FROM incoming"


def insert_new(connection: Any, table: str, batch: Batch) -> int:
    """Insert the rows of a batch that the table does not have, within the current transaction.

    Returns:
        How many these were.
    """
    if not len(batch):
        return 0
    known, insert = (_KNOWN_SPANS, _INSERT_SPANS) if table == _SPANS else (_KNOWN_OTHERS, _INSERT_OTHERS)
    rows = batch.table()
    if known_rows := _execute(connection, known.format(table=table), rows):
        rows = _without(rows, [number for (number,) in known_rows])
    if len(rows):
        _execute(connection, insert.format(table=table), rows)
    return len(rows)


def _execute(connection: Any, query: str, incoming: pa.Table) -> list[tuple[Any, ...]]:
    connection.register("incoming", incoming)
    result: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    connection.unregister("incoming")  # not after an error: DuckDB takes nothing but ROLLBACK then
    return result


def _without(rows: pa.Table, numbers: list[int]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["RowNumber"], value_set=bigints(numbers))))
