"""Everything a report shows, computed once: text, JSON and HTML are views of one `Summary`.

Amounts that were counted are exact (`Decimal`, `int`); estimates and their limits are floats. What is not known is
`None`, here and in every view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

from tokenomics_plugin.outcome import Outcome, latest_outcomes, tasks_by_trace
from tokenomics_plugin.pricing import (
    REFERENCE_MODEL,
    STANDARD_DATE,
    PriceBook,
    Unpriced,
    list_price_source,
)
from tokenomics_plugin.report.conduct import Conduct
from tokenomics_plugin.report.figure import (
    Figure,
    cost_per_success,
    net_value_per_task,
    success_rate,
    value_per_dollar,
    value_per_million_standard_tokens,
)
from tokenomics_plugin.report.ledger import Ledger, ModelName, Party, PartyKind, TaskLedger
from tokenomics_plugin.report.spend import Spend, Tally
from tokenomics_plugin.report.task import TaskStatus, TaskSummary
from tokenomics_plugin.span import TraceReader
from tokenomics_plugin.statistics import rule_of_three, wilson

__all__ = [
    "AmountsByCurrency",
    "Coverage",
    "GroupSummary",
    "PriceSources",
    "StatusSummary",
    "Summary",
    "UnpricedCalls",
    "summarize",
]


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """An agent, a model or a tool: what it used, and how the tasks that it took part in ended.

    The figures are about whole tasks, with all that they cost: taking part is not being the cause.
    """

    name: str | None
    """Agent, model or tool; `None` for calls that name none."""
    provider: str | None
    """`gen_ai.provider.name`, of a model."""
    spend: Spend
    """What it used: an agent's spans, a model's calls, a tool's executions and the calls made inside them."""
    tasks: int
    """Tasks that it took part in."""
    success_rate: Figure
    """Successes per judged task, of those tasks."""
    cost_per_success: Figure
    """USD per success, of those tasks."""


@dataclass(frozen=True, kw_only=True)
class StatusSummary:
    """The tasks that stand alike."""

    status: TaskStatus
    """How they stand."""
    tasks: int
    """How many."""
    spend: Spend
    """What they used."""


@dataclass(frozen=True, kw_only=True)
class AmountsByCurrency:
    """What judged tasks brought and broke, in one currency; amounts of different currencies are never added."""

    currency: str
    """ISO 4217 code."""
    tasks: int
    """Judged tasks with an amount in it."""
    value: Decimal
    """Sum of their values."""
    harm: Decimal
    """Sum of their harms."""


@dataclass(frozen=True, kw_only=True)
class UnpricedCalls:
    """Model calls without a cost, for one reason."""

    reason: Unpriced
    """Why."""
    provider: str | None
    """Provider of the calls."""
    name: str | None
    """Model of the calls."""
    calls: int
    """How many."""
    failed: int
    """Those of them that failed: nobody says whether they were billed."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the work the figures know."""

    tasks: int
    """All assigned tasks, with spans or with an outcome only."""
    attempted: int
    """Tasks with spans."""
    judged: int
    """Tasks with a final outcome."""
    tasks_with_cost: int
    """Tasks whose cost is known."""
    tasks_without_cost_for_failed_calls: int
    """Tasks whose cost is unknown only because model calls failed and reported no usage, such as refused ones."""
    successes: int
    """Tasks that succeeded."""
    successes_with_value: int
    """Successes whose value is known in USD."""


