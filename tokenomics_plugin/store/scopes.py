"""The instrumentation scopes of a batch, with their resources: read once, shared by their rows."""

from __future__ import annotations

from itertools import chain, pairwise, repeat
from typing import Any, Final, NamedTuple

import pyarrow as pa

from tokenomics_plugin.store.attributes import attribute_texts
from tokenomics_plugin.store.columns import Column, integers, maps, texts, unsigned

__all__ = ["Scopes"]

_SERVICE_NAME: Final = "service.name"


class _Scope(NamedTuple):
    ServiceName: str
    ResourceAttributes: dict[str, str]
    ResourceSchemaUrl: str
    ScopeName: str
    ScopeVersion: str
    ScopeAttributes: dict[str, str]
    ScopeDroppedAttrCount: int
    ScopeSchemaUrl: str


_COLUMNS: Final[tuple[Column, ...]] = (texts, maps, texts, texts, texts, maps, unsigned, texts)


class Scopes:
    """Which scope each row belongs to; rows come scope after scope."""

    def __init__(self) -> None:
        self._scopes: list[_Scope] = []
        self._first_rows: list[int] = []

    def begin(self, of_resource: Any, of_scope: Any, *, row: int) -> None:
        """From this row on they are of one scope, given as a `ResourceSpans` and its `ScopeSpans`, or the like."""
        if self._first_rows and self._first_rows[-1] == row:  # the last one had no rows
            self._scopes.pop()
            self._first_rows.pop()
        self._scopes.append(_read(of_resource, of_scope))
        self._first_rows.append(row)

    def restart(self) -> None:
        """Count rows from 0 again, which still are of the last scope."""
        self._scopes, self._first_rows = self._scopes[-1:], [0]

    def columns(self, *, rows: int) -> dict[str, pa.Array]:
        """Columns of so many rows, by name."""
        # As dictionaries: DuckDB then checks that a map's keys differ once a scope and not once a row.
        bounds = pairwise([*self._first_rows, rows])
        of_rows = integers(list(chain.from_iterable(repeat(n, end - start) for n, (start, end) in enumerate(bounds))))
        by_column = zip(_Scope._fields, _COLUMNS, zip(*self._scopes, strict=True), strict=True)
        return {name: pa.DictionaryArray.from_arrays(of_rows, make(values)) for name, make, values in by_column}


def _read(of_resource: Any, of_scope: Any) -> _Scope:
    resource_attributes, scope = attribute_texts(of_resource.resource.attributes), of_scope.scope
    return _Scope(
        ServiceName=resource_attributes.get(_SERVICE_NAME, ""),
        ResourceAttributes=resource_attributes,
        ResourceSchemaUrl=of_resource.schema_url,
        ScopeName=scope.name,
        ScopeVersion=scope.version,
        ScopeAttributes=attribute_texts(scope.attributes),
        ScopeDroppedAttrCount=scope.dropped_attributes_count,
        ScopeSchemaUrl=of_scope.schema_url,
    )
