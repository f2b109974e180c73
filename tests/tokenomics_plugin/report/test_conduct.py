from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.pricing import Price, PriceBook, Unpriced
from tokenomics_plugin.report import Attempts, Conduct, Subject, Summary, summarize
from tokenomics_plugin.report.conduct_words import conduct_sentence, conduct_tables
from tokenomics_plugin.report.sentences import failed_calls_line
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

Summarize = Callable[..., Summary]
CALL_USD = Decimal("0.002")
"""Cost of one `Trace.chat`: 1000 input tokens at 1, 100 output tokens at 10 USD a million."""


@pytest.fixture
def trace(new_trace: Any) -> Any:
    """An empty trace whose model calls and tools say which operation they are an attempt of."""
    return new_trace(1, says_attempts=True)


def of(conduct: Conduct, subject: Subject) -> Attempts:
    return next(attempts for attempts in conduct.attempts if attempts.subject is subject)


def counts(attempts: Attempts) -> tuple[int, int, int, int]:
    return attempts.operations, attempts.attempts, attempts.retried_operations, attempts.replaced.spans


def test_a_call_that_needed_three_tries_is_one_operation(summary_of: Summarize, trace: Any) -> None:
    first = trace.chat(status="Error")
    trace.retry(trace.retry(first, "with_retry", status="Error"), "with_retry")
    trace.chat()
    calls = of(summary_of([trace]).conduct, Subject.MODEL_CALL)
    assert counts(calls) == (2, 4, 1, 2)
    assert (calls.retried.cost_usd, calls.replaced.cost_usd) == (3 * CALL_USD, 2 * CALL_USD)
    assert (calls.retried.errors, calls.replaced.errors) == (2, 2)
    assert [(kind.kind, kind.spend.spans, kind.spend.cost_usd) for kind in calls.kinds] == [
        ("with_retry", 2, 2 * CALL_USD)
    ]


def test_retries_are_part_of_what_was_spent_and_add_nothing_to_it(summary_of: Summarize, trace: Any) -> None:
    trace.retry(trace.chat(), "model_retry")
    assert summary_of([trace]).total.cost_usd == 2 * CALL_USD


def test_a_retried_tool_is_charged_the_model_calls_inside_it(summary_of: Summarize, trace: Any) -> None:
    failed = trace.tool(status="Error")
    trace.chat(failed)
    trace.chat(trace.retry(failed, "tool_retry"))
    trace.chat(trace.tool("other"))
    conduct = summary_of([trace]).conduct
    tools = of(conduct, Subject.TOOL)
    assert counts(tools) == (2, 3, 1, 1)
    assert (tools.retried.calls, tools.replaced.calls, tools.replaced.cost_usd) == (2, 1, CALL_USD)
    assert of(conduct, Subject.MODEL_CALL).retried_operations == 0


def test_a_call_retried_inside_a_retried_node_counts_once_a_subject_and_once_in_all(
    summary_of: Summarize, trace: Any
) -> None:
    failed = trace.node(status="Error")
    trace.retry(trace.chat(failed, status="Error"), "fallback")
    trace.chat(trace.retry(failed, "node_retry"))
    conduct = summary_of([trace]).conduct
    calls, nodes = of(conduct, Subject.MODEL_CALL), of(conduct, Subject.NODE)
    assert (calls.retried.calls, calls.replaced.calls) == (2, 1)
    assert (nodes.retried.calls, nodes.replaced.calls) == (3, 2)
    assert (conduct.replaced.spans, conduct.replaced.calls, conduct.replaced.cost_usd) == (2, 2, 2 * CALL_USD)


def test_an_operation_whose_other_attempts_were_lost_is_retried_all_the_same(summary_of: Summarize, trace: Any) -> None:
    trace.chat(attempt_kind="with_retry")
    trace.chat(superseded_by="0" * 15 + "9")
    assert counts(of(summary_of([trace]).conduct, Subject.MODEL_CALL)) == (2, 2, 2, 1)


