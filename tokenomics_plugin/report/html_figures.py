"""What the page's figures draw: plain data, from which `page/page.js` makes Plotly figures.

Nothing is computed here but shares and scales. Names are still text: the page escapes them where it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tokenomics_plugin.pricing import TOKEN_CLASSES
from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.headline import COST_PER_SUCCESS, SUCCESS_RATE, FigureKind
from tokenomics_plugin.report.spend import Spend
from tokenomics_plugin.report.summary import GroupSummary, Summary
from tokenomics_plugin.report.task import TaskStatus
from tokenomics_plugin.report.wording import (
    NAMELESS_AGENT,
    NAMELESS_MODEL,
    NAMELESS_TOOL,
    TOKEN_CLASS_NAMES,
    count,
    counted,
    group_name,
    spend_cost,
    spend_tokens,
    usd,
)

__all__ = ["figure_data"]

_MAX_ROWS: Final = 8
_Row = dict[str, Any]


def figure_data(summary: Summary) -> dict[str, Any]:
    """The data of all figures, ready for JSON."""
    rates = _compared(summary, summary.success_rate, lambda group: group.success_rate)
    prices = _compared(summary, summary.cost_per_success, lambda group: group.cost_per_success)
    price_scale = _scale([figure for _, figure in prices])
    parties = {
        "plot-agents": _costs(summary.agents, NAMELESS_AGENT),
        "plot-models": _costs(summary.models, NAMELESS_MODEL),
        "plot-tools": _costs([group for group in summary.tools if group.spend.calls], NAMELESS_TOOL),
    }
    return {
        "statuses": [status.value for status in TaskStatus],
        "token_classes": list(TOKEN_CLASSES),
        "cost_scale": max((row["cost"] for rows in parties.values() for row in rows), default=0),
        "cost_per_success_scale": price_scale,
        "plots": {
            "plot-outcomes": _outcomes(summary),
            "plot-success": [_estimate(name, figure, SUCCESS_RATE, 1.0) for name, figure in rates],
            "plot-cost-per-success": [
                _estimate(name, figure, COST_PER_SUCCESS, price_scale) for name, figure in prices
            ],
            **parties,
            "plot-tokens": _tokens(summary.models),
        },
    }


def _outcomes(summary: Summary) -> list[_Row]:
    counts = [(row.tasks, counted(row.tasks, "task")) for row in summary.statuses]
    costs = [(float(row.spend.priced_cost_usd), spend_cost(row.spend)) for row in summary.statuses]
    rows = (
        _whole("Tasks", counted(summary.coverage.tasks, "task"), counts),
        _whole("Cost", spend_cost(summary.total), costs),
    )
    return [row for row in rows if row is not None]


def _whole(name: str, value: str, parts: Sequence[tuple[float, str]]) -> _Row | None:
    """One bar of shares, by status; `None` when there is nothing to share."""
    whole = sum(size for size, _ in parts)
    if not whole:
        return None
    return {
        "name": name,
        "value": value,
        "parts": [
            {"share": size / whole, "percent": f"{size / whole:.0%}", "detail": f"{status.value}: {words}"}
            for status, (size, words) in zip(TaskStatus, parts, strict=True)
        ],
    }


def _compared(
    summary: Summary, all_tasks: Figure, figure: Callable[[GroupSummary], Figure]
) -> list[tuple[str, Figure]]:
    """All tasks, then the agents and models with an estimate, where there are several to compare."""
    if not summary.tasks:
        return []
    rows = [("All tasks", all_tasks)]
    for groups, nameless in ((summary.agents, NAMELESS_AGENT), (summary.models, NAMELESS_MODEL)):
        if len(groups) > 1:
            named = [(group_name(group, nameless=nameless), figure(group)) for group in groups[:_MAX_ROWS]]
            rows += [(name, found) for name, found in named if found.estimate is not None]
    return rows


def _scale(figures: Iterable[Figure]) -> float:
    """Where an axis ends: all estimates fit, and intervals do unless they are far longer."""
    shown = [figure for figure in figures if figure.estimate is not None]
    most = max((figure.estimate or 0 for figure in shown), default=0)
    highs = [figure.confidence.high for figure in shown if figure.confidence and figure.confidence.high is not None]
    return min(max([most, *highs]), 3 * most) * 1.05 or 1.0


def _estimate(name: str, figure: Figure, kind: FigureKind, scale: float) -> _Row:
    limits, words = figure.confidence, kind.words(figure)
    return {
        "name": name,
        "value": words.value or "not estimated",
        "quiet": bool(words.note),
        "estimate": figure.estimate,
        "interval": None if limits is None else _drawn(limits.low, limits.high, scale),
        "bounds": _drawn(figure.bounds.low, figure.bounds.high, scale) if words.bounds and figure.bounds else None,
        "open": limits is not None and (limits.high is None or limits.high > scale),
        "detail": f"{words.interval} ({words.basis})",
    }


def _drawn(low: float | None, high: float | None, scale: float) -> list[float]:
    """The part of a range that is on the axis, from 0 to `scale`."""
    # Of two rays, the one below 0 is off the axis: what begins at `low` goes on to the end.
    begin = min(max(low or 0.0, 0.0), scale)
    return [begin, scale if high is None or high < begin else min(high, scale)]


def _costs(groups: Sequence[GroupSummary], nameless: str) -> list[_Row]:
    rows = [
        {
            "name": group_name(group, nameless=nameless),
            "value": spend_cost(group.spend),
            "cost": float(group.spend.priced_cost_usd),
            "detail": f"{counted(group.spend.calls, 'call')}, {spend_tokens(group.spend)} tokens",
        }
        for group in groups[:_MAX_ROWS]
    ]
    others = groups[_MAX_ROWS:]
    if others:
        cost = sum(float(group.spend.priced_cost_usd) for group in others)
        rows.append({"name": f"{count(len(others))} more", "value": usd(cost), "cost": cost, "detail": ""})
    return rows


def _tokens(models: Sequence[GroupSummary]) -> list[_Row]:
    used = [group for group in models if group.spend.tokens.total]
    return [
        {
            "name": group_name(group, nameless=NAMELESS_MODEL),
            "value": spend_tokens(group.spend),
            "classes": _classes(group.spend),
        }
        for group in used[:_MAX_ROWS]
    ]


def _classes(spend: Spend) -> list[_Row]:
    found = ((name, getattr(spend.tokens, name)) for name in TOKEN_CLASSES)
    return [{"tokens": tokens, "detail": f"{TOKEN_CLASS_NAMES[name]}: {count(tokens)}"} for name, tokens in found]
