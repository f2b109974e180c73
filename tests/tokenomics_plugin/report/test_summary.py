from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.pricing import Price, PriceBook, Unpriced
from tokenomics_plugin.report import Summary, TaskStatus, summarize
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

Summarize = Callable[..., Summary]
CALL_USD = Decimal("0.002")
"""Cost of one `Trace.chat`: 1000 input tokens at 1, 100 output tokens at 10 USD a million."""


def by_name(groups: Any) -> dict[str | None, Any]:
    return {group.name: group for group in groups}


def test_nothing_is_an_empty_report_and_not_an_error(summary_of: Summarize) -> None:
    summary = summary_of()
    assert (summary.traces, summary.start_unix_nano, summary.tasks) == (0, None, ())
    assert summary.total.cost_usd == 0
    assert summary.success_rate.estimate is None


def test_an_agent_that_repeats_its_calls_sums_is_not_counted_again(summary_of: Summarize, trace: Any) -> None:
    agent = trace.agent(usage=TokenUsage.from_inclusive(input_tokens=2000, output_tokens=200))
    trace.chat(agent)
    trace.chat(agent)
    total = summary_of([trace]).total
    assert (total.calls, total.tokens.total, total.cost_usd) == (2, 2200, 2 * CALL_USD)


def test_what_a_task_used_is_summed_over_all_of_its_traces(summary_of: Summarize, new_trace: Any) -> None:
    first, second = new_trace(1), new_trace(2)
    for trace in (first, second):
        trace.chat(trace.agent(task_id="ticket"))
    (task,) = summary_of([first, second]).tasks
    assert (task.task_id, task.traces, task.spend.spans, task.spend.cost_usd) == ("ticket", 2, 4, 2 * CALL_USD)


def test_a_trace_that_names_no_task_is_an_unlabelled_task_of_its_own(summary_of: Summarize, trace: Any) -> None:
    trace.chat()
    (task,) = summary_of([trace]).tasks
    assert (task.task_id, task.status) == (trace.trace_id, TaskStatus.UNLABELLED)


def test_a_trace_without_any_agents_work_is_no_task(summary_of: Summarize, trace: Any) -> None:
    trace.span(name="GET /health")
    summary = summary_of([trace])
    assert (summary.total.spans, summary.tasks) == (1, ())


def test_an_outcome_finds_its_task_by_the_trace_that_it_names(
    summary_of: Summarize, trace: Any, judge: Callable[..., Any]
) -> None:
    trace.chat()
    (task,) = summary_of([trace], [judge("ticket", "succeeded", trace_id=trace.trace_id)]).tasks
    assert (task.task_id, task.status, task.spend.calls) == ("ticket", TaskStatus.SUCCEEDED, 1)


def test_a_trace_that_outcomes_of_two_tasks_name_is_neithers(
    summary_of: Summarize, trace: Any, judge: Callable[..., Any]
) -> None:
    trace.chat()
    outcomes = [judge(task_id, "succeeded", trace_id=trace.trace_id) for task_id in ("a", "b")]
    assert {task.task_id for task in summary_of([trace], outcomes).tasks} == {"a", "b", trace.trace_id}


def test_an_outcome_without_spans_is_a_task_of_unknown_cost(summary_of: Summarize, judge: Callable[..., Any]) -> None:
    summary = summary_of([], [judge("ticket", "succeeded", value="5")])
    (task,) = summary.tasks
    assert (task.traces, task.spend.cost_usd, task.value_usd) == (0, None, Decimal(5))
    assert summary.cost_per_success.left_out == 1
    assert (summary.coverage.tasks, summary.coverage.attempted, summary.coverage.tasks_with_cost) == (1, 0, 0)


def test_a_task_that_called_no_model_cost_nothing(summary_of: Summarize, trace: Any) -> None:
    trace.tool(task_id="ticket")
    (task,) = summary_of([trace]).tasks
    assert task.spend.cost_usd == 0