@dataclass(frozen=True, kw_only=True)
class PriceSources:
    """Where money comes from."""

    list_prices: str
    """Name and version of the public price data."""
    standard_date: str
    """Day whose prices make standard tokens, ISO 8601."""
    standard_reference: str
    """Model whose fresh input token is one standard token."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All figures of a report."""

    traces: int
    """Traces."""
    start_unix_nano: int | None
    """Start of the first span, nanoseconds since the epoch."""
    end_unix_nano: int | None
    """End of the last span."""
    total: Spend
    """What all spans used."""
    coverage: Coverage
    """How much of it the figures know."""
    net_value_per_task: Figure
    """USD of value minus cost minus harm, per task: the headline."""
    cost_per_success: Figure
    """USD per success, failures paid for."""
    success_rate: Figure
    """Successes per judged task."""
    value_per_dollar: Figure
    """USD of value per USD of cost."""
    value_per_million_standard_tokens: Figure
    """USD of value per million cost-weighted tokens."""
    harmful_rate_limit: float | None
    """Upper 95 % limit of the share of harmful tasks; `None` when no task is judged."""
    amounts: tuple[AmountsByCurrency, ...]
    """Values and harms, by currency."""
    statuses: tuple[StatusSummary, ...]
    """Tasks by how they stand; all five, also at 0."""
    agents: tuple[GroupSummary, ...]
    """Agents, the dearest first."""
    models: tuple[GroupSummary, ...]
    """Models, the dearest first."""
    tools: tuple[GroupSummary, ...]
    """Tools, the dearest first, then the most used."""
    tasks: tuple[TaskSummary, ...]
    """Tasks, the dearest first."""
    unpriced: tuple[UnpricedCalls, ...]
    """Calls without a cost, the most frequent first."""
    conduct: Conduct
    """What agents did beyond plain calls: attempts, repeats, tool errors, plans, endings."""
    prices: PriceSources
    """Where money comes from."""


def summarize(reader: TraceReader, prices: PriceBook) -> Summary:
    """Compute all figures of a store's spans and outcomes.

    Args:
        reader: The store, or anything that yields spans trace by trace.
        prices: What calls cost.
    """
    outcomes = latest_outcomes(reader.outcomes())
    ledger = Ledger(prices, judged_tasks=tasks_by_trace(outcomes.values()))
    for _, spans in groupby(reader.spans(), key=attrgetter("trace_id")):
        ledger.add_trace(list(spans))
    tasks = _tasks(ledger, outcomes)
    agents, models, tools = _groups(ledger, tasks)
    return Summary(
        traces=ledger.traces,
        start_unix_nano=ledger.start_unix_nano,
        end_unix_nano=ledger.end_unix_nano,
        total=ledger.total.spend(),
        coverage=_coverage(ledger, tasks),
        net_value_per_task=net_value_per_task(tasks),
        cost_per_success=cost_per_success(tasks),
        success_rate=success_rate(tasks),
        value_per_dollar=value_per_dollar(tasks),
        value_per_million_standard_tokens=value_per_million_standard_tokens(tasks),
        harmful_rate_limit=_harmful_rate_limit(tasks),
        amounts=_amounts(tasks),
        statuses=_statuses(ledger, tasks),
        agents=agents,
        models=models,
        tools=tools,
        tasks=tasks,
        unpriced=_unpriced(ledger),
        conduct=ledger.conduct.conduct(),
        prices=PriceSources(
            list_prices=list_price_source(),
            standard_date=STANDARD_DATE.date().isoformat(),
            standard_reference=REFERENCE_MODEL,
        ),
    )


def _tasks(ledger: Ledger, outcomes: dict[str, Outcome]) -> tuple[TaskSummary, ...]:
    nothing = TaskLedger()
    tasks = [
        _task(task_id, ledger.tasks.get(task_id, nothing), outcomes.get(task_id))
        for task_id in dict.fromkeys([*ledger.tasks, *outcomes])
    ]
    return tuple(sorted(tasks, key=lambda task: (-task.spend.priced_cost_usd, task.task_id)))


def _task(task_id: str, kept: TaskLedger, outcome: Outcome | None) -> TaskSummary:
    agents = (party.name for party in kept.parties if party.kind is PartyKind.AGENT)
    return TaskSummary.of(
        task_id,
        group=kept.group,
        traces=kept.traces,
        spend=kept.tally.spend(),
        agents=tuple(sorted(name for name in agents if isinstance(name, str))),
        outcome=outcome,
    )


