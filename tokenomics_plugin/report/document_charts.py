"""What a page draws: plain data of each chart, from which `page/page.js` makes Plotly figures.

Nothing is computed here but scales. Names are still text: the page escapes them where it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tokenomics_plugin.report.document import (
    Axis,
    Bar,
    BarChart,
    Chart,
    Icicle,
    Interval,
    IntervalChart,
    Line,
    LineChart,
    Link,
    Node,
    Point,
    Rule,
)

__all__ = ["Addresses", "chart_data"]

Addresses = Callable[[Link], str | None]
"""Where a link leads: a URL, or `None` where no such view is."""

_Data = dict[str, Any]


def chart_data(chart: Chart, address: Addresses) -> _Data:
    """A chart, ready for JSON."""
    match chart:
        case BarChart():
            return {"kind": "bars", "rows": [_bar(bar) for bar in chart.bars], "scale": _longest(chart.bars)}
        case IntervalChart():
            rule = None if chart.rule is None else _rule(chart.rule)
            return {"kind": "intervals", "axis": _axis(chart.axis), "rows": [*map(_interval, chart.rows)], "rule": rule}
        case LineChart():
            return {
                "kind": "lines",
                "x": _axis(chart.x),
                "y": _axis(chart.y),
                "lines": [_line(line) for line in chart.lines],
                "rules": [_rule(rule) for rule in chart.rules],
            }
        case Icicle():
            return {"kind": "icicle", "nodes": [_node(node, address) for node in chart.nodes]}


def _longest(bars: Iterable[Bar]) -> float:
    return max((bar.start + sum(part.size for part in bar.parts) for bar in bars), default=0.0)


def _bar(bar: Bar) -> _Data:
    parts = [
        {
            "shade": part.shade.value,
            "size": part.size,
            "label": part.label,
            "text": part.figure.text,
            "hatched": part.is_hatched,
        }
        for part in bar.parts
    ]
    return {"name": bar.name.text, "value": bar.figure.text, "start": bar.start, "parts": parts}


def _axis(axis: Axis) -> _Data:
    return {"title": axis.title, "form": axis.form, "log": axis.is_log}


def _rule(rule: Rule) -> _Data:
    return {"at": rule.at, "name": rule.name, "vertical": rule.is_vertical}


def _interval(row: Interval) -> _Data:
    return {
        "name": row.name.text,
        "text": row.figure.text,
        "estimate": row.estimate,
        "low": row.low,
        "high": row.high,
        "bounds": None if row.bounds is None else list(row.bounds),
    }


def _line(line: Line) -> _Data:
    points = [_point(point) for point in line.points]
    return {
        "name": line.name,
        "shade": line.shade.value,
        "connected": line.is_connected,
        "step": line.is_step,
        "points": points,
    }


def _point(point: Point) -> _Data:
    details = [cell.text for cell in point.cells]
    name = "" if point.name is None else point.name.text
    return {
        "x": point.x,
        "y": point.y,
        "low": point.low,
        "high": point.high,
        "name": name,
        "details": details,
        "quiet": point.is_quiet,
    }


def _node(node: Node, address: Addresses) -> _Data:
    return {
        "id": node.id,
        "parent": node.parent or "",
        "name": node.name.text,
        "size": node.size,
        "text": node.figure.text,
        "shade": node.shade.value,
        "hatched": node.is_hatched,
        "details": [cell.text for cell in node.cells],
        "href": None if node.name.link is None else address(node.name.link),
    }
