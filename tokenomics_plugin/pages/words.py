"""Cells and facts in the report's own words, for all pages."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tokenomics_plugin.report.document import Cell, Column, Fact, Interval, Link
from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.headline import FigureKind
from tokenomics_plugin.report.spend import Spend
from tokenomics_plugin.report.wording import UNKNOWN, count, percent, spend_cost, spend_tokens, usd
from tokenomics_plugin.resampling import Estimate
from tokenomics_plugin.statistics import ConfidenceSet, Range, SetShape

__all__ = [
    "amount",
    "columns",
    "cost",
    "estimated_usd",
    "fact",
    "figure_row",
    "number",
    "range_words",
    "share",
    "span_cell",
    "spent",
    "text",
    "tokens",
]


def text(words: str, link: Link | None = None) -> Cell:
    """Words that are their own value."""
    return Cell(text=words, value=words, link=link)


def number(value: int | None) -> Cell:
    """A count."""
    return Cell(text=UNKNOWN) if value is None else Cell(text=count(value), value=value)


def amount(value: Decimal | float | None) -> Cell:
    """US dollars; exact ones keep every digit as a value."""
    if value is None:
        return Cell(text=UNKNOWN)
    return Cell(text=usd(value), value=str(value) if isinstance(value, Decimal) else value)


def share(value: float | None) -> Cell:
    """A share of one."""
    return Cell(text=UNKNOWN) if value is None else Cell(text=percent(value), value=value)


def cost(known: Decimal | None, priced: Decimal) -> Cell:
    """What something cost: at least `priced`, where not every call has a price."""
    return amount(known) if known is not None or not priced else Cell(text=f"≥ {usd(priced)}")


def span_cell(trace_id: str, span_ids: Sequence[str] | None) -> Cell:
    """Spans of a trace: the first one, and how many more."""
    ids = span_ids or ()
    more = f" and {count(len(ids) - 1)} more" if len(ids) > 1 else ""
    link = Link(view="trace", parameters={"trace_id": trace_id, "span_id": ids[0]}) if ids else None
    return Cell(text="".join(ids[:1]) + more, value=" ".join(ids) or None, link=link)


def spent(spend: Spend) -> Cell:
    """What some spans cost."""
    return Cell(text=spend_cost(spend), value=None if spend.cost_usd is None else str(spend.cost_usd))


def tokens(spend: Spend) -> Cell:
    """Tokens of some spans."""
    known = spend.calls_with_usage == spend.calls
    return Cell(text=spend_tokens(spend), value=spend.tokens.total if known else None)


def columns(*names: str, wordy: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Columns of a table, those in `wordy` with sentences."""
    return tuple(Column(name=name, is_wordy=name in wordy) for name in names)


def range_words(limits: Range) -> str:
    """An interval of dollars."""
    if limits.low == limits.high == 0:
        return "nothing"
    if limits.low is None and limits.high is None:
        return "anything"
    if limits.high is None:
        return f"{usd(limits.low or 0)} or more"
    return f"up to {usd(limits.high)}" if limits.low is None else f"{usd(limits.low)} to {usd(limits.high)}"


def estimated_usd(estimate: Estimate) -> Cell:
    """An estimate of dollars with its interval."""
    return Cell(text=f"{usd(estimate.point)} ({range_words(estimate.interval)})", value=estimate.point)


def fact(kind: FigureKind, figure: Figure) -> Fact:
    """A figure of the summary, with all that it says of itself."""
    words = kind.words(figure)
    open_tasks = f" {words.bounds} once the open tasks end." if words.bounds else ""
    confidence = figure.confidence
    return Fact(
        title=words.title,
        figure=Cell(text=words.value or "not estimated", value=figure.estimate),
        interval=words.interval,
        meaning=words.meaning,
        basis=f"{words.basis}.{open_tasks}",
        caveat=words.note,
        details={
            "low": None if confidence is None else confidence.low,
            "high": None if confidence is None else confidence.high,
            "numerator": str(figure.numerator),
            "denominator": str(figure.denominator),
            "tasks": figure.tasks,
            "clusters": figure.clusters,
            "left_out": figure.left_out,
            "missing": figure.missing,
        },
    )


def figure_row(name: Cell, kind: FigureKind, figure: Figure) -> Interval:
    """A figure as a row of a chart of intervals; where it is withheld, its counts."""
    words = kind.words(figure)
    shown = f"{words.value}, {words.interval}" if words.value else f"{words.basis}: {words.note}"
    low, high = _ends(figure.confidence)
    bounds = figure.bounds
    return Interval(
        name=name,
        estimate=figure.estimate,
        low=low,
        high=high,
        figure=Cell(text=shown, value=figure.estimate),
        bounds=None if bounds is None or not figure.missing else (bounds.low, bounds.high),
    )


def _ends(found: ConfidenceSet | None) -> tuple[float | None, float | None]:
    """What can be drawn of a set: of two rays the one above, where the other lies below 0 and says nothing."""
    if found is None or found.shape in (SetShape.INTERVAL, SetShape.AT_LEAST, SetShape.AT_MOST):
        return (None, None) if found is None else (found.low, found.high)
    is_ray = found.low is not None and found.high is not None and found.high <= 0 < found.low
    return (found.low, None) if is_ray else (None, None)