def test_what_says_nothing_of_attempts_is_one_operation_and_counted_apart(
    summary_of: Summarize, trace: Any, new_trace: Any
) -> None:
    trace.chat()
    foreign = new_trace(2)
    foreign.chat()
    foreign.tool()
    foreign.node()
    conduct = summary_of([trace, foreign]).conduct
    assert [(attempts.operations, attempts.unlabelled) for attempts in conduct.attempts] == [(2, 1), (1, 1), (1, 0)]
    assert conduct.watched_tool_calls == 0


@pytest.mark.parametrize(
    "fields",
    [{"answered_by": "middleware"}, {"status": "Error", "error_type": "unknown_tool"}],
    ids=["answered by a middleware", "no such tool"],
)
def test_a_tool_that_never_ran_is_a_tool_call_and_no_attempt(
    summary_of: Summarize, trace: Any, fields: dict[str, str]
) -> None:
    trace.tool(operation_id=None, **fields)
    conduct = summary_of([trace]).conduct
    assert (conduct.tool_calls, of(conduct, Subject.TOOL).attempts) == (1, 0)


def test_work_that_runs_again_after_a_resume_is_no_retry(summary_of: Summarize, trace: Any) -> None:
    agent = trace.agent(is_resumed=True, is_replay=True)
    trace.chat(agent, is_replay=True)
    trace.tool(parent=agent, is_replay=True)
    trace.chat(agent)
    conduct = summary_of([trace]).conduct
    assert (conduct.resumed_runs, conduct.replayed.spans, conduct.replayed.cost_usd) == (1, 2, CALL_USD)
    assert not any(attempts.retried_operations for attempts in conduct.attempts)


def test_repeats_are_counted_by_tool_and_by_node(summary_of: Summarize, trace: Any) -> None:
    for loop_kind in (None, "revisit", "alternation"):
        trace.tool("search", loop_kind=loop_kind)
    trace.node("plan", loop_kind="revisit")
    conduct = summary_of([trace]).conduct
    assert [(row.subject, row.name, row.repeats, row.in_cycles, row.runs) for row in conduct.repeats] == [
        (Subject.TOOL, "search", 2, 1, 3),
        (Subject.NODE, "plan", 1, 0, 1),
    ]
    assert (conduct.repeated_tool_calls, conduct.watched_tool_calls) == (2, 3)


def test_tool_errors_are_counted_by_type_and_those_tried_again_apart(summary_of: Summarize, trace: Any) -> None:
    trace.retry(trace.tool(status="Error", error_type="TimeoutError"), "tool_retry")
    trace.tool(status="Error", error_type="TimeoutError")
    trace.tool(status="Error")
    trace.tool(status="Error", error_type="CancelledError", run_state="cancelled")
    trace.chat(status="Error", error_type="TimeoutError")
    errors = summary_of([trace]).conduct.tool_errors
    assert [(row.error_type, row.errors, row.retried) for row in errors] == [("TimeoutError", 2, 1), (None, 1, 0)]


def test_a_run_takes_those_inside_it_along_when_it_ends(summary_of: Summarize, trace: Any) -> None:
    graph = trace.span(operation="invoke_workflow", run_state="interrupted")
    own = trace.span(trace.node("ask", graph, run_state="interrupted"), name="a span of the application")
    trace.tool("approve", own, run_state="interrupted")
    trace.agent("helper", graph, run_state="handed_off")
    trace.node("other", graph, run_state="interrupted")
    endings = summary_of([trace]).conduct.endings
    assert [(row.state, row.runs) for row in endings] == [("handed_off", 1), ("interrupted", 1)]


def test_what_something_else_answered_is_counted(summary_of: Summarize, trace: Any) -> None:
    trace.chat(tokens=(0, 0), is_cache_hit=True)
    trace.span(operation=semconv.OPERATION_SKIP_MODEL_CALL, answered_by="middleware")
    trace.tool(answered_by="middleware")
    trace.chat(tokens=(1000, 7), is_usage_estimated=True)
    trace.chat(tokens=None, is_usage_estimated=True)
    summary = summary_of([trace])
    assert vars(summary.conduct.answers) == {
        "cached_model_calls": 1,
        "skipped_model_calls": 1,
        "skipped_tool_calls": 1,
        "estimated_model_calls": 2,
        "estimated_output_tokens": 7,
    }
    assert summary.total.calls == 3


