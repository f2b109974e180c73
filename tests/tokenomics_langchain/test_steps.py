from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_langchain.steps import (
    KIND_OF_RETRIEVAL,
    Decided,
    StepKind,
    declared_step_kinds,
    kind_of_model_call,
    kind_of_node,
    kind_of_tool,
)

VERIFIES = Decided(StepKind.VERIFY, "name")


def by_name(name: str | None) -> str | None:
    decided = kind_of_node(name, {}, {})
    assert decided is None or decided.source == "name"
    return None if decided is None else decided.kind.value


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "reflect",
            "reflect reflection_node critique Critic code-review PlanReviewer reviseDraft review_plan plan_review",
        ),
        ("verify", "verify validator check_sql LLMJudge grade_documents answer_grader Test evaluate2 final_check"),
        ("plan", "plan planner replan re_plan make-plan DayPlanner plan_tools PLAN"),
        ("observe", "observe retrieve search_web webSearch read_file Fetch retriever2"),
        ("act", "act execute_step StepExecutor tools tool_node execute_plan plan_executor"),
        ("answer", "answer respond generate_answer final finish final_response"),
    ],
    ids=["reflect", "verify", "plan", "observe", "act", "answer"],
)
def test_a_node_is_known_by_a_word_of_its_name(kind: str, names: str) -> None:
    assert {name: by_name(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize(
    "name",
    [
        "checkout", "check_out", "Check In", "checkpoint", "planet", "plane_tickets", "explanation", "latest",
        "contest", "react", "ReActAgent", "contact", "research", "already", "toolbox", "finally", "agent", "model",
        "", None,
    ],
)  # fmt: skip
def test_words_that_only_look_alike_tell_nothing(name: str | None) -> None:
    assert by_name(name) is None


def test_a_name_that_says_two_things_tells_nothing() -> None:
    assert by_name("plan_and_execute") is None
    assert by_name("review_and_revise") == "reflect"


@pytest.mark.parametrize("hook", ["before_agent", "before_model", "after_model", "after_agent"])
def test_a_middleware_node_is_not_known_by_its_class(hook: str) -> None:
    assert by_name(f"ToolCallLimitMiddleware.{hook}") is None


@given(st.text())
def test_any_name_is_read(name: str) -> None:
    assert by_name(name) in {None, *(kind.value for kind in StepKind)}


def test_what_is_declared_by_name_counts_more_than_metadata_and_words() -> None:
    declared = declared_step_kinds({"planner": "verify"})

    decided = kind_of_node("planner", {"tokenomics_step_kind": "answer"}, declared)

    assert decided == Decided(StepKind.VERIFY, "declared")


def test_what_a_node_declares_in_its_metadata_counts_more_than_words() -> None:
    assert kind_of_node("planner", {"tokenomics_step_kind": "answer"}, {}) == Decided(StepKind.ANSWER, "declared")


@pytest.mark.parametrize("kind", ["guess", 7, None, ["plan"]], ids=repr)
def test_unknown_metadata_is_passed_over(kind: object) -> None:
    assert kind_of_node("planner", {"tokenomics_step_kind": kind}, {}) == Decided(StepKind.PLAN, "name")


def test_an_unknown_kind_cannot_be_declared() -> None:
    with pytest.raises(
        ValueError, match=re.escape("'ponder' must be one of plan, act, observe, reflect, verify, answer, got 'think'")
    ):
        declared_step_kinds({"ponder": "think"})


def test_nothing_need_be_declared() -> None:
    assert declared_step_kinds(None) == {}


@pytest.mark.parametrize(
    ("has_tool_calls", "inside", "in_agent", "decided"),
    [
        pytest.param(True, None, True, Decided(StepKind.ACT, "structure"), id="calls-tools"),
        pytest.param(False, None, True, Decided(StepKind.ANSWER, "structure"), id="calls-none"),
        pytest.param(True, None, False, None, id="outside-an-agent"),
        pytest.param(True, VERIFIES, True, VERIFIES, id="in-a-node"),
        pytest.param(False, VERIFIES, False, VERIFIES, id="in-a-node-outside-an-agent"),
    ],
)
def test_a_model_call_shares_the_kind_of_its_node_or_shows_it_by_its_answer(
    has_tool_calls: bool, inside: Decided | None, in_agent: bool, decided: Decided | None
) -> None:
    assert kind_of_model_call(has_tool_calls=has_tool_calls, inside=inside, in_agent=in_agent) == decided


def test_tools_act_but_for_the_one_that_writes_the_plan() -> None:
    assert kind_of_tool("write_todos") == Decided(StepKind.PLAN, "structure")
    assert kind_of_tool("planner") == kind_of_tool(None) == Decided(StepKind.ACT, "structure")


def test_a_kind_says_how_it_was_decided() -> None:
    assert KIND_OF_RETRIEVAL.attributes == {
        "tokenomics.step.kind": "observe",
        "tokenomics.step.kind.source": "structure",
    }
