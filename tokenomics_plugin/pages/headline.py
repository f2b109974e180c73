"""Whether it is worth it: the figures that matter first, against a person's price, and how sure they are."""

from __future__ import annotations

from decimal import Decimal

from tokenomics_plugin.pages.words import amount, fact, number, share, spent, text
from tokenomics_plugin.report.document import (
    Bar,
    BarChart,
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Link,
    Note,
    Part,
    Section,
    Shade,
    Table,
)
from tokenomics_plugin.report.headline import (
    COST_PER_SUCCESS,
    NET_VALUE_PER_TASK,
    SUCCESS_RATE,
    VALUE_PER_DOLLAR,
    VALUE_PER_MILLION_STANDARD_TOKENS,
)
from tokenomics_plugin.report.sentences import (
    amounts_line,
    coverage_lines,
    failed_calls_line,
    harm_line,
    unpriced_reason,
)
from tokenomics_plugin.report.summary import Summary
from tokenomics_plugin.report.task import TaskStatus
from tokenomics_plugin.report.wording import NAMELESS_MODEL, count, group_name, percent, usd

__all__ = ["coverage_section", "headline_section", "maturity_chart"]

_MAX_ROWS = 25
_SHADES = {
    TaskStatus.SUCCEEDED: Shade.SUCCEEDED,
    TaskStatus.FAILED: Shade.FAILED,
    TaskStatus.HARMFUL: Shade.HARMFUL,
    TaskStatus.PENDING: Shade.PENDING,
    TaskStatus.UNLABELLED: Shade.UNLABELLED,
}


def headline_section(summary: Summary, *, human_cost: Decimal | None) -> Section:
    """Net value, cost per success, success rate, return; and the break-even."""
    facts = (
        fact(NET_VALUE_PER_TASK, summary.net_value_per_task),
        fact(COST_PER_SUCCESS, summary.cost_per_success),
        fact(SUCCESS_RATE, summary.success_rate),
        fact(VALUE_PER_DOLLAR, summary.value_per_dollar),
        fact(VALUE_PER_MILLION_STANDARD_TOKENS, summary.value_per_million_standard_tokens),
    )
    blocks: list[Block] = [Facts(id="headline", facts=(*facts[:4], _break_even(summary, human_cost), facts[4]))]
    blocks.append(maturity_chart(summary))
    blocks += [Note(text=line) for line in (*map(amounts_line, summary.amounts), harm_line(summary)) if line]
    return Section(
        id="worth",
        title="Is it worth its cost?",
        lead="Net value first: it counts what failures cost and what they broke. Intervals hold with 95% confidence; a "
        "figure that rests on too little is not estimated.",
        blocks=tuple(blocks),
    )


def maturity_chart(summary: Summary) -> BarChart:
    """All tasks and all money, by how the tasks ended."""
    return BarChart(
        id="outcomes",
        title="Where the tasks ended, and where the money went",
        description="Shares of all tasks and of all their cost, by outcome. What is pending or unlabelled may still "
        "turn out either way.",
        bars=tuple(bar for bar in (_tasks_bar(summary), _money_bar(summary)) if bar.parts),
        empty="There are no tasks yet.",
    )


def coverage_section(summary: Summary) -> Section:
    """How much of the work the figures know."""
    blocks: list[Block] = [
        Table(
            id="coverage",
            title="What is known",
            columns=(Column(name=""), Column(name="Known"), Column(name="Of"), Column(name="Share")),
            rows=tuple(
                (text(what), number(known), number(everything), share(known / everything if everything else None))
                for what, known, everything in coverage_lines(summary)
            ),
        )
    ]
    if line := failed_calls_line(summary):
        blocks.append(Note(text=line))
    if summary.unpriced:
        blocks.append(_unpriced(summary))
    return Section(
        id="coverage",
        title="How much of the work these figures know",
        lead="What is not known is left out of both sides of a figure, and never counted as zero.",
        blocks=tuple(blocks),
    )


def _break_even(summary: Summary, human_cost: Decimal | None) -> Fact:
    """Cost per success against what a person costs; without that price, what a success must be worth."""
    figure = summary.cost_per_success
    if figure.estimate is None:
        return Fact(title="Break-even", figure=Cell(text="not estimated"), caveat=figure.withheld or "")
    if human_cost is None:
        return Fact(
            title="Break-even",
            figure=amount(figure.estimate),
            meaning="A success must be worth more than this, or a person cost more, for the agent to pay.",
            basis="Say what a person costs for a task with --human-cost.",
        )
    high = None if figure.confidence is None else figure.confidence.high
    is_sure = high is not None and high < human_cost
    return Fact(
        title="Saved per success against a person",
        figure=amount(float(human_cost) - figure.estimate),
        meaning=f"A person costs {usd(human_cost)} a task; the agent {usd(figure.estimate)} a success, failures "
        "paid for.",
        basis="Even at the upper end of the interval it is cheaper." if is_sure else "",
        caveat="" if is_sure else "the interval of the cost reaches a person's price",
    )


def _tasks_bar(summary: Summary) -> Bar:
    total = summary.coverage.tasks
    return Bar(
        name=text("Tasks"),
        figure=number(total),
        parts=tuple(
            Part(
                shade=_SHADES[row.status],
                size=row.tasks / total,
                figure=Cell(text=f"{count(row.tasks)}, {percent(row.tasks / total)}", value=row.tasks),
                label=row.status.value,
            )
            for row in summary.statuses
            if row.tasks
        ),
    )


def _money_bar(summary: Summary) -> Bar:
    total = sum((row.spend.priced_cost_usd for row in summary.statuses), Decimal(0))
    return Bar(
        name=text("Cost"),
        figure=spent(summary.total),
        parts=tuple(
            Part(
                shade=_SHADES[row.status],
                size=float(row.spend.priced_cost_usd / total),
                figure=spent(row.spend),
                label=row.status.value,
            )
            for row in summary.statuses
            if row.tasks and total
        ),
    )


def _unpriced(summary: Summary) -> Table:
    rows = [
        (text(group_name(row, nameless=NAMELESS_MODEL)), number(row.calls), text(unpriced_reason(row)))
        for row in summary.unpriced[:_MAX_ROWS]
    ]
    return Table(
        id="unpriced",
        title="Calls without a cost",
        columns=(Column(name=""), Column(name="Calls"), Column(name="Why", is_wordy=True)),
        rows=tuple(rows),
        hidden=len(summary.unpriced) - len(rows),
        more=Link(view="runs"),
    )
