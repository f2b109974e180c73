"""Arrow arrays of the shapes that the tables have: text, times, numbers, maps and lists.

Rows are collected as tuples and turned into columns many at a time: Arrow then holds them as DuckDB wants
them, and Python touches no value again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any, Final

import pyarrow as pa

__all__ = [
    "MAX_UNIX_NANO",
    "Column",
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
