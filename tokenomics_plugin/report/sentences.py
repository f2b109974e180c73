"""What a summary says besides its figures, in sentences that the views for people share."""

from __future__ import annotations

from typing import Final

from tokenomics_plugin.pricing import Unpriced
from tokenomics_plugin.report.summary import AmountsByCurrency, Summary, UnpricedCalls
from tokenomics_plugin.report.wording import count, counted, instant, percent, spend_cost, spend_tokens

__all__ = [
    "amounts_line",
    "coverage_lines",
    "failed_calls_line",
    "harm_line",
    "opening_line",
    "period_line",
    "sources_line",
    "unpriced_reason",
]

_REASONS: Final = {
    Unpriced.USAGE_UNKNOWN: "the span does not say how many tokens it used",
    Unpriced.USAGE_INCONSISTENT: "the span's token counts contradict each other",
    Unpriced.MODEL_UNKNOWN: "no price is known for this model",
    Unpriced.DURATION_UNKNOWN: "the price is by the hour, and the span does not say how long it took",
    Unpriced.CLASS_UNPRICED: "the price lacks a class of tokens that was used",
}


def period_line(summary: Summary) -> str:
    """When the work was done."""
    if summary.start_unix_nano is None:
        return "No spans yet"
    return f"{instant(summary.start_unix_nano)} to {instant(summary.end_unix_nano)}"


def opening_line(summary: Summary) -> str:
    """What the report is about, in counts."""
    total = summary.total
    return (
        f"{counted(summary.coverage.tasks, 'task')}, {counted(summary.traces, 'trace')}, "
        f"{counted(total.spans, 'span')}, {counted(total.errors, 'error')}, "
        f"{counted(total.calls, 'model call')}, {spend_tokens(total)} tokens, "
        f"cost {spend_cost(total)}"
    )


def coverage_lines(summary: Summary) -> list[tuple[str, int, int]]:
    """How much of the work the figures know: (what, how many, of how many)."""
    coverage, total = summary.coverage, summary.total
    return [
        ("tasks judged", coverage.judged, coverage.tasks),
        ("tasks with spans", coverage.attempted, coverage.tasks),
        ("tasks with a known cost", coverage.tasks_with_cost, coverage.tasks),
        ("successes with a known value", coverage.successes_with_value, coverage.successes),
        ("model calls with a known cost", total.priced_calls, total.calls),
        ("model calls with token counts", total.calls_with_usage, total.calls),
    ]


def failed_calls_line(summary: Summary) -> str:
    """How many tasks failed model calls leave without a cost; empty when none."""
    tasks = summary.coverage.tasks_without_cost_for_failed_calls
    if not tasks:
        return ""
    return (
        f"Tasks without a known cost only because failed model calls reported no usage: {count(tasks)}. A refused "
        "call is not billed, one that broke off may be; the report does not guess which it was."
    )


def unpriced_reason(row: UnpricedCalls) -> str:
    """Why some calls have no cost."""
    return _REASONS[row.reason] + (f"; {count(row.failed)} of them failed" if row.failed else "")


def amounts_line(amounts: AmountsByCurrency) -> str:
    """What tasks brought and broke, in one currency."""
    judged = counted(amounts.tasks, "task")
    return f"Judged in {amounts.currency}, on {judged}: value {amounts.value:,f}, harm {amounts.harm:,f}."


def harm_line(summary: Summary) -> str:
    """How often tasks do harm at most; empty when no task is judged."""
    if summary.harmful_rate_limit is None:
        return ""
    return f"At most {percent(summary.harmful_rate_limit)} of tasks do harm, with 95% confidence."


def sources_line(summary: Summary) -> str:
    """Where money comes from."""
    prices = summary.prices
    return (
        f"List prices: {prices.list_prices}. A standard token is worth a fresh input token of "
        f"{prices.standard_reference} at the list prices of {prices.standard_date}."
    )
