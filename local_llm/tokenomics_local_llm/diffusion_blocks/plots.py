"""Charts of a run.

Blocks have an order, that of the layers, so their colours are steps of one scale, and each line is named at its end
rather than in a legend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal
from tokenomics_local_llm.svg import INK, LABEL_HEIGHT, apart, document, rule, words

__all__ = ["Line", "bar_chart", "line_chart", "losses_by_block"]

_WIDTH: Final = 720
_PLOT_WIDTH: Final = 520
_LEFT: Final = 60
_TOP: Final = 48
_PLOT_BOTTOM: Final = 356
_BAR_LEFT: Final = 260
_BAR_WIDTH: Final = 340
_BAR_PITCH: Final = 26
_BAR = "#2a6f97"
_FIRST_COLOUR, _LAST_COLOUR = (68, 30, 110), (60, 170, 120)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    """Stands at its end."""
    points: Sequence[tuple[float, float]]
    """In order."""
    hollow: frozenset[int] = frozenset()
    """Numbers of the points that are drawn as rings, each an exception."""
    colour: str = INK
    """As CSS writes it."""


def losses_by_block(journal: Journal) -> str:
    """A run's held-out loss after each attempt, and each block's training loss; rings are attempts rolled back."""
    attempts = list(enumerate(journal.attempts, start=1))
    blocks = sorted({block for _, attempt in attempts for block in attempt.blocks})
    rolled_back = frozenset(number for number, attempt in attempts if not attempt.kept)
    held_out = [(0.0, journal.base.held_out_loss), *((n, a.reading.held_out_loss) for n, a in attempts)]
    lines = [Line(name="held out", points=held_out, hollow=rolled_back)]
    for place, block in enumerate(blocks):
        points = [(float(n), _train_loss(attempt, block)) for n, attempt in attempts if block in attempt.blocks]
        lines.append(Line(name=f"block {block}", points=points, colour=_colour(place, len(blocks))))
    unit = "round" if any(len(attempt.blocks) > 1 for _, attempt in attempts) else "visit"
    return line_chart(lines, title="Loss by block, nats a token", across=f"{unit}; a ring was rolled back")


def line_chart(lines: Sequence[Line], *, title: str, across: str) -> str:
    """Lines over common axes.

    Args:
        lines: With at least one point in all.
        title: Says what goes upwards, with its unit.
        across: What goes to the right.

    Raises:
        ValueError: If there is no point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a chart needs a point, and these lines have none")
    xs, ys = _ticks(x for x, _ in points), _ticks(y for _, y in points)
    bottom = max(_PLOT_BOTTOM, _TOP + LABEL_HEIGHT * len(lines))  # room for the names at the lines' ends
    right, height = _LEFT + _PLOT_WIDTH, bottom + 44

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return _between(x, xs, _LEFT, right), _between(y, ys, bottom, _TOP)

    parts = [words(_LEFT, 24, title, weight="bold"), words((_LEFT + right) / 2, height - 8, across, anchor="middle")]
    for y in ys:
        level = place((xs[0], y))[1]
        parts += [rule(_LEFT, level, right, level), words(_LEFT - 8, level + 4, f"{y:g}", anchor="end")]
    parts += [words(place((x, ys[0]))[0], bottom + 18, f"{x:g}", anchor="middle") for x in xs]
    for line in lines:
        parts += _drawn(line, [place(point) for point in line.points])
    ends = [(line, place(line.points[-1])[1]) for line in lines if line.points]
    for (line, _), level in zip(ends, apart([level for _, level in ends], bottom), strict=True):
        parts.append(words(right + 12, level + 4, line.name, colour=line.colour))
    return document(_WIDTH, height, parts)


def bar_chart(bars: Mapping[str, float], *, title: str, unit: str, by: str) -> str:
    """Horizontal bars from 0, each with its name, its value and its ratio to one of them.

    Args:
        bars: By name.
        title: Says what is measured.
        unit: Of the values.
        by: The name of the bar that ratios are taken to.

    Raises:
        ValueError: If a bar is not above 0, or there is none of that name.
    """
    if by not in bars or min(bars.values()) <= 0:
        raise ValueError(f"bars must be above 0 and {by!r} one of them, got {dict(bars)}")
    longest = max(bars.values())
    parts = [words(12, 24, title, weight="bold")]
    for index, (name, value) in enumerate(bars.items()):
        top, length = _TOP + index * _BAR_PITCH, _BAR_WIDTH * value / longest
        parts += [
            words(_BAR_LEFT - 8, top + 13, name, anchor="end"),
            f'<rect x="{_BAR_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR_PITCH - 8}" fill="{_BAR}"/>',
            words(_BAR_LEFT + length + 6, top + 13, f"{value:.3g} {unit}, {value / bars[by]:.2f}"),
        ]
    return document(_WIDTH, _TOP + len(bars) * _BAR_PITCH + 12, parts)


def _train_loss(attempt: Attempt, block: int) -> float:
    return attempt.train_losses[attempt.blocks.index(block)]


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = [f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.5"/>']
    for number, ((x, y), (_, value)) in enumerate(zip(places, line.points, strict=True)):
        fill = "white" if number in line.hollow else line.colour
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{line.colour}" stroke-width="1.5">'
            f"<title>{escape(line.name)}: {value:.4g}</title></circle>"
        )
    return marks


def _ticks(values: Iterable[float]) -> list[float]:
    """Round numbers, ten at most, from the lowest value or less to the highest or more."""
    known = list(values)
    low, high = min(known), max(known)
    span = max(high - low, abs(high) * 1e-6) or 1.0
    step = 10.0 ** floor(log10(span / 4))
    step *= next(factor for factor in (1, 2, 5) if span / (step * factor) <= 7 or factor == 5)
    first, last = floor(low / step), -floor(-high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _between(value: float, ticks: Sequence[float], start: float, end: float) -> float:
    return start + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start)


def _colour(place: int, count: int) -> str:
    share = place / max(1, count - 1)
    mixed = (round(a + share * (b - a)) for a, b in zip(_FIRST_COLOUR, _LAST_COLOUR, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