def test_plans_are_counted_when_made_and_when_revised(summary_of: Summarize, trace: Any) -> None:
    trace.span(operation=semconv.OPERATION_PLAN, plan_revision=0, plan_steps_added=3)
    trace.node("plan", plan_revision=1, plan_steps_added=1, plan_steps_removed=2, plan_steps_completed=1)
    assert vars(summary_of([trace]).conduct.plans) == {
        "made": 1,
        "revised": 1,
        "steps_added": 4,
        "steps_removed": 2,
        "steps_completed": 1,
    }


@pytest.mark.parametrize(
    "price",
    [
        Price(provider="acme", model="*", usd_per_hour=Decimal(1)),
        Price(provider="acme", model="*", input=Decimal(1), output=Decimal(1)),
        Price(provider="nobody", model="*", input=Decimal(1)),
    ],
    ids=["by the hour", "by the token", "none"],
)
def test_an_answer_from_the_cache_costs_nothing(trace: Any, reader: Any, price: Price) -> None:
    trace.chat(tokens=(0, 0), is_cache_hit=True)
    total = summarize(reader(trace.spans), PriceBook([price])).total
    assert total.cost_usd == 0
    assert total.standard_tokens == 0


def test_an_estimated_output_without_an_input_leaves_the_cost_unknown(summary_of: Summarize, trace: Any) -> None:
    trace.chat(usage=TokenUsage.from_inclusive(input_tokens=None, output_tokens=7), is_usage_estimated=True)
    summary = summary_of([trace])
    assert (summary.total.cost_usd, summary.total.calls_with_usage) == (None, 0)
    assert [row.reason for row in summary.unpriced] == [Unpriced.USAGE_UNKNOWN]


def test_a_failed_call_without_usage_leaves_its_task_without_a_cost_and_the_report_says_so(
    summary_of: Summarize, trace: Any, new_trace: Any
) -> None:
    trace.retry(trace.chat(task_id="refused", tokens=None, status="Error"), "with_retry", usage=None, task_id="refused")
    # The second attempt succeeded without a count, so a failed call is not the only reason.
    other = new_trace(2, says_attempts=True)
    other.retry(other.chat(task_id="mended", tokens=None, status="Error"), "with_retry", usage=used(), task_id="mended")
    summary = summary_of([trace, other])
    assert summary.coverage.tasks_with_cost == 0
    assert summary.coverage.tasks_without_cost_for_failed_calls == 1
    assert [(row.calls, row.failed) for row in summary.unpriced] == [(3, 2)]
    assert "because failed model calls reported no usage: 1." in failed_calls_line(summary)


def used() -> TokenUsage:
    return TokenUsage.from_inclusive(input_tokens=1000, output_tokens=100)


def test_a_report_without_any_of_it_says_so_in_one_line(summary_of: Summarize, trace: Any) -> None:
    trace.tool(parent=trace.agent())
    conduct = summary_of([trace]).conduct
    assert "No retries, repeats, tool errors, plans or interrupts were recorded." in conduct_sentence(conduct)
    assert conduct_tables(conduct) == ()


