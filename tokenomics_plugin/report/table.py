"""Plain-text tables: columns aligned by what a terminal shows, no line wider than the screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["WIDTH", "aligned", "display_width"]

WIDTH = 100
"""Columns of the screen that reports are made for."""
_GAP = "  "
_LEAST_NAME_WIDTH = 12


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "  ") -> list[str]:
    """Lines of a table: the first column to the left and cut to fit, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(header))]
    others = sum(widths[1:]) + len(_GAP) * (len(widths) - 1) + len(indent)
    widths[0] = min(widths[0], max(_LEAST_NAME_WIDTH, WIDTH - others))
    return [indent + _line(line, widths) for line in lines]


def display_width(text: str) -> int:
    """Terminal columns that a text takes: two for wide East Asian characters, none for combining ones."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name = _cut(cells[0], widths[0])
    first = name + " " * (widths[0] - display_width(name))
    rest = (" " * (width - display_width(cell)) + cell for cell, width in zip(cells[1:], widths[1:], strict=True))
    return _GAP.join([first, *rest]).rstrip()


def _cut(text: str, width: int) -> str:
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return text + "…"
