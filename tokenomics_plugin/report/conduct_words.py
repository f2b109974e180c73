"""What agents did beyond plain calls, in tables and sentences that the views for people share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tokenomics_plugin.report.attempts import Attempts, Subject
from tokenomics_plugin.report.conduct import Conduct
from tokenomics_plugin.report.spend import Spend
from tokenomics_plugin.report.wording import (
    NAMELESS_TOOL,
    count,
    counted,
    percent,
    spend_cost,
    spend_tokens,
    visible,
)

__all__ = ["ConductTable", "conduct_sentence", "conduct_tables"]

_NAMELESS_NODE: Final = "(no node)"
_NAMELESS_ERROR: Final = "(no type)"
_SUBJECTS: Final = {
    Subject.MODEL_CALL: "model calls",
    Subject.TOOL: "tools",
    Subject.NODE: "nodes",
}


@dataclass(frozen=True, kw_only=True)
class ConductTable:
    """A table with what must be said of it; its names are safe to print."""

    title: str
    """What it is about."""
    header: tuple[str, ...]
    """Names of the columns; the first, of the names, is empty."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    notes: tuple[str, ...]
    """Sentences."""


def conduct_tables(conduct: Conduct) -> tuple[ConductTable, ...]:
    """What was recorded of attempts, repeats, tool errors, plans and endings; only tables that have rows."""
    tables = (_attempts(conduct), _repeats(conduct), _tool_errors(conduct), _plans(conduct), _endings(conduct))
    return tuple(table for table in tables if table.rows)


def conduct_sentence(conduct: Conduct) -> str:
    """What cannot be known, and whether nothing was recorded; empty when the tables say all."""
    nothing = "No retries, repeats, tool errors, plans or interrupts were recorded." if conduct.is_plain else ""
    calls, tools = (
        next(attempts.unlabelled for attempts in conduct.attempts if attempts.subject is subject)
        for subject in (Subject.MODEL_CALL, Subject.TOOL)
    )
    if not calls and not tools:
        return nothing
    return (
        f"{nothing} Of {counted(calls, 'model call')} and {counted(tools, 'tool run')} nothing is known of attempts "
        "and repeats, as in traces of other instrumentations: each counts as one operation."
    ).strip()


def _attempts(conduct: Conduct) -> ConductTable:
    retried = [attempts for attempts in conduct.attempts if attempts.retried_operations]
    return ConductTable(
        title="Attempts",
        header=("", "operations", "attempts", "retried", "tokens", "cost", "replaced", "tokens", "cost"),
        rows=tuple(
            (
                _SUBJECTS[attempts.subject],
                count(attempts.operations),
                count(attempts.attempts),
                count(attempts.retried_operations),
                spend_tokens(attempts.retried),
                spend_cost(attempts.retried),
                count(attempts.replaced.spans),
                spend_tokens(attempts.replaced),
                spend_cost(attempts.replaced),
            )
            for attempts in retried
        ),
        notes=tuple(_attempt_notes(conduct, retried)),
    )


def _attempt_notes(conduct: Conduct, retried: Sequence[Attempts]) -> Iterator[str]:
    yield (
        "Tokens and cost of the retried operations as a whole, then of those attempts that another one replaced; for "
        "tools and nodes, of the model calls inside. To be replaced is not to be wasted: no trace tells how it would "
        "have ended without."
    )
    for attempts in retried:
        if attempts.kinds:
            kinds = ", ".join(f"{count(kind.spend.spans)} {visible(kind.kind)}" for kind in attempts.kinds)
            yield f"Later attempts, {_SUBJECTS[attempts.subject]}: {kinds}."
    if sum(bool(attempts.replaced.calls) for attempts in retried) > 1:
        yield f"Model calls in any replaced attempt, each once: {_amounts(conduct.replaced)}."


def _amounts(spend: Spend) -> str:
    return f"{counted(spend.calls, 'call')}, {spend_tokens(spend)} tokens, {spend_cost(spend)}"


def _repeats(conduct: Conduct) -> ConductTable:
    nameless = {Subject.TOOL: NAMELESS_TOOL, Subject.NODE: _NAMELESS_NODE}
    return ConductTable(
        title="Repeats",
        header=("", "repeats", "in cycles", "runs", "share"),
        rows=tuple(
            (
                nameless[row.subject] if row.name is None else f"{row.subject} {visible(row.name)}",
                count(row.repeats),
                count(row.in_cycles),
                count(row.runs),
                percent(row.repeats / row.runs),
            )
            for row in conduct.repeats
        ),
        notes=tuple(_repeat_notes(conduct)),
    )


def _repeat_notes(conduct: Conduct) -> Iterator[str]:
    yield (
        f"{count(conduct.repeated_tool_calls)} of {counted(conduct.watched_tool_calls, 'tool run')} had the same "
        "arguments and the same result as an earlier one of the same agent run."
    )
    if any(row.subject is Subject.NODE for row in conduct.repeats):
        yield "A node repeats itself when its input is the same."
    if any(row.in_cycles for row in conduct.repeats):
        yield "A cycle goes round several actions, such as A-B-A-B."


def _tool_errors(conduct: Conduct) -> ConductTable:
    errors = sum(row.errors for row in conduct.tool_errors)
    return ConductTable(
        title="Tool errors",
        header=("", "errors", "retried"),
        rows=tuple(
            (
                _NAMELESS_ERROR if row.error_type is None else visible(row.error_type),
                count(row.errors),
                count(row.retried),
            )
            for row in conduct.tool_errors
        ),
        notes=(f"{count(errors)} of {counted(conduct.tool_calls, 'tool call')} failed.",),
    )


def _plans(conduct: Conduct) -> ConductTable:
    plans = conduct.plans
    cases = (
        ("plans made", plans.made),
        ("times revised", plans.revised),
        ("steps planned", plans.steps_added),
        ("steps dropped", plans.steps_removed),
        ("steps found completed", plans.steps_completed),
    )
    return ConductTable(
        title="Plans",
        header=("", "count"),
        rows=tuple((what, count(number)) for what, number in cases if number),
        notes=("What is completed after a plan was last written is not counted.",),
    )


def _endings(conduct: Conduct) -> ConductTable:
    answers, replayed = conduct.answers, conduct.replayed
    cases = (
        *((f"runs {visible(ending.state).replace('_', ' ')}", ending.runs, "", "") for ending in conduct.endings),
        ("runs resumed", conduct.resumed_runs, "", ""),
        ("calls run again after a resume", replayed.spans, spend_tokens(replayed), spend_cost(replayed)),
        ("model calls answered from a cache", answers.cached_model_calls, "0", "$0"),
        ("model calls that a middleware answered", answers.skipped_model_calls, "", ""),
        ("tool calls that a middleware answered", answers.skipped_tool_calls, "", ""),
        (
            "model calls with estimated output",
            answers.estimated_model_calls,
            f"~ {count(answers.estimated_output_tokens)}",
            "",
        ),
    )
    return ConductTable(
        title="Endings",
        header=("", "count", "tokens", "cost"),
        rows=tuple((what, count(number), tokens, cost) for what, number, tokens, cost in cases if number),
        notes=(),
    )
