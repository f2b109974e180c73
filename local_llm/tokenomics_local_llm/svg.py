"""Pieces of SVG that any browser shows: no plotting library is needed to make a chart, nor to look at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

__all__ = ["FAINT", "INK", "LABEL_HEIGHT", "apart", "document", "rule", "words"]

INK: Final = "#1a1a1a"
"""Of what is to be read."""
FAINT: Final = "#d9d9d9"
"""Of rules."""
LABEL_HEIGHT: Final = 15
"""Pixels between two labels that do not cover each other."""


def document(width: float, height: float, parts: Iterable[str]) -> str:
    """A whole document on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def words(x: float, y: float, content: str, *, anchor: str = "start", colour: str = INK, weight: str = "normal") -> str:
    """A line of text whose `anchor` is at a point."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(content)}</text>"
    )


def rule(x1: float, y1: float, x2: float, y2: float, *, colour: str = FAINT) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def apart(levels: Sequence[float], bottom: float) -> list[float]:
    """The places of labels, moved down where they would cover each other, and up again from the bottom."""
    placed, last = dict[int, float](), -float("inf")
    for index in sorted(range(len(levels)), key=levels.__getitem__):
        placed[index] = last = max(levels[index], last + LABEL_HEIGHT)
    last = bottom + LABEL_HEIGHT
    for index in sorted(placed, key=placed.__getitem__, reverse=True):
        placed[index] = last = min(placed[index], last - LABEL_HEIGHT)
    return [placed[index] for index in range(len(levels))]