def test_one_call_without_a_price_makes_the_tasks_cost_unknown(summary_of: Summarize, trace: Any) -> None:
    agent = trace.agent(task_id="ticket")
    trace.chat(agent)
    trace.chat(agent, request_model="unlisted", provider="nobody")
    summary = summary_of([trace])
    spend = summary.tasks[0].spend
    assert (spend.cost_usd, spend.priced_cost_usd, spend.priced_calls, spend.calls) == (None, CALL_USD, 1, 2)
    (unpriced,) = summary.unpriced
    assert (unpriced.reason, unpriced.name, unpriced.calls) == (Unpriced.MODEL_UNKNOWN, "unlisted", 1)


def test_a_call_without_usage_makes_standard_tokens_unknown_and_says_so(summary_of: Summarize, trace: Any) -> None:
    trace.chat()
    trace.chat(tokens=None)
    total = summary_of([trace]).total
    assert (total.standard_tokens, total.calls_with_usage, total.tokens.total) == (None, 1, 1100)


def test_the_latest_outcome_counts(summary_of: Summarize, judge: Callable[..., Any]) -> None:
    outcomes = [
        judge("ticket", "failed", observed_time_unix_nano=2),
        judge("ticket", "succeeded", observed_time_unix_nano=1),
        judge("ticket", "pending", observed_time_unix_nano=0),
    ]
    assert [task.status for task in summary_of([], outcomes).tasks] == [TaskStatus.FAILED]


def test_the_span_that_carries_an_outcome_is_none_of_the_work(summary_of: Summarize, trace: Any) -> None:
    agent = trace.agent(task_id="ticket")
    trace.chat(agent)
    trace.span(agent, operation=semconv.OPERATION_RECORD_OUTCOME, task_id="ticket", duration_nano=10**15)
    summary = summary_of([trace])
    assert summary.total.spans == 2
    assert summary.end_unix_nano is not None
    assert summary.start_unix_nano is not None
    assert summary.end_unix_nano - summary.start_unix_nano < 10**15


@pytest.mark.parametrize(
    ("status", "fields", "value", "harm"),
    [
        ("succeeded", {"value": "3"}, 3, 0),
        ("succeeded", {}, None, 0),
        ("failed", {}, 0, 0),
        ("failed", {"value": "1"}, 1, 0),
        ("harmful", {"harm": "7"}, 0, 7),
        ("harmful", {}, 0, None),
        ("pending", {"value": "3"}, None, None),
        ("succeeded", {"value": "3", "currency": "EUR"}, None, 0),
        ("failed", {"value": "0", "currency": "EUR"}, 0, 0),
    ],
    ids=[
        "success with a value",
        "success without",
        "failure",
        "failure worth something",
        "harm",
        "harm of unknown size",
        "pending",
        "other currency",
        "nothing in any currency",
    ],
)
def test_what_an_outcome_is_worth_in_dollars(
    summary_of: Summarize, judge: Callable[..., Any], status: str, fields: dict[str, str], value: Any, harm: Any
) -> None:
    (task,) = summary_of([], [judge("ticket", status, **fields)]).tasks
    assert (task.value_usd, task.harm_usd) == (value, harm)


def test_amounts_of_different_currencies_are_never_added(summary_of: Summarize, judge: Callable[..., Any]) -> None:
    summary = summary_of(
        [],
        [
            judge("1", "succeeded", value="3"),
            judge("2", "harmful", value="1", harm="2"),
            judge("3", "succeeded", value="5", currency="EUR"),
            judge("4", "pending", value="9", currency="EUR"),
        ],
    )
    assert [(row.currency, row.tasks, row.value, row.harm) for row in summary.amounts] == [
        ("EUR", 1, Decimal(5), Decimal(0)),
        ("USD", 2, Decimal(4), Decimal(2)),
    ]


