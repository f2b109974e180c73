from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.report.attribution import Owner, attribute
from tokenomics_plugin.span import SpanRecord

AGENT, TOOL, CHAT = semconv.OPERATION_INVOKE_AGENT, semconv.OPERATION_EXECUTE_TOOL, semconv.OPERATION_CHAT


def span(span_id: str, parent: str | None = None, **fields: str) -> SpanRecord:
    return SpanRecord(trace_id="t", span_id=span_id, parent_span_id=parent, **fields)  # type: ignore[arg-type]


def owners(*spans: SpanRecord, judged_task: str | None = None) -> dict[str, Owner]:
    return {found.span_id: owner for found, owner in attribute(spans, judged_task=judged_task)}


def test_the_nearest_ancestor_with_a_task_counts() -> None:
    found = owners(span("a", task_id="outer"), span("b", "a", task_id="inner"), span("c", "b"), span("d", "a"))
    assert [found[name].task_id for name in "abcd"] == ["outer", "inner", "inner", "outer"]


def test_a_traces_only_task_covers_spans_outside_it() -> None:
    found = owners(span("web"), span("agent", "web", task_id="ticket"), span("call", "agent"), span("other"))
    assert {owner.task_id for owner in found.values()} == {"ticket"}


def test_with_two_tasks_in_a_trace_a_span_outside_both_has_none() -> None:
    assert owners(span("batch"), span("a", "batch", task_id="1"), span("b", "batch", task_id="2"))["batch"] == Owner()


def test_the_task_of_an_outcome_that_names_the_trace_is_the_last_resort() -> None:
    assert owners(span("a"), judged_task="ticket")["a"].task_id == "ticket"
    assert owners(span("a", task_id="own"), span("b"), judged_task="ticket")["b"].task_id == "own"


def test_the_nearest_named_agent_did_the_work() -> None:
    found = owners(
        span("outer", operation=AGENT, agent_name="planner"),
        span("inner", "outer", operation=AGENT, agent_name="critic"),
        span("nameless", "inner", operation=AGENT),
        span("call", "nameless", operation=CHAT),
        span("tool", "outer", operation=TOOL, tool_name="search"),
    )
    assert [found[name].agent for name in ("outer", "inner", "nameless", "call", "tool")] == [
        "planner",
        "critic",
        "critic",
        "critic",
        "planner",
    ]


def test_a_spans_own_agent_name_is_its_own_but_not_its_childrens() -> None:
    found = owners(
        span("agent", operation=AGENT, agent_name="planner"),
        span("tool", "agent", operation=TOOL, tool_name="ask", agent_name="helper"),
        span("call", "tool", operation=CHAT),
    )
    assert (found["tool"].agent, found["call"].agent) == ("helper", "planner")


def test_calls_inside_a_tool_belong_to_it_also_through_an_agent() -> None:
    found = owners(
        span("tool", operation=TOOL, tool_name="delegate"),
        span("agent", "tool", operation=AGENT, agent_name="helper"),
        span("call", "agent", operation=CHAT),
        span("after", operation=CHAT),
    )
    assert (found["call"].tool, found["after"].tool) == ("delegate", None)


def test_a_tool_without_a_name_attribute_goes_by_its_spans_name() -> None:
    assert owners(span("a", operation=TOOL, name="execute_tool search"))["a"].tool == "execute_tool search"


def test_an_orphan_keeps_what_it_says_itself() -> None:
    assert owners(span("a", "missing", task_id="ticket"))["a"].task_id == "ticket"


@pytest.mark.parametrize("parent", ["a", "b"], ids=["its own parent", "a ring of two"])
def test_a_cycle_of_parents_ends(parent: str) -> None:
    found = owners(span("a", parent, task_id="ticket"), span("b", "a"))
    assert found["a"].task_id == found["b"].task_id == "ticket"


def test_a_trace_may_be_deeper_than_the_stack() -> None:
    deep = [span("0", task_id="1"), span("x", task_id="2")]
    deep += [span(str(depth), str(depth - 1)) for depth in range(1, 20_000)]
    assert owners(*reversed(deep))["19999"].task_id == "1"


@given(st.data())
def test_the_order_of_spans_does_not_matter(data: st.DataObject) -> None:
    # Any forest: a parent has a smaller number, or is missing.
    spans = [
        replace(
            span(str(number), data.draw(st.sampled_from([None, "missing", *map(str, range(number))]))),
            operation=data.draw(st.sampled_from([None, AGENT, TOOL, CHAT])),
            task_id=data.draw(st.sampled_from([None, "1", "2"])),
            agent_name=data.draw(st.sampled_from([None, "planner", "critic"])),
            tool_name=data.draw(st.sampled_from([None, "search"])),
        )
        for number in range(data.draw(st.integers(1, 8)))
    ]
    assert owners(*spans) == owners(*data.draw(st.permutations(spans)))
