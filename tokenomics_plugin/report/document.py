"""What a report's page is made of: sections of facts, tables and charts, as data.

Text, JSON and HTML are renderings of one `Page`, so they carry the same figures by construction. Every chart is a
table too: that is what a terminal and a screen reader get. A cell has the text that a person reads and the value
behind it; a link says which view of the store shows more, and only live pages can follow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Axis",
    "Bar",
    "BarChart",
    "Block",
    "Cell",
    "Chart",
    "Column",
    "Fact",
    "Facts",
    "Icicle",
    "Interval",
    "IntervalChart",
    "Line",
    "LineChart",
    "Link",
    "Node",
    "Note",
    "Page",
    "Part",
    "Point",
    "Rule",
    "Section",
    "Shade",
    "Table",
    "Value",
]

Value = str | int | float | bool | None
"""What JSON can say of a cell; `None` for what is unknown. Money is the text of its exact decimal."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A view of the store."""

    view: str
    """`finance`, `engineering`, `developer`, `runs`, `findings`, `tasks` or `trace`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Its filters, such as `{"cause": "D1"}`, or what it is about, such as `{"trace_id": ..., "span_id": ...}`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure or name."""

    text: str
    """What a person reads; a name that comes from a trace was made `visible` before."""
    value: Value = None
    """What a program reads: a number of which `text` is the rounded form, or the name as it was recorded."""
    link: Link | None = None
    """Where more of it is."""
    note: str = ""
    """A remark below it, a few words."""


class Shade(StrEnum):
    """What a colour stands for; the page's style sheet has one for each."""

    ACCENT = "accent"
    PRODUCTIVE = "productive"
    OVERHEAD = "overhead"
    UNKNOWN = "unknown"
    WASTE_A = "waste_a"
    WASTE_B = "waste_b"
    WASTE_C = "waste_c"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HARMFUL = "harmful"
    PENDING = "pending"
    UNLABELLED = "unlabelled"
    INPUT = "input"
    CACHE_WRITE = "cache_write"
    CACHE_READ = "cache_read"
    OUTPUT = "output"
    REASONING = "reasoning"
    MUTED = "muted"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure that stands for itself."""

    title: str
    """What it is, a few words."""
    figure: Cell
    """The estimate, or why there is none ("not estimated")."""
    interval: str = ""
    """Its interval in words; empty when there is none."""
    meaning: str = ""
    """What it says, in a sentence without jargon."""
    basis: str = ""
    """What it was made of."""
    caveat: str = ""
    """Why to trust it little; empty when there is no reason."""
    details: Mapping[str, Value] = field(default_factory=dict)
    """What a program reads beside the estimate: `low`, `high`, `numerator`, `denominator`…"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Figures side by side, the weightiest first."""

    id: str
    """Names it in JSON and in the page, unique on the page: small letters, digits and hyphens."""
    facts: tuple[Fact, ...]
    """The figures."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    """Its header; empty for the names in front."""
    is_wordy: bool = False
    """Whether it has sentences: to the left, and wrapped."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, the first of each row its name."""

    id: str
    """As `Facts.id`."""
    title: str
    """Its caption."""
    columns: tuple[Column, ...]
    """One for each cell of a row."""
    rows: tuple[tuple[Cell, ...], ...]
    """The rows."""
    hidden: int = 0
    """Rows that were left out."""
    more: Link | None = None
    """Where all rows are."""
    notes: tuple[str, ...] = ()
    """Sentences below."""
    empty: str = ""
    """What to say when there are no rows; empty to leave the table out."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.id!r} has {len(self.columns)} columns, got a row of {len(row)} cells")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a bar."""

    shade: Shade
    """What it stands for."""
    size: float
    """Its length, in the unit of the chart; at least 0."""
    figure: Cell
    """The same in words."""
    label: str
    """What it is called in the legend and the table."""
    is_hatched: bool = False
    """Drawn with hatching: likely rather than certain, or in failed runs."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of parts laid end to end."""

    name: Cell
    """What it is about."""
    figure: Cell
    """Its sum, beside its name."""
    parts: tuple[Part, ...]
    """From the start of the axis on."""
    start: float = 0.0
    """Where it begins: waterfalls begin where the bar before ended."""


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Bars from the left, on one scale."""

    id: str
    """As `Facts.id`."""
    title: str
    """Its caption."""
    description: str
    """What it shows, a sentence; read out in place of the drawing."""
    bars: tuple[Bar, ...]
    """The bars."""
    has_legend: bool = True
    """Whether the parts' labels are explained."""
    empty: str = ""
    """What to say when there are no bars; empty to leave the chart out."""

    def table(self) -> Table:
        """The same in rows: a bar each with a column for each label, or a part each where there are many labels."""
        labels = tuple(dict.fromkeys(part.label for bar in self.bars for part in bar.parts))
        is_long = len(labels) > _MAX_PART_COLUMNS
        return Table(
            id=f"{self.id}-table",
            title=self.title,
            columns=_PART_COLUMNS if is_long else _bar_columns(labels),
            rows=tuple(_part_rows(self.bars) if is_long else _bar_rows(self.bars, labels)),
            empty=self.empty,
        )