def _groups(ledger: Ledger, tasks: Iterable[TaskSummary]) -> tuple[tuple[GroupSummary, ...], ...]:
    """Agents, models and tools."""
    took_part: defaultdict[Party, list[TaskSummary]] = defaultdict(list)
    for task in tasks:
        kept = ledger.tasks.get(task.task_id)
        for party in () if kept is None else kept.parties:
            took_part[party].append(task)
    by_kind: dict[PartyKind, list[GroupSummary]] = {kind: [] for kind in PartyKind}
    for party, tally in ledger.parties.items():
        by_kind[party.kind].append(_group(party, tally, took_part[party]))
    return tuple(tuple(sorted(groups, key=_dearest_first)) for groups in by_kind.values())


def _group(party: Party, tally: Tally, tasks: list[TaskSummary]) -> GroupSummary:
    provider, name = party.name if isinstance(party.name, ModelName) else (None, party.name)
    return GroupSummary(
        name=name,
        provider=provider,
        spend=tally.spend(),
        tasks=len(tasks),
        success_rate=success_rate(tasks),
        cost_per_success=cost_per_success(tasks),
    )


def _dearest_first(group: GroupSummary) -> tuple[Decimal, int, str, str]:
    return -group.spend.priced_cost_usd, -group.spend.spans, group.name or "", group.provider or ""


def _coverage(ledger: Ledger, tasks: Iterable[TaskSummary]) -> Coverage:
    counted = list(tasks)
    successes = [task for task in counted if task.is_success]
    return Coverage(
        tasks=len(counted),
        attempted=sum(task.traces > 0 for task in counted),
        judged=sum(task.status.is_final for task in counted),
        tasks_with_cost=sum(task.spend.cost_usd is not None for task in counted),
        tasks_without_cost_for_failed_calls=sum(_only_failed_calls_unpriced(ledger, task) for task in counted),
        successes=len(successes),
        successes_with_value=sum(task.value_usd is not None for task in successes),
    )


def _only_failed_calls_unpriced(ledger: Ledger, task: TaskSummary) -> bool:
    if task.spend.cost_usd is not None or task.task_id not in ledger.tasks:
        return False
    return task.spend.calls - task.spend.priced_calls == ledger.tasks[task.task_id].failed_without_usage


def _harmful_rate_limit(tasks: Iterable[TaskSummary]) -> float | None:
    judged = [task.status is TaskStatus.HARMFUL for task in tasks if task.status.is_final]
    if not judged:
        return None
    return wilson(sum(judged), len(judged)).high if any(judged) else rule_of_three(len(judged))


def _amounts(tasks: Iterable[TaskSummary]) -> tuple[AmountsByCurrency, ...]:
    by_currency: defaultdict[str, list[TaskSummary]] = defaultdict(list)
    for task in tasks:
        if task.currency is not None and task.status.is_final and (task.value is not None or task.harm is not None):
            by_currency[task.currency].append(task)
    return tuple(
        AmountsByCurrency(
            currency=currency,
            tasks=len(valued),
            value=sum((task.value or Decimal(0) for task in valued), Decimal(0)),
            harm=sum((task.harm or Decimal(0) for task in valued), Decimal(0)),
        )
        for currency, valued in sorted(by_currency.items())
    )


def _statuses(ledger: Ledger, tasks: Iterable[TaskSummary]) -> tuple[StatusSummary, ...]:
    tallies = {status: Tally() for status in TaskStatus}
    counts = dict.fromkeys(TaskStatus, 0)
    for task in tasks:
        counts[task.status] += 1
        if task.task_id in ledger.tasks:
            tallies[task.status].add(ledger.tasks[task.task_id].tally)
    return tuple(
        StatusSummary(status=status, tasks=counts[status], spend=tally.spend()) for status, tally in tallies.items()
    )


def _unpriced(ledger: Ledger) -> tuple[UnpricedCalls, ...]:
    ordered = sorted(ledger.unpriced.items(), key=lambda item: (-item[1], item[0][0], str(item[0][1])))
    return tuple(
        UnpricedCalls(
            reason=reason,
            provider=name.provider,
            name=name.model,
            calls=calls,
            failed=ledger.failed_unpriced[reason, name],
        )
        for (reason, name), calls in ordered
    )