ids = st.integers(1, 12).map(str)
spans = st.builds(
    SpanRecord,
    trace_id=st.sampled_from(["t1", "t2"]),
    span_id=ids,
    parent_span_id=st.none() | ids,
    operation=st.sampled_from([None, "chat", "invoke_agent", "execute_tool", "run_node"]),
    provider=st.just("acme"),
    request_model=st.just("acme-large"),
    status=st.sampled_from(["Unset", "Error"]),
    operation_id=st.none() | st.sampled_from(["a", "b", "c"]),
    attempt_kind=st.none() | st.sampled_from(["with_retry", "tool_retry"]),
    superseded_by=st.none() | ids,
    loop_kind=st.none() | st.sampled_from(["revisit", "alternation"]),
    run_state=st.none() | st.sampled_from(["interrupted", "cancelled"]),
    answered_by=st.none() | st.just("middleware"),
    usage=st.none()
    | st.builds(TokenUsage.from_inclusive, input_tokens=st.integers(0, 9999), output_tokens=st.integers(0, 9999)),
)
stores = st.lists(spans, max_size=20, unique_by=lambda span: (span.trace_id, span.span_id)).map(
    lambda store: sorted(store, key=lambda span: span.trace_id)
)


@given(stores)
def test_sums_over_operations_and_over_attempts_are_the_same(
    reader: Any, prices: PriceBook, store: list[SpanRecord]
) -> None:
    conduct = summarize(reader(store), prices).conduct
    calls = [span for span in store if span.is_billed]
    attempts = of(conduct, Subject.MODEL_CALL)
    operations: dict[tuple[str, str], list[SpanRecord]] = {}
    for span in calls:
        operations.setdefault((span.trace_id, span.operation_id or f"span {span.span_id}"), []).append(span)
    assert (attempts.operations, attempts.attempts) == (len(operations), len(calls))
    assert attempts.unlabelled == sum(span.operation_id is None for span in calls)
    retried = [span for group in operations.values() if is_retried(group, store) for span in group]
    assert attempts.retried.calls == attempts.retried.spans == len(retried)
    assert attempts.retried.tokens.total == sum(map(tokens, retried))
    replaced = [span for span in calls if span.superseded_by is not None]
    assert attempts.replaced.calls == attempts.replaced.spans == len(replaced)
    assert attempts.replaced.tokens.total == sum(map(tokens, replaced))


def is_retried(group: list[SpanRecord], store: list[SpanRecord]) -> bool:
    """Whether another attempt is known, also one of another kind: a fallback may be a whole agent."""
    span = group[0]
    if span.operation_id is None:
        return span.superseded_by is not None or span.attempt_kind is not None
    alike = [s for s in store if (s.trace_id, s.operation_id) == (span.trace_id, span.operation_id) and tries(s)]
    return len(alike) > 1 or any(s.superseded_by is not None or s.attempt_kind is not None for s in alike)


def tries(span: SpanRecord) -> bool:
    return span.operation is not None and not (span.operation == "execute_tool" and span.answered_by is not None)


def tokens(span: SpanRecord) -> int:
    usage = span.usage
    return 0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)


@given(stores)
def test_every_part_is_within_its_whole(reader: Any, prices: PriceBook, store: list[SpanRecord]) -> None:
    summary = summarize(reader(store), prices)
    conduct = summary.conduct
    for attempts in conduct.attempts:
        assert attempts.retried_operations <= attempts.operations <= attempts.attempts
        assert attempts.replaced.spans <= attempts.retried.spans <= attempts.attempts
        assert attempts.replaced.tokens.total <= attempts.retried.tokens.total <= summary.total.tokens.total
        assert sum(kind.spend.spans for kind in attempts.kinds) <= attempts.retried.spans
        assert attempts.replaced.calls <= conduct.replaced.calls <= summary.total.calls
    assert conduct.replaced.spans == sum(attempts.replaced.spans for attempts in conduct.attempts)
    assert conduct.repeated_tool_calls <= conduct.tool_calls
    assert sum(row.errors for row in conduct.tool_errors) <= conduct.tool_calls


@given(stores)
def test_what_is_said_of_attempts_moves_no_other_figure(
    reader: Any, prices: PriceBook, store: list[SpanRecord]
) -> None:
    silent = [
        replace(span, operation_id=None, attempt_kind=None, superseded_by=None, loop_kind=None, run_state=None)
        for span in store
    ]
    told, untold = summarize(reader(store), prices), summarize(reader(silent), prices)
    assert replace(told, conduct=untold.conduct) == untold