def test_agents_models_and_tools_get_the_calls_made_in_them(summary_of: Summarize, trace: Any) -> None:
    planner = trace.agent("planner", task_id="ticket")
    trace.chat(planner)
    delegate = trace.tool("delegate", planner, status="Error")
    helper = trace.agent("helper", delegate)
    trace.chat(helper, response_model="acme-small")
    summary = summary_of([trace])
    agents, models, tools = by_name(summary.agents), by_name(summary.models), by_name(summary.tools)
    assert {name: group.spend.calls for name, group in agents.items()} == {"planner": 1, "helper": 1}
    assert {name: group.spend.calls for name, group in models.items()} == {"acme-large": 1, "acme-small": 1}
    assert (tools["delegate"].spend.spans, tools["delegate"].spend.errors, tools["delegate"].spend.calls) == (1, 1, 1)
    assert summary.tasks[0].agents == ("helper", "planner")


def test_two_providers_models_of_one_name_are_two_models(summary_of: Summarize, trace: Any) -> None:
    trace.chat(provider="acme")
    trace.chat(provider="nobody")
    assert [(group.provider, group.name) for group in summary_of([trace]).models] == [
        ("acme", "acme-large"),
        ("nobody", "acme-large"),
    ]


def test_calls_outside_any_agent_are_listed_without_a_name(summary_of: Summarize, trace: Any) -> None:
    trace.chat()
    trace.span(name="GET /")
    (group,) = summary_of([trace]).agents
    assert (group.name, group.spend.spans, group.tasks) == (None, 1, 1)


def test_the_dearest_come_first(summary_of: Summarize, new_trace: Any) -> None:
    traces = []
    for number, calls in enumerate((1, 3, 2), start=1):
        trace = new_trace(number)
        agent = trace.agent(f"agent-{calls}", task_id=f"task-{calls}")
        for _ in range(calls):
            trace.chat(agent)
        traces.append(trace)
    summary = summary_of(traces)
    assert [task.task_id for task in summary.tasks] == ["task-3", "task-2", "task-1"]
    assert [group.name for group in summary.agents] == ["agent-3", "agent-2", "agent-1"]


def test_the_period_is_from_the_first_start_to_the_last_end(summary_of: Summarize, trace: Any) -> None:
    trace.span(start_unix_nano=500, duration_nano=100)
    trace.span(start_unix_nano=200, duration_nano=50)
    summary = summary_of([trace])
    assert (summary.start_unix_nano, summary.end_unix_nano) == (200, 600)


def test_statuses_hold_all_tasks_and_all_spending(busy_summary: Summary) -> None:
    assert sum(row.tasks for row in busy_summary.statuses) == len(busy_summary.tasks) == 62
    assert sum(row.spend.spans for row in busy_summary.statuses) == busy_summary.total.spans
    assert [row.status for row in busy_summary.statuses] == list(TaskStatus)


def test_what_never_did_harm_may_do_harm_in_three_of_n(summary_of: Summarize, judge: Callable[..., Any]) -> None:
    assert summary_of([], [judge(str(number), "failed") for number in range(60)]).harmful_rate_limit == 0.05
    assert summary_of([], [judge("1", "pending")]).harmful_rate_limit is None
    one_in_four = [judge(str(number), "harmful" if number % 4 == 0 else "failed") for number in range(60)]
    limit = summary_of([], one_in_four).harmful_rate_limit
    assert limit == pytest.approx(0.3725, abs=1e-3)  # Wilson, 15 of 60


def test_the_price_is_that_of_the_book(trace: Any, reader: Any) -> None:
    trace.chat(provider="local", duration_nano=3600 * 10**9, tokens=None)
    book = PriceBook([Price(provider="local", model="*", usd_per_hour=Decimal("0.08"))])
    assert summarize(reader(trace.spans), book).total.cost_usd == Decimal("0.08")


