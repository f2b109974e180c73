"""Pages for a terminal: plain text, at most 100 columns, charts as the tables that they are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from tokenomics_plugin.report.document import (
    BarChart,
    Block,
    Cell,
    Fact,
    Facts,
    Icicle,
    IntervalChart,
    LineChart,
    Note,
    Page,
    Section,
    Table,
)
from tokenomics_plugin.report.table import WIDTH, aligned, display_width
from tokenomics_plugin.report.wording import count

__all__ = ["page_text"]

_MAX_ROWS: Final = 12


def page_text(page: Page) -> str:
    """The page, with a newline at its end."""
    title = f"{page.title}\n{'=' * len(page.title)}"
    parts = [title, _paragraph(page.lead), *map(_section, page.sections), _paragraph(page.sources)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section) -> str:
    heading = f"{section.title}\n{'-' * len(section.title)}"
    opening = "\n".join(part for part in (heading, _paragraph(section.lead)) if part)
    return "\n\n".join(part for part in (opening, *map(_block, section.blocks)) if part)


def _block(block: Block) -> str:
    match block:
        case Note():
            return _paragraph(("Beware: " if block.is_warning else "") + block.text)
        case Facts():
            return "\n".join(line for fact in block.facts for line in _fact(fact))
        case Table():
            return _table(block)
        case BarChart() | IntervalChart() | LineChart() | Icicle():
            return _table(block.table())


def _fact(fact: Fact) -> Iterator[str]:
    interval = f" ({fact.interval})" if fact.interval else ""
    yield from _wrapped(f"{fact.title}: {fact.figure.text}{interval}", indent="")
    for text in (fact.figure.note, fact.meaning, fact.basis, fact.caveat):
        yield from _wrapped(text, indent="    ")


def _table(table: Table) -> str:
    if not table.rows and not table.empty:
        return ""
    lines = [table.title] if table.title else []
    if not table.rows:
        return "\n".join([*lines, f"  {table.empty}"])
    shown = table.rows[:_MAX_ROWS]
    lines += _rows(shown, table)
    hidden = table.hidden + len(table.rows) - len(shown)
    if hidden:
        lines.append(f"  and {count(hidden)} more")
    return "\n".join([*lines, *(line for note in table.notes for line in _wrapped(note, indent="  "))])


def _rows(rows: Sequence[tuple[Cell, ...]], table: Table) -> list[str]:
    """Columns where they fit, else a paragraph for each row."""
    narrow = [index for index, column in enumerate(table.columns) if not column.is_wordy]
    header = [table.columns[index].name for index in narrow]
    lines = aligned(header, [[row[index].text for index in narrow] for row in rows])
    is_list = len(narrow) == 1 < len(table.columns)
    if (
        not is_list
        and max(map(display_width, lines)) <= WIDTH
        and all(row[0].text in line for row, line in zip(rows, lines[1:], strict=True))
    ):
        return [*lines, *(line for row in rows for line in _remarks(row, table))]
    return [line for row in rows for line in _stacked(row, table)]


def _stacked(row: tuple[Cell, ...], table: Table) -> Iterator[str]:
    yield from _wrapped(row[0].text or "-", indent="  ")
    named = [(column.name, cell) for column, cell in zip(table.columns[1:], row[1:], strict=True) if cell.text]
    cells = "; ".join(f"{name}: {cell.text}" if name else cell.text for name, cell in named)
    yield from _wrapped(cells, indent="    ")
    yield from (line for cell in row for line in _wrapped(cell.note, indent="    "))


def _remarks(row: tuple[Cell, ...], table: Table) -> Iterator[str]:
    """What does not fit into columns: sentences, below the table and named after their row."""
    for cell, column in zip(row, table.columns, strict=True):
        if column.is_wordy and cell.text:
            yield from _wrapped(f"{row[0].text}: {cell.text}", indent="    ")
        if cell.note:
            yield from _wrapped(f"{row[0].text}: {cell.note}", indent="    ")


def _paragraph(text: str) -> str:
    return "\n".join(_wrapped(text, indent=""))


def _wrapped(text: str, *, indent: str) -> Iterator[str]:
    hanging = indent + "  " if indent else ""
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False)
