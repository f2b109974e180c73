"""Arrow arrays of the shapes that the tables have: text, times, maps, lists, and what many rows share.

Rows are collected as tuples and turned into columns a batch at a time: Arrow then holds them as DuckDB
wants them, and Python touches no value again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import pyarrow as pa

from tokenomics_plugin.store.attributes import attribute_texts

__all__ = [
    "Column",
    "ScopeTable",
    "bigints",
    "booleans",
    "counts",
    "doubles",
    "hex_id",
    "integers",
    "lists",
    "maps",
    "storable_time",
    "texts",
    "times",
    "unsigned",
]

Column = Callable[[Any], pa.Array]
"""Makes the Arrow array of a column's values."""

MAX_UNIX_NANO: Final = 2**63 - 2
"""Latest time, 2262-04-11: DuckDB's TIMESTAMP_NS reads 2**63 - 1 as infinity."""

_SERVICE_NAME: Final = "service.name"

texts: Final[Column] = partial(pa.array, type=pa.string())
times: Final[Column] = partial(pa.array, type=pa.timestamp("ns"))
booleans: Final[Column] = partial(pa.array, type=pa.bool_())
integers: Final[Column] = partial(pa.array, type=pa.int32())
unsigned: Final[Column] = partial(pa.array, type=pa.uint32())
bigints: Final[Column] = partial(pa.array, type=pa.int64())
counts: Final[Column] = partial(pa.array, type=pa.uint64())
doubles: Final[Column] = partial(pa.array, type=pa.float64())


def maps(values: Sequence[Mapping[str, str]]) -> pa.Array:
    """A column of attributes."""
    keys = texts(list(chain.from_iterable(values)))
    items = texts(list(chain.from_iterable(value.values() for value in values)))
    return pa.MapArray.from_arrays(_offsets(values), keys, items)


def lists(values: Sequence[Sequence[Any]], column: Column) -> pa.Array:
    """A column of lists; `column` makes the array of all their items."""
    return pa.ListArray.from_arrays(_offsets(values), column(list(chain.from_iterable(values))))


def hex_id(raw: bytes, size: int) -> str:
    """An id as hex digits; empty when it is absent or invalid, which is how OTLP asks to read it."""
    return raw.hex() if len(raw) == size and any(raw) else ""


def storable_time(unix_nano: int) -> int | None:
    """A time inside a row; `None` when it does not fit, for which the row is not worth losing."""
    return unix_nano if unix_nano <= MAX_UNIX_NANO else None


def _offsets(values: Sequence[Any]) -> pa.Array:
    return integers([0, *accumulate(map(len, values))])


class _Scope(NamedTuple):
    ServiceName: str
    ResourceAttributes: dict[str, str]
    ResourceSchemaUrl: str
    ScopeName: str
    ScopeVersion: str
    ScopeAttributes: dict[str, str]
    ScopeDroppedAttrCount: int
    ScopeSchemaUrl: str


_SCOPE_COLUMNS: Final[tuple[Column, ...]] = (texts, maps, texts, texts, texts, maps, unsigned, texts)


class ScopeTable:
    """The instrumentation scopes of a batch, with their resources: read once, shared by their rows."""

    def __init__(self) -> None:
        self._scopes: list[_Scope] = []
        self._of_rows: list[int] = []

    def add(self, of_resource: Any, of_scope: Any, *, rows: int) -> None:
        """Take a scope, as a `ResourceSpans` and one of its `ScopeSpans` or the like, for the next `rows` rows."""
        resource_attributes, scope = attribute_texts(of_resource.resource.attributes), of_scope.scope
        self._of_rows += [len(self._scopes)] * rows
        self._scopes.append(
            _Scope(
                ServiceName=resource_attributes.get(_SERVICE_NAME, ""),
                ResourceAttributes=resource_attributes,
                ResourceSchemaUrl=of_resource.schema_url,
                ScopeName=scope.name,
                ScopeVersion=scope.version,
                ScopeAttributes=attribute_texts(scope.attributes),
                ScopeDroppedAttrCount=scope.dropped_attributes_count,
                ScopeSchemaUrl=of_scope.schema_url,
            )
        )

    def columns(self) -> dict[str, pa.Array]:
        """Columns as long as there are rows, by name."""
        # As dictionaries: DuckDB then checks that a map's keys differ once a scope and not once a row.
        rows = integers(self._of_rows)
        by_column = zip(_Scope._fields, _SCOPE_COLUMNS, zip(*self._scopes, strict=True), strict=True)
        return {name: pa.DictionaryArray.from_arrays(rows, make(values)) for name, make, values in by_column}
