"""A list of rows of the analysis: which filters it has, how it is sorted, and what a row shows.

Filters are clauses of SQL with one placeholder; what a reader types is only ever a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.report.document import Cell, Column, Page, Section, Table
from tokenomics_plugin.report.wording import count

__all__ = ["PAGE_ROWS", "Filter", "Listing", "ListingError", "Rows", "Window", "day_start_ns"]

PAGE_ROWS: Final = 50
"""Rows of one page of a list."""
_MAX_OPTIONS: Final = 200

Rows = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a query with parameters."""


class ListingError(TokenomicsError, ValueError):
    """A list that cannot be made as asked."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One way to narrow a list."""

    name: str
    """Its parameter."""
    label: str
    """What its field is called."""
    clause: str
    """SQL that is true for the rows that stay, with one or several `?`, all for the same value."""
    read: Callable[[str], Any] = str
    """Makes the clause's parameter of what was typed; raises `ValueError` with the rule."""
    options: str | None = None
    """SQL for the values to choose from; `None` for a field of free text."""
    input_type: str = "text"
    """Type of the field, where it is one."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which rows of a list are shown."""

    first: int
    """Number of the first one, from 1; 0 when there is none."""
    last: int
    """Number of the last one."""
    total: int
    """All that the filters leave."""
    page: int
    """Which page of `PAGE_ROWS` it is, from 1."""

    @property
    def has_next(self) -> bool:
        """Whether more follow."""
        return self.last < self.total


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list."""

    id: str
    """The view's name."""
    title: str
    """Its heading."""
    what: str
    """What a row is, in the plural."""
    source: str
    """SQL after FROM."""
    selected: str
    """SQL after SELECT; `row` gets these columns."""
    filters: tuple[Filter, ...]
    """How it is narrowed."""
    sorts: Mapping[str, str]
    """Name -> SQL after ORDER BY, the default first."""
    columns: tuple[Column, ...]
    """Headers."""
    row: Callable[[tuple[Any, ...]], tuple[Cell, ...]]
    """Makes the cells of a row."""

    def page(self, rows: Rows, parameters: Mapping[str, str]) -> tuple[Page, Window]:
        """One page of the list.

        Args:
            rows: Runs a query.
            parameters: What was asked for: filters, `sort` and `page`; empty ones are ignored.

        Raises:
            ListingError: If a parameter is not one of the list's, or cannot be read.
        """
        where, values = self._where(parameters)
        number = _page_number(parameters.get("page"))
        total = int(rows(f"SELECT count(*) FROM {self.source} {where}", values)[0][0])
        order, offset = self._order(parameters.get("sort")), (number - 1) * PAGE_ROWS
        query = f"SELECT {self.selected} FROM {self.source} {where} ORDER BY {order} LIMIT {PAGE_ROWS} OFFSET {offset}"
        found = rows(query, values)
        window = Window(first=offset + bool(found), last=offset + len(found), total=total, page=number)
        table = Table(
            id=self.id,
            title=f"{self.title}, {count(window.first)} to {count(window.last)} of {count(total)}",
            columns=self.columns,
            rows=tuple(map(self.row, found)),
            empty=f"No {self.what} match.",
        )
        section = Section(id="list", title=self.title, lead="", blocks=(table,))
        return Page(id=self.id, title=self.title, lead=f"{count(total)} {self.what}.", sections=(section,)), window

    def choices(self, rows: Rows) -> dict[str, list[str]]:
        """The values that each filter of choices offers, by its name."""
        return {
            each.name: [
                str(value) for (value,) in rows(f"{each.options} LIMIT {_MAX_OPTIONS}", ()) if value is not None
            ]
            for each in self.filters
            if each.options is not None
        }

    def _where(self, parameters: Mapping[str, str]) -> tuple[str, list[Any]]:
        by_name = {each.name: each for each in self.filters}
        if strangers := parameters.keys() - by_name.keys() - {"sort", "page"}:
            raise ListingError(f"{self.id} has no filter {sorted(strangers)[0]!r}; it has {', '.join(by_name)}")
        clauses: list[str] = []
        values: list[Any] = []
        for name, each in by_name.items():
            if typed := parameters.get(name, "").strip():
                clauses.append(f"({each.clause})")
                values += [_read(each, typed)] * each.clause.count("?")
        return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), values

    def _order(self, name: str | None) -> str:
        if not name:
            return next(iter(self.sorts.values()))
        if name not in self.sorts:
            raise ListingError(f"sort must be one of {', '.join(self.sorts)}, got {name!r}")
        return self.sorts[name]


def day_start_ns(day: str) -> int:
    """The start of a day in UTC, nanoseconds since the epoch.

    Raises:
        ValueError: If it is no day.
    """
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"a day is written as 2026-01-31, got {day!r}") from None
    return int(start.timestamp()) * 10**9


def _read(each: Filter, typed: str) -> Any:
    try:
        return each.read(typed)
    except ValueError as error:
        raise ListingError(f"{each.name}: {error}") from error


def _page_number(typed: str | None) -> int:
    if not typed:
        return 1
    if not typed.isdecimal() or not 1 <= int(typed) <= 10**6:
        raise ListingError(f"page must be a whole number from 1, got {typed!r}")
    return int(typed)
