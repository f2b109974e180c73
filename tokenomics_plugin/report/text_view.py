"""The summary for a terminal: plain text, at most 100 columns, the figures that matter first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from tokenomics_plugin.report.conduct_words import conduct_sentence, conduct_tables
from tokenomics_plugin.report.headline import COST_PER_SUCCESS, SUCCESS_RATE, headline, notes
from tokenomics_plugin.report.sentences import (
    amounts_line,
    coverage_lines,
    failed_calls_line,
    harm_line,
    opening_line,
    period_line,
    sources_line,
    unpriced_reason,
)
from tokenomics_plugin.report.summary import GroupSummary, Summary
from tokenomics_plugin.report.table import WIDTH, aligned
from tokenomics_plugin.report.task import TaskSummary
from tokenomics_plugin.report.wording import (
    NAMELESS_AGENT,
    NAMELESS_MODEL,
    NAMELESS_TOOL,
    count,
    group_name,
    percent,
    spend_cost,
    spend_tokens,
    visible,
)

__all__ = ["render_text"]

_MAX_ROWS: Final = 10
_GROUP_HEADER: Final = ("name", "spans", "errors", "calls", "tokens", "cost", "tasks", "success rate", "cost/success")
_TASK_HEADER: Final = ("task", "outcome", "traces", "spans", "errors", "calls", "tokens", "cost", "value")


def render_text(summary: Summary) -> str:
    """The report, with a newline at its end."""
    sections = (
        _opening(summary),
        _headline(summary),
        _coverage(summary),
        _statuses(summary),
        _groups("Agents", summary.agents, NAMELESS_AGENT),
        _groups("Models", summary.models, NAMELESS_MODEL),
        _groups("Tools", summary.tools, NAMELESS_TOOL),
        _dearest(summary.tasks),
        *_conduct(summary),
        _unpriced(summary),
        _wrapped(sources_line(summary)),
    )
    filled = (lines for section in sections if (lines := list(section)))
    return "\n\n".join("\n".join(lines) for lines in filled) + "\n"


def _opening(summary: Summary) -> Iterator[str]:
    yield f"Tokenomics report: {period_line(summary)}"
    yield from _wrapped(opening_line(summary))


def _headline(summary: Summary) -> Iterator[str]:
    words = headline(summary)
    open_tasks = summary.coverage.tasks - summary.coverage.judged
    header = ("", "", "95% confidence", f"once {count(open_tasks)} open end")
    columns = len(header) if open_tasks else len(header) - 1
    rows = [(word.title, word.value or "withheld", word.interval, word.bounds)[:columns] for word in words]
    yield from aligned(header[:columns], rows, indent="")
    yield ""
    for word in words:
        yield from _wrapped(word.basis, indent=f"{word.title:35}")
    for note in notes(words):
        yield from _wrapped(note, indent="  ")


def _coverage(summary: Summary) -> Iterator[str]:
    yield "Coverage"
    yield from aligned(
        ("", "known", "of", ""),
        [
            (what, count(known), count(everything), percent(known / everything) if everything else "")
            for what, known, everything in coverage_lines(summary)
        ],
    )
    yield from _wrapped(failed_calls_line(summary), indent="  ")


def _statuses(summary: Summary) -> Iterator[str]:
    yield "Tasks by outcome"
    yield from aligned(
        ("outcome", "tasks", "calls", "tokens", "cost"),
        [
            (row.status, count(row.tasks), count(row.spend.calls), spend_tokens(row.spend), spend_cost(row.spend))
            for row in summary.statuses
        ],
    )
    yield from (f"  {line}" for line in (*map(amounts_line, summary.amounts), harm_line(summary)) if line)


def _groups(title: str, groups: Sequence[GroupSummary], nameless: str) -> Iterator[str]:
    if not groups:
        return
    yield title
    shown = groups[:_MAX_ROWS]
    yield from aligned(_GROUP_HEADER, [_group(group, nameless) for group in shown])
    yield from _more(len(groups) - len(shown))


def _group(group: GroupSummary, nameless: str) -> tuple[str, ...]:
    return (
        group_name(group, nameless=nameless),
        count(group.spend.spans),
        count(group.spend.errors),
        count(group.spend.calls),
        spend_tokens(group.spend),
        spend_cost(group.spend),
        count(group.tasks),
        SUCCESS_RATE.short(group.success_rate),
        COST_PER_SUCCESS.short(group.cost_per_success),
    )


def _dearest(tasks: Sequence[TaskSummary]) -> Iterator[str]:
    if not tasks:
        return
    yield "Dearest tasks"
    shown = tasks[:_MAX_ROWS]
    yield from aligned(_TASK_HEADER, [_task(task) for task in shown])
    yield from _more(len(tasks) - len(shown))


def _task(task: TaskSummary) -> tuple[str, ...]:
    return (
        visible(task.task_id),
        task.status,
        count(task.traces),
        count(task.spend.spans),
        count(task.spend.errors),
        count(task.spend.calls),
        spend_tokens(task.spend),
        spend_cost(task.spend),
        "" if task.value is None else f"{task.value:,f} {task.currency}",
    )


def _conduct(summary: Summary) -> Iterator[list[str]]:
    for table in conduct_tables(summary.conduct):
        shown = table.rows[:_MAX_ROWS]
        yield [
            table.title,
            *aligned(table.header, shown),
            *_more(len(table.rows) - len(shown)),
            *(line for note in table.notes for line in _wrapped(note, indent="  ")),
        ]
    yield list(_wrapped(conduct_sentence(summary.conduct)))


def _unpriced(summary: Summary) -> Iterator[str]:
    if not summary.unpriced:
        return
    yield "Calls without a cost"
    shown = summary.unpriced[:_MAX_ROWS]
    for row in shown:
        model = group_name(row, nameless=NAMELESS_MODEL)
        yield from _wrapped(f"{count(row.calls)} of {model}: {unpriced_reason(row)}", indent="  ")
    yield from _more(len(summary.unpriced) - len(shown))


def _more(hidden: int) -> Iterator[str]:
    if hidden:
        yield f"  and {count(hidden)} more"


def _wrapped(text: str, *, indent: str = "") -> Iterator[str]:
    """Lines of a paragraph, the first after `indent`, the others a little further in."""
    hanging = " " * (len(indent) + 2) if indent else ""
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False)