_MAX_PART_COLUMNS = 3
_PART_COLUMNS = (Column(name=""), Column(name="Part"), Column(name="Amount"), Column(name="Total"))


def _bar_columns(labels: Sequence[str]) -> tuple[Column, ...]:
    shown = labels if len(labels) > 1 else ()
    return (Column(name=""), *(Column(name=label) for label in shown), Column(name="Total"))


def _bar_rows(bars: Sequence[Bar], labels: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    shown = labels if len(labels) > 1 else ()
    yield from ((bar.name, *(_part(bar, label) for label in shown), bar.figure) for bar in bars)


def _part_rows(bars: Sequence[Bar]) -> Iterator[tuple[Cell, ...]]:
    for bar in bars:
        for place, part in enumerate(bar.parts):
            total = Cell(text="") if place else bar.figure
            yield bar.name, Cell(text=part.label, value=part.label), part.figure, total


def _part(bar: Bar, label: str) -> Cell:
    return next((part.figure for part in bar.parts if part.label == label), Cell(text="-"))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How numbers are written along an axis."""

    title: str
    """What is measured, with its unit."""
    form: str = "number"
    """`number`, `usd`, `percent` or `date` (nanoseconds since the epoch)."""
    is_log: bool = False
    """Whether it is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval."""

    name: Cell
    """What it is about."""
    estimate: float | None
    """The dot; `None` when withheld."""
    low: float | None
    """The lower end; `None` for no limit, or no interval."""
    high: float | None
    """The upper end; the same."""
    figure: Cell
    """Estimate and interval in words."""
    bounds: tuple[float | None, float | None] | None = None
    """What it may become once missing outcomes arrive."""


@dataclass(frozen=True, kw_only=True)
class IntervalChart:
    """Estimates below each other, on one axis."""

    id: str
    """As `Facts.id`."""
    title: str
    """Its caption."""
    description: str
    """As `BarChart.description`."""
    axis: Axis
    """The axis below."""
    rows: tuple[Interval, ...]
    """The estimates."""
    rule: Rule | None = None
    """A line across, such as the worth of a success."""
    empty: str = ""
    """As `BarChart.empty`."""

    def table(self) -> Table:
        """The same in rows."""
        return Table(
            id=f"{self.id}-table",
            title=self.title,
            columns=(Column(name=""), Column(name="Estimate, 95% confidence")),
            rows=tuple((row.name, row.figure) for row in self.rows),
            empty=self.empty,
        )


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a line."""

    x: float
    """Along the horizontal axis."""
    y: float
    """Along the vertical one."""
    low: float | None = None
    """Lower end of y's interval."""
    high: float | None = None
    """Upper end of y's interval."""
    name: Cell | None = None
    """What it is, such as a model of the frontier."""
    cells: tuple[Cell, ...] = ()
    """What the table says of it, one for each of `LineChart.columns`."""
    is_quiet: bool = False
    """Drawn grey: dominated, or too few tasks."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points that belong together."""

    name: str
    """In the legend."""
    points: tuple[Point, ...]
    """From left to right."""
    is_connected: bool = True
    """Whether a line joins them; quiet points are never joined."""
    is_step: bool = False
    """Whether it stays at a height until the next point."""
    shade: Shade = Shade.ACCENT
    """Its colour."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A straight line across a chart."""

    at: float
    """Where."""
    name: str
    """What it is."""
    is_vertical: bool = False
    """Whether `at` is on the horizontal axis."""


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Points and lines in a plane."""

    id: str
    """As `Facts.id`."""
    title: str
    """Its caption."""
    description: str
    """As `BarChart.description`."""
    x: Axis
    """The horizontal axis."""
    y: Axis
    """The vertical axis."""
    lines: tuple[Line, ...]
    """What is drawn."""
    columns: tuple[Column, ...]
    """Of its table: the points' names, then one for each of their cells."""
    rules: tuple[Rule, ...] = ()
    """Lines across."""
    notes: tuple[str, ...] = ()
    """Sentences below its table."""
    empty: str = ""
    """As `BarChart.empty`."""

    def table(self) -> Table:
        """The same in rows, point by point."""
        points = [point for line in self.lines for point in line.points]
        return Table(
            id=f"{self.id}-table",
            title=self.title,
            columns=self.columns,
            rows=tuple((point.name or Cell(text=f"{point.x:g}", value=point.x), *point.cells) for point in points),
            notes=self.notes,
            empty=self.empty,
        )


@dataclass(frozen=True, kw_only=True)
class Node:
    """A span of an icicle."""

    id: str
    """Its span id."""
    parent: str | None
    """The node above; `None` for a root."""
    name: Cell
    """What it is."""
    size: float
    """What it cost with all below it."""
    figure: Cell
    """The same in words."""
    shade: Shade
    """What it was for, mostly."""
    is_hatched: bool = False
    """Whether the waste in it is likely rather than certain."""
    cells: tuple[Cell, ...] = ()
    """What the table says of it, one for each of `Icicle.columns` after the first."""


@dataclass(frozen=True, kw_only=True)
class Icicle:
    """A tree whose widths add up."""

    id: str
    """As `Facts.id`."""
    title: str
    """Its caption."""
    description: str
    """As `BarChart.description`."""
    nodes: tuple[Node, ...]
    """The nodes, each after its parent."""
    columns: tuple[Column, ...]
    """Of its table: names, then costs, then one for each of the nodes' cells."""
    hidden: int = 0
    """Nodes that were left out."""
    empty: str = ""
    """As `BarChart.empty`."""

    def table(self) -> Table:
        """The same in rows, indented by depth."""
        depth: dict[str, int] = {}
        rows = []
        for node in self.nodes:
            level = depth[node.id] = 0 if node.parent is None else depth[node.parent] + 1
            name = Cell(text="\u2003" * level + node.name.text, value=node.name.value, link=node.name.link)
            rows.append((name, node.figure, *node.cells))
        return Table(
            id=f"{self.id}-table",
            title=self.title,
            columns=self.columns,
            rows=tuple(rows),
            hidden=self.hidden,
            empty=self.empty,
        )


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something to know before the figures are read."""

    text: str
    """A sentence or two."""
    is_warning: bool = False
    """Whether it keeps the figures from being trusted."""


Chart = BarChart | IntervalChart | LineChart | Icicle
"""What is drawn; each has a `table` of the same figures."""
Block = Facts | Table | Chart | Note
"""What sections are made of."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question of the reader, and its answer."""

    id: str
    """As `Facts.id`."""
    title: str
    """The question in short."""
    lead: str
    """The answer in one or two sentences."""
    blocks: tuple[Block, ...]
    """What shows it."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that one reader wants to know."""

    id: str
    """`finance`, `engineering`, `developer`, or a view's."""
    title: str
    """In the navigation and the window's title."""
    lead: str
    """What it covers: period, traces, tasks."""
    sections: tuple[Section, ...]
    """From the question that matters most on."""
    sources: str = ""
    """Where money and intervals come from."""
