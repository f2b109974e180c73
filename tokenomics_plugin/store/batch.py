"""Items of one kind, collected until they are worth an insert.

A row is a tuple at first, and soon part of a small Arrow table: in Python objects a span takes ten times
the memory, and reading them again is slow once they have left the processor's cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Final

import pyarrow as pa

from tokenomics_plugin.store.columns import Column, bigints
from tokenomics_plugin.store.scopes import Scopes

__all__ = ["Batch"]

_CHUNK_ROWS: Final = 1024
_CHUNK_VALUES: Final = 65_536
"""DuckDB takes a chunk at a time, and an empty event of 2 bytes becomes 40 there."""


class Batch:
    """Rows on their way into one table; of several with the same key the first is kept."""

    def __init__(self, columns: Sequence[tuple[str, Column]], *, scope_columns: Sequence[str]) -> None:
        self.duplicates = 0
        self.rejected: Counter[str] = Counter()
        self._columns = columns
        self._scope_columns = scope_columns
        self._keys: set[Hashable] = set()
        self._chunks: list[pa.Table] = []
        self._rows: list[tuple[Any, ...]] = []
        self._values = 0
        self._scopes = Scopes()

    def __len__(self) -> int:
        return len(self._keys)

    def table(self) -> pa.Table:
        """The rows as columns, named as in the database, and their `RowNumber`."""
        if self._rows:
            self._seal()
        table = pa.concat_tables(self._chunks)
        return table.append_column("RowNumber", bigints(range(len(table))))

    def _is_new(self, key: Hashable, problem: str | None) -> bool:
        """Whether an item is to be kept; if not, that is counted."""
        if problem is not None:
            self.rejected[problem] += 1
            return False
        if key in self._keys:
            self.duplicates += 1
            return False
        self._keys.add(key)
        return True

    def _begin_scope(self, of_resource: Any, of_scope: Any) -> None:
        """The rows appended next are of this scope."""
        self._scopes.begin(of_resource, of_scope, row=len(self._rows))

    def _append(self, row: tuple[Any, ...], *, values: int) -> None:
        """Take a row, whose maps and lists hold so many values."""
        self._rows.append(row)
        self._values += values
        if len(self._rows) >= _CHUNK_ROWS or self._values >= _CHUNK_VALUES:
            self._seal()

    def _seal(self) -> None:
        columns, scopes = zip(*self._rows, strict=True), self._scopes.columns(rows=len(self._rows))
        self._chunks.append(
            pa.table(
                {name: make(values) for (name, make), values in zip(self._columns, columns, strict=True)}
                | {name: scopes[name] for name in self._scope_columns}
                | self._more_columns()
            )
        )
        self._rows.clear()
        self._values = 0
        self._scopes.restart()

    def _more_columns(self) -> dict[str, pa.Array]:
        """Columns of the rows since the last chunk that are not in their tuples."""
        return {}
