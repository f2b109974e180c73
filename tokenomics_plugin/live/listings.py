"""The lists that there are: runs, tasks and findings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from tokenomics_plugin.analysis.tables import WASTE_USD
from tokenomics_plugin.live.listing import Filter, Listing, day_start_ns
from tokenomics_plugin.pages.words import amount, cost, number, span_cell
from tokenomics_plugin.report.document import Cell, Column, Link
from tokenomics_plugin.report.wording import count, instant, visible

__all__ = ["LISTINGS"]

_MAX_NAMES: Final = 3


def _contains(text: str) -> str:
    r"""A pattern for `ILIKE ? ESCAPE '\'` that finds the text anywhere, taken literally."""
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def _any_of(*columns: str) -> str:
    return " OR ".join(rf"{column} ILIKE ? ESCAPE '\'" for column in columns)


def _distinct(column: str, table: str) -> str:
    return f"SELECT DISTINCT {column} AS value FROM {table} WHERE {column} IS NOT NULL ORDER BY value"


def _parties(kind: str) -> str:
    return (
        f"SELECT name FROM parties WHERE kind = '{kind}' AND name IS NOT NULL "
        "GROUP BY name ORDER BY count(*) DESC, name"
    )


_PERIOD: Final = (
    Filter(name="since", label="From", clause="start_ns >= ?", read=day_start_ns, input_type="date"),
    Filter(name="until", label="Before", clause="start_ns < ?", read=day_start_ns, input_type="date"),
)
_OUTCOME: Final = Filter(name="outcome", label="Outcome", clause="outcome = ?", options=_distinct("outcome", "runs"))


def _run(row: tuple[Any, ...]) -> tuple[Cell, ...]:
    trace_id, task_id, outcome, start_ns, agents, models, calls, tools, errors, tokens, known, priced, waste = row
    return (
        Cell(text=visible(task_id), value=task_id, link=Link(view="trace", parameters={"trace_id": trace_id})),
        Cell(text=outcome, value=outcome),
        cost(known, priced),
        amount(waste),
        *map(_whole, (calls, tools, errors, tokens)),
        Cell(text=instant(start_ns).removesuffix(" UTC"), value=start_ns),
        _names(agents),
        _names(models),
    )


def _task(row: tuple[Any, ...]) -> tuple[Cell, ...]:
    task_id, group, status, traces, calls, known, priced, value, harm, currency = row
    return (
        Cell(text=visible(task_id), value=task_id, link=Link(view="runs", parameters={"task": task_id})),
        Cell(text=visible(group or ""), value=group),
        Cell(text=status, value=status),
        *map(_whole, (traces, calls)),
        cost(known, priced),
        _worth(value, currency),
        _worth(harm, currency),
    )


def _finding(row: tuple[Any, ...]) -> tuple[Cell, ...]:
    cause, tier, found, trace_id, task_id, outcome, spans, evidence, tokens, claimed = row
    return (
        Cell(text=visible(cause), value=cause),
        Cell(text=tier, value=tier),
        _whole(found),
        Cell(text=visible(task_id), value=task_id, link=Link(view="trace", parameters={"trace_id": trace_id})),
        Cell(text=outcome, value=outcome),
        span_cell(trace_id, spans),
        span_cell(trace_id, evidence),
        _whole(tokens),
        amount(claimed),
    )


_RUNS: Final = Listing(
    id="runs",
    title="Runs",
    what="runs",
    source="runs",
    selected="trace_id, task_id, outcome, start_ns, agents, models, model_calls, tool_calls, errors, "
    "CASE WHEN measured_calls = model_calls THEN input_tokens + cache_write_tokens + cache_read_tokens + output_tokens "
    f"+ reasoning_tokens END, cost_usd, priced_usd, {WASTE_USD}",
    filters=(
        Filter(
            name="q",
            label="Search",
            clause=_any_of("task_id", "trace_id", "task_group", "array_to_string(agents, ' ')"),
            read=_contains,
            input_type="search",
        ),
        _OUTCOME,
        Filter(name="agent", label="Agent", clause="list_contains(agents, ?)", options=_parties("agent")),
        Filter(name="model", label="Model", clause="list_contains(models, ?)", options=_parties("model")),
        Filter(name="tool", label="Tool", clause="list_contains(tools, ?)", options=_parties("tool")),
        Filter(
            name="cause",
            label="Waste",
            clause="run_id IN (SELECT run_id FROM causes WHERE cause = ?)",
            options=_distinct("cause", "causes"),
        ),
        Filter(name="task", label="Task", clause="task_id = ?"),
        Filter(name="group", label="Group", clause="task_group = ?"),
        *_PERIOD,
    ),
    sorts={
        "newest": "start_ns DESC, run_id",
        "dearest": "priced_usd DESC, run_id",
        "most waste": f"{WASTE_USD} DESC, run_id",
        "most calls": "model_calls DESC, run_id",
        "most errors": "errors DESC, run_id",
    },
    columns=(
        *(
            Column(name=name)
            for name in ("Task", "Outcome", "Cost", "Waste", "Calls", "Tools", "Errors", "Tokens", "Started, UTC")
        ),
        Column(name="Agents", is_wordy=True),
        Column(name="Models", is_wordy=True),
    ),
    row=_run,
)
_TASKS: Final = Listing(
    id="tasks",
    title="Tasks",
    what="tasks",
    source="tasks",
    selected="task_id, task_group, status, traces, model_calls, cost_usd, priced_usd, value, harm, currency",
    filters=(
        Filter(name="q", label="Search", clause=_any_of("task_id", "task_group"), read=_contains, input_type="search"),
        Filter(name="status", label="Outcome", clause="status = ?", options=_distinct("status", "tasks")),
        Filter(name="group", label="Group", clause="task_group = ?"),
    ),
    sorts={
        "dearest": "priced_usd DESC, task_id",
        "most valuable": "value_usd DESC NULLS LAST, task_id",
        "most runs": "traces DESC, task_id",
    },
    columns=tuple(
        Column(name=name) for name in ("Task", "Group", "Outcome", "Traces", "Calls", "Cost", "Value", "Harm")
    ),
    row=_task,
)
_FINDINGS: Final = Listing(
    id="findings",
    title="Findings",
    what="findings",
    source="causes JOIN runs USING (run_id)",
    selected="cause, tier, findings, trace_id, task_id, outcome, spans, evidence, tokens, usd",
    filters=(
        Filter(name="q", label="Search", clause=_any_of("task_id", "trace_id"), read=_contains, input_type="search"),
        Filter(name="cause", label="Cause", clause="cause = ?", options=_distinct("cause", "causes")),
        Filter(name="tier", label="Tier", clause="tier = ?", options=_distinct("tier", "causes")),
        _OUTCOME,
        Filter(name="agent", label="Agent", clause="list_contains(agents, ?)", options=_parties("agent")),
        *_PERIOD,
    ),
    sorts={
        "dearest": "usd DESC, run_id, cause",
        "newest": "start_ns DESC, run_id, cause",
        "most often": "findings DESC, run_id, cause",
    },
    columns=tuple(
        Column(name=name)
        for name in ("Cause", "Tier", "Times", "Task", "Outcome", "Spans", "Because of", "Tokens", "Claimed")
    ),
    row=_finding,
)
LISTINGS: Final[Mapping[str, Listing]] = {listing.id: listing for listing in (_RUNS, _TASKS, _FINDINGS)}
"""The lists, by name."""


def _names(names: list[str | None] | None) -> Cell:
    known = [name for name in names or [] if name is not None]
    more = f" and {count(len(known) - _MAX_NAMES)} more" if len(known) > _MAX_NAMES else ""
    return Cell(text=", ".join(map(visible, known[:_MAX_NAMES])) + more, value=" ".join(known) or None)


def _worth(worth: Decimal | None, currency: str | None) -> Cell:
    return Cell(text="") if worth is None else Cell(text=f"{worth:,f} {currency}", value=str(worth))


def _whole(counted: int | None) -> Cell:
    return number(None if counted is None else int(counted))  # DuckDB sums counts to numbers of its own
