"""What changed between two runs of the same tasks, on a page of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tokenomics_plugin.pages.reporter import Report
from tokenomics_plugin.pages.words import columns, text
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report.comparison import Change, Comparison, compare
from tokenomics_plugin.report.document import Cell, Note, Page, Section, Table
from tokenomics_plugin.report.summary import summarize
from tokenomics_plugin.report.wording import counted
from tokenomics_plugin.store import TraceStore

__all__ = ["comparison_page", "make_comparison"]


def make_comparison(before: str | os.PathLike[str], after: str | os.PathLike[str], prices: PriceBook) -> Report:
    """What changed from one store to another; the report's summary is that of the later one.

    Raises:
        StoreError: If one is missing, stays locked, or is not a store.
    """
    with TraceStore(before, read_only=True) as first, TraceStore(after, read_only=True) as second:
        earlier, later = summarize(first, prices), summarize(second, prices)
    return Report(summary=later, pages=(comparison_page(compare(earlier.tasks, later.tasks)),))


def comparison_page(comparison: Comparison) -> Page:
    """The figures of the paired tasks, before and after."""
    return Page(
        id="comparison",
        title="What changed",
        lead=_lead(comparison),
        sections=(
            Section(
                id="changes",
                title="The same tasks, before and after",
                lead="Each task is compared with itself. Intervals hold with 95% confidence; a change whose interval "
                "holds no change (0, or 1.00 times) may be chance.",
                blocks=(
                    Table(
                        id="changes",
                        title="Figures",
                        columns=columns("", "Before", "After", "Change", "95% interval", "Tasks"),
                        rows=tuple(map(_row, comparison.changes)),
                    ),
                    Note(text=_flips(comparison)),
                    *(Note(text=line) for line in _withheld(comparison)),
                ),
            ),
        ),
        sources="Intervals treat tasks of one group as one draw: Student's for the net value, Tango's for the success "
        "rate where each task is its own draw, bootstrap of both runs together for ratios.",
    )


def _lead(comparison: Comparison) -> str:
    left_out = f"; {counted(comparison.unpaired, 'task')} without a partner left out" if comparison.unpaired else ""
    return f"{counted(comparison.pairs, 'task')} judged both times{left_out}."


def _flips(comparison: Comparison) -> str:
    chance = "" if comparison.p_value is None else f" (exact McNemar test: p = {comparison.p_value:.2g})"
    return f"{comparison.repaired} failed before and succeeded after, {comparison.broken} the other way round{chance}."


def _withheld(comparison: Comparison) -> Iterator[str]:
    """Why changes are not estimated, one sentence for all that share a reason."""
    titles: dict[str, list[str]] = {}
    for change in comparison.changes:
        if change.withheld:
            titles.setdefault(change.withheld, []).append(change.kind.title)
    return (f"{', '.join(about)}: {reason}." for reason, about in titles.items())


def _row(change: Change) -> tuple[Cell, ...]:
    form = change.kind.form

    def side(value: float | None) -> Cell:
        return Cell(text="-") if value is None else Cell(text=form(value), value=value)

    estimate, limits = "-", "not estimated"
    if change.change is not None:
        estimate = _signed(change, change.change.point)
        low, high = change.change.interval.low, change.change.interval.high
        limits = f"{_signed(change, low)} to {_signed(change, high)}"
    point = None if change.change is None else change.change.point
    return (
        text(change.kind.title),
        side(change.before),
        side(change.after),
        Cell(text=estimate, value=point),
        Cell(text=limits),
        Cell(text=str(change.tasks), value=change.tasks),
    )


def _signed(change: Change, value: float | None) -> str:
    if value is None:
        return "no limit"
    if change.is_ratio:
        return f"{value:.2f} times"
    return f"{'+' if value >= 0 else '-'}{change.kind.form(abs(value))}"