spans = st.builds(
    SpanRecord,
    trace_id=st.sampled_from(["t1", "t2", "t3"]),
    span_id=st.integers(1, 30).map(str),
    parent_span_id=st.none() | st.integers(1, 30).map(str),
    operation=st.sampled_from([None, "chat", "embeddings", "invoke_agent", "execute_tool", "record_outcome"]),
    provider=st.sampled_from([None, "acme", "nobody"]),
    request_model=st.sampled_from([None, "acme-large", "x"]),
    agent_name=st.sampled_from([None, "planner", "critic"]),
    tool_name=st.sampled_from([None, "search"]),
    task_id=st.sampled_from([None, "1", "2"]),
    task_group=st.sampled_from([None, "a", "b"]),
    status=st.sampled_from(["Unset", "Ok", "Error"]),
    operation_id=st.sampled_from([None, "a", "b"]),
    superseded_by=st.sampled_from([None, "1"]),
    loop_kind=st.sampled_from([None, "revisit"]),
    run_state=st.sampled_from([None, "interrupted"]),
    usage=st.none()
    | st.builds(
        TokenUsage.from_inclusive,
        input_tokens=st.none() | st.integers(0, 9999),
        output_tokens=st.none() | st.integers(0, 9999),
        cache_read_tokens=st.none() | st.integers(0, 99),
    ),
)
stores = st.lists(spans, max_size=25, unique_by=lambda span: (span.trace_id, span.span_id))


@given(stores)
def test_no_call_is_lost_or_counted_twice(reader: Any, prices: PriceBook, store: list[SpanRecord]) -> None:
    store.sort(key=lambda span: span.trace_id)
    summary = summarize(reader(store), prices)
    calls = [span for span in store if span.is_billed]
    work = [span for span in store if span.operation != "record_outcome"]
    for parts in (summary.agents, summary.models, summary.tasks, summary.statuses):
        assert sum(part.spend.calls for part in parts) == len(calls)
        assert sum(part.spend.priced_cost_usd for part in parts) == summary.total.priced_cost_usd
        assert sum(part.spend.tokens.total for part in parts) == summary.total.tokens.total
    assert summary.total.spans == len(work)
    assert summary.total.priced_calls + sum(row.calls for row in summary.unpriced) == len(calls)
    assert summary.total.errors == sum(span.status == "Error" for span in work)


@given(stores, st.data())
def test_the_order_of_traces_and_of_spans_in_them_changes_nothing(
    reader: Any, prices: PriceBook, store: list[SpanRecord], data: st.DataObject
) -> None:
    # A ring of parents has no top, so where it is cut depends on where the reading begins: none here.
    store = sorted(map(without_rings, store), key=lambda span: span.trace_id)
    traces = [list(group) for _, group in groupby(store, key=lambda span: span.trace_id)]
    shuffled = [span for trace in data.draw(st.permutations(traces)) for span in data.draw(st.permutations(trace))]
    before, after = summarize(reader(store), prices), summarize(reader(shuffled), prices)
    assert after == before


def without_rings(span: SpanRecord) -> SpanRecord:
    parent = span.parent_span_id
    return span if parent is None or int(parent) < int(span.span_id) else replace(span, parent_span_id=None)


def test_splitting_a_tasks_work_into_more_traces_improves_no_figure(
    summary_of: Summarize, new_trace: Any, judge: Callable[..., Any]
) -> None:
    together: list[Any] = []
    apart: list[Any] = []
    outcomes: list[Any] = []
    for number in range(1, 41):
        task_id = f"task-{number}"
        whole = new_trace(number)
        halves = new_trace(1000 + number), new_trace(2000 + number)
        for half in halves:
            whole.chat(task_id=task_id, tokens=(number * 100, 10))
            half.chat(task_id=task_id, tokens=(number * 100, 10))
        together.append(whole)
        apart += halves
        outcomes.append(judge(task_id, "succeeded" if number % 3 else "failed", value="1"))
    once, twice = summary_of(together, outcomes), summary_of(apart, outcomes)
    assert once.cost_per_success.estimate is not None
    assert once.cost_per_success == twice.cost_per_success
    assert once.net_value_per_task == twice.net_value_per_task
    assert once.success_rate == twice.success_rate
