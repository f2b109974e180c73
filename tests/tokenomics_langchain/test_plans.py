from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.types import Command
from opentelemetry.trace import SpanContext
from pydantic import BaseModel

from tokenomics_langchain.plans import (
    Plan,
    Planner,
    Planners,
    PlanSchema,
    PlanStep,
    Revision,
    StepStatus,
    steps_of_input,
    steps_of_output,
    steps_of_todos,
)

STATUSES: Sequence[StepStatus] = ("pending", "in_progress", "completed")


def fingerprint(text: str) -> str:
    return f"key:{text}"


def span(number: int) -> SpanContext:
    return SpanContext(trace_id=1, span_id=number + 1, is_remote=False)


def todos(**statuses: StepStatus) -> list[PlanStep]:
    return [PlanStep(id=step_id, status=status) for step_id, status in statuses.items()]


def steps(ids: str) -> list[PlanStep]:
    return [PlanStep(id=step_id) for step_id in ids]


# Following a plan


def test_the_first_revision_adds_every_step() -> None:
    revision = Plan().revise(todos(a="in_progress", b="pending"))

    assert revision == Revision(
        number=0,
        steps=("a", "b"),
        statuses=("in_progress", "pending"),
        added=("a", "b"),
        removed=(),
        completed=(),
        carried_out_by={},
        left_out={},
    )


def test_a_revision_says_what_changed() -> None:
    plan = Plan()
    plan.revise(todos(a="completed", b="in_progress", c="pending", d="pending"))

    revision = plan.revise(todos(b="completed", d="in_progress", e="pending", f="completed"))

    assert revision.number == 1
    assert revision.added == ("e", "f")
    assert revision.removed == ("c",)  # a was done before it went
    assert revision.completed == ("b", "f")


def test_the_same_plan_again_changes_nothing() -> None:
    plan = Plan()
    plan.revise(todos(a="completed", b="in_progress"))

    again = plan.revise(todos(a="completed", b="in_progress"))

    assert (again.number, again.added, again.removed, again.completed) == (1, (), (), ())


def test_attributes_are_those_of_the_conventions_page() -> None:
    assert Plan().revise(todos(a="completed", b="pending")).attributes("plan-1") == {
        "tokenomics.plan.id": "plan-1",
        "tokenomics.plan.revision": 0,
        "tokenomics.plan.steps": ("a", "b"),
        "tokenomics.plan.step.statuses": ("completed", "pending"),
        "tokenomics.plan.steps.added": 2,
        "tokenomics.plan.steps.removed": 0,
        "tokenomics.plan.steps.completed": 1,
    }


def test_statuses_are_left_out_when_one_is_unknown() -> None:
    revision = Plan().revise([PlanStep(id="a", status="completed"), PlanStep(id="b")])

    assert "tokenomics.plan.step.statuses" not in revision.attributes("plan-1")


@pytest.mark.parametrize(
    ("listed", "active"),
    [
        pytest.param(todos(a="completed", b="in_progress", c="pending"), "b", id="one"),
        pytest.param(todos(a="in_progress", b="in_progress"), None, id="several"),
        pytest.param(todos(a="pending", b="completed"), None, id="none"),
        pytest.param([], None, id="empty-plan"),
    ],
)
def test_the_active_step_is_the_only_one_in_progress(listed: Sequence[PlanStep], active: str | None) -> None:
    plan = Plan()
    plan.revise(listed)

    assert plan.active == active


def test_a_completed_step_names_the_spans_that_carried_it_out() -> None:
    plan = Plan()
    plan.revise(todos(a="in_progress", b="pending"))
    assert [plan.carried_out(span(number)) for number in range(2)] == ["a", "a"]

    revision = plan.revise(todos(a="completed", b="in_progress"))

    assert revision.carried_out_by == {"a": (span(0), span(1))}
    assert plan.revise(todos(a="completed", b="completed")).carried_out_by == {}


def test_spans_wait_for_the_revision_that_completes_their_step() -> None:
    plan = Plan()
    plan.revise(todos(a="in_progress", b="pending"))
    plan.carried_out(span(0))

    assert plan.revise(todos(a="pending", b="in_progress")).carried_out_by == {}
    assert plan.revise(todos(a="completed", b="in_progress")).carried_out_by == {"a": (span(0),)}


def test_of_many_spans_the_first_are_kept_and_the_others_counted() -> None:
    plan = Plan()
    plan.revise(todos(a="in_progress"))
    for number in range(40):
        plan.carried_out(span(number))

    revision = plan.revise(todos(a="completed"))

    assert revision.carried_out_by == {"a": tuple(span(number) for number in range(32))}
    assert revision.left_out == {"a": 8}


def test_a_span_without_an_active_step_carries_out_none() -> None:
    plan = Plan()

    assert plan.carried_out(span(0)) is None
    assert plan.carried_out(span(0), "unknown") is None


# Executors


def test_a_step_that_is_gone_after_it_was_carried_out_is_completed() -> None:
    plan = Plan()
    plan.revise(steps("abc"))
    assert plan.begin_step(steps("abc")) == plan.active == "a"
    plan.carried_out(span(0))
    plan.end_step("a", is_done=True)

    revision = plan.revise(steps("cd"))

    assert (revision.completed, revision.removed, revision.added) == (("a",), ("b",), ("d",))
    assert revision.carried_out_by == {"a": (span(0),)}
    assert plan.active is None


def test_a_step_that_its_executor_failed_at_is_still_to_do() -> None:
    plan = Plan()
    plan.revise(steps("ab"))
    plan.begin_step()
    plan.end_step("a", is_done=False)

    assert plan.begin_step() == "a"
    plan.end_step("a", is_done=False)
    assert plan.revise(steps("b")).removed == ("a",)


def test_executors_in_parallel_begin_different_steps() -> None:
    plan = Plan()
    plan.revise(steps("abc"))

    assert [plan.begin_step(), plan.begin_step(steps("c")), plan.begin_step(), plan.begin_step()] == [
        "a",
        "c",
        "b",
        None,
    ]
    assert plan.active is None


def test_an_executor_that_keeps_the_whole_list_goes_on_to_the_next_step() -> None:
    plan = Plan()
    plan.revise(steps("abc"))
    begun = []
    for _ in range(3):
        begun.append(plan.begin_step(steps("abc")))
        plan.end_step(str(begun[-1]), is_done=True)

    assert begun == ["a", "b", "c"]
    assert plan.begin_step(steps("abc")) == "a"  # once more, for nothing else is left


def test_a_step_whose_status_says_so_is_not_begun_again() -> None:
    plan = Plan()
    plan.revise(todos(a="completed", b="pending"))

    assert plan.begin_step(todos(a="completed", b="pending")) == "b"
    assert plan.begin_step() is None


def test_a_step_that_is_planned_again_is_to_be_done_again() -> None:
    plan = Plan()
    plan.revise(steps("ab"))
    plan.begin_step()
    plan.carried_out(span(0))
    plan.end_step("a", is_done=True)

    assert plan.revise(steps("ab")).completed == ()
    assert plan.begin_step(steps("ab")) == "a"
    plan.carried_out(span(1))
    plan.end_step("a", is_done=True)
    assert plan.revise(steps("b")).carried_out_by == {"a": (span(0), span(1))}


def test_what_was_carried_out_is_settled_without_a_new_plan() -> None:
    plan = Plan()
    plan.revise(steps("ab"))
    plan.begin_step()
    plan.carried_out(span(0))
    plan.end_step("a", is_done=True)

    revision = plan.settle()

    assert revision is not None
    assert (revision.number, revision.steps, revision.completed) == (1, ("b",), ("a",))
    assert revision.carried_out_by == {"a": (span(0),)}
    assert plan.settle() is None


def test_an_executor_of_a_step_that_was_dropped_meanwhile_ends_quietly() -> None:
    plan = Plan()
    plan.revise(steps("ab"))
    plan.begin_step()

    assert plan.revise(steps("b")).removed == ("a",)
    plan.end_step("a", is_done=True)
    assert plan.settle() is None


# Steps with the same text


def test_two_steps_with_the_same_text_are_two_steps() -> None:
    assert Plan().revise(steps("aba")).steps == ("a", "b", "a#2")


def test_of_two_steps_with_the_same_text_the_one_carried_out_is_gone() -> None:
    plan = Plan()
    plan.revise(steps("aa"))
    plan.begin_step(steps("aa"))
    plan.end_step("a", is_done=True)

    revision = plan.revise(steps("a"))

    assert (revision.steps, revision.completed, revision.removed) == (("a#2",), ("a",), ())


@pytest.mark.parametrize(
    ("listed", "stays", "removed"),
    [("pending", "a#2", ()), ("completed", "a", ("a#2",))],
    ids=["completed-one-dropped", "pending-one-dropped"],
)
def test_of_two_todos_with_the_same_text_the_status_tells_which_is_gone(
    listed: StepStatus, stays: str, removed: tuple[str, ...]
) -> None:
    plan = Plan()
    plan.revise([PlanStep(id="a", status="completed"), PlanStep(id="a", status="pending")])

    revision = plan.revise([PlanStep(id="a", status=listed)])

    assert (revision.steps, revision.removed, revision.added, revision.completed) == ((stays,), removed, (), ())


def test_one_more_step_with_the_same_text_takes_the_first_free_number() -> None:
    plan = Plan()
    plan.revise([PlanStep(id="a", status="completed"), *todos(b="pending"), PlanStep(id="a", status="pending")])
    plan.revise([PlanStep(id="a", status="pending")])

    assert plan.revise(steps("aaa")).added == ("a", "a#3")


# Random plans

plan_steps = st.builds(PlanStep, id=st.sampled_from("abcd"), status=st.sampled_from(STATUSES))
todo_lists = st.lists(plan_steps, max_size=6)


@given(st.lists(todo_lists, max_size=6))
def test_successive_todo_lists_explain_each_other(lists: list[list[PlanStep]]) -> None:
    plan = Plan()
    before: Mapping[str, StepStatus | None] = {}
    for number, listed in enumerate(lists):
        revision = plan.revise(listed)
        after = dict(zip(revision.steps, revision.statuses, strict=True))

        assert revision.number == number
        assert len(after) == len(listed)
        assert [step_id.partition("#")[0] for step_id in after] == [step.id for step in listed]
        assert revision.statuses == tuple(step.status for step in listed)
        assert set(revision.added) == after.keys() - before.keys()
        gone = before.keys() - after.keys()
        assert set(revision.removed) == {step_id for step_id in gone if before[step_id] != "completed"}
        assert set(revision.completed) == {
            step_id for step_id, status in after.items() if status == "completed" != before.get(step_id)
        }
        before = after


@given(st.lists(todo_lists, max_size=6))
def test_no_more_is_added_or_dropped_than_the_texts_of_the_steps_tell(lists: list[list[PlanStep]]) -> None:
    plan = Plan()
    known: set[str] = set()
    for earlier, listed in zip([[], *lists], lists, strict=False):
        revision = plan.revise(listed)
        for text in "abcd":
            grown = sum(step.id == text for step in listed) - sum(step.id == text for step in earlier)
            assert sum(step_id.startswith(text) for step_id in revision.added) == max(0, grown)
            assert sum(step_id.startswith(text) for step_id in known - set(revision.steps)) == max(0, -grown)
        known = set(revision.steps)


executor_moves = st.lists(st.text("abc", max_size=4) | st.booleans(), max_size=12)


@given(executor_moves)
def test_what_an_executor_carried_out_completes_once_and_is_never_removed(moves: list[str | bool]) -> None:
    """A text re-plans; a truth value carries out the next step, well or not."""
    plan, number = Plan(), 0
    done: dict[str, list[SpanContext]] = {}  # since the last revision
    listed: set[str] = set()
    for move in moves:
        if isinstance(move, bool):
            if (step_id := plan.begin_step()) is not None:
                number += 1
                plan.carried_out(span(number), step_id)
                plan.end_step(step_id, is_done=move)
                if move:
                    done.setdefault(step_id, []).append(span(number))
            continue
        revision = plan.revise(steps(move))
        gone = listed - set(revision.steps)
        assert set(revision.completed) == gone & done.keys()
        assert set(revision.removed) == gone - done.keys()
        for step_id in revision.completed:
            assert revision.carried_out_by[step_id][-len(done[step_id]) :] == tuple(done[step_id])
        listed, done = set(revision.steps), {}


# Reading plans


class Status(Enum):
    DONE = "done"


class Task(BaseModel):
    description: str
    status: str = "pending"


@dataclass
class Note:
    text: str
    status: Status = Status.DONE


class PlanOutput(BaseModel):
    steps: list[str]


class Trap:
    @property
    def content(self) -> str:
        raise RuntimeError("code of the application's")


def test_todos_are_read_as_the_middleware_takes_them() -> None:
    todos = [{"content": "look", "status": "in_progress"}, {"content": " leap ", "status": "pending"}]

    assert steps_of_todos(todos, fingerprint) == (
        PlanStep(id="key:look", status="in_progress"),
        PlanStep(id="key:leap", status="pending"),
    )


@pytest.mark.parametrize(
    ("item", "step"),
    [
        pytest.param("look", PlanStep(id="key:look"), id="text"),
        pytest.param({"task": "look", "status": "TODO"}, PlanStep(id="key:look", status="pending"), id="mapping"),
        pytest.param({"step": "look", "status": "lost"}, PlanStep(id="key:look"), id="other-status"),
        pytest.param({"title": "look", "status": ["done"]}, PlanStep(id="key:look"), id="no-status"),
        pytest.param(
            Task(description="look", status="In progress"), PlanStep(id="key:look", status="in_progress"), id="pydantic"
        ),
        pytest.param(Note("look"), PlanStep(id="key:look", status="completed"), id="dataclass-and-enum"),
    ],
)
def test_a_step_is_read_from_what_has_a_text(item: Any, step: PlanStep) -> None:
    assert steps_of_todos([item, {"content": 3}, None, "  "], fingerprint) == (step,)


@pytest.mark.parametrize(
    "junk", [None, "look, then leap", 7, {"content": "look"}, [1, 2], [{"other": "look"}], [Trap()], ["x"] * 1_001]
)
def test_what_is_no_list_of_steps_is_no_plan(junk: Any) -> None:
    assert steps_of_todos(junk, fingerprint) is None


def test_an_empty_list_is_a_plan_without_steps() -> None:
    assert steps_of_todos([], fingerprint) == ()


@pytest.mark.parametrize(
    ("output", "key"),
    [
        pytest.param({"plan": ["look", "leap"], "other": 1}, "plan", id="mapping"),
        pytest.param(PlanOutput(steps=["look", "leap"]), "steps", id="pydantic"),
        pytest.param({"plan": PlanOutput(steps=["look", "leap"])}, "plan.steps", id="object-in-a-mapping"),
        pytest.param(Command(update={"plan": ("look", "leap")}, goto="executor"), "plan", id="command"),
        pytest.param(Command(update=[("messages", []), ("plan", ["look", "leap"])]), "plan", id="command-of-pairs"),
        pytest.param([Command(goto="x"), {"plan": ["look", "leap"]}], "plan", id="list"),
    ],
)
def test_a_plan_is_read_from_what_a_node_can_return(output: Any, key: str) -> None:
    assert steps_of_output(output, key, fingerprint) == (PlanStep(id="key:look"), PlanStep(id="key:leap"))


@pytest.mark.parametrize(
    "output", [None, {}, {"plan": None}, {"response": "done"}, Command(goto="x"), [], [3], "plan", {"plan": "1. look"}]
)
def test_an_output_without_the_list_is_no_plan(output: Any) -> None:
    assert steps_of_output(output, "plan", fingerprint) is None


@pytest.mark.parametrize(
    ("inputs", "ids"),
    [
        pytest.param({"plan": ["look", "leap"], "task": "cross"}, ["key:look", "key:leap"], id="state"),
        pytest.param("look", ["key:look"], id="sent-text"),
        pytest.param({"task": "look"}, ["key:look"], id="sent-mapping"),
        pytest.param(Task(description="look"), ["key:look"], id="sent-object"),
        pytest.param({"messages": []}, [], id="neither"),
    ],
)
def test_an_executor_is_given_the_list_or_one_step(inputs: Any, ids: list[str]) -> None:
    assert [step.id for step in steps_of_input(inputs, "plan", fingerprint)] == ids


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["plan", "content", "status", "x"]), inner),
    max_leaves=20,
)


@given(json_values, st.sampled_from(["plan", "plan.plan", "x.plan"]))
def test_any_value_can_be_read(value: Any, key: str) -> None:
    for read in (steps_of_todos(value, fingerprint), steps_of_output(value, key, fingerprint)):
        assert read is None or all(step.id.startswith("key:") for step in read)


# Declaring planners


def test_what_is_declared_is_found_by_its_names() -> None:
    first, again, schema = Planner("plan_it", executor="do_it"), Planner("replan", executor="do_it"), PlanSchema("Plan")

    planners = Planners([first, again, schema])

    assert (planners.of_node("plan_it"), planners.of_node("replan"), planners.of_node("do_it")) == (first, again, None)
    assert (planners.of_executor("do_it"), planners.of_executor("replan")) == (first, None)
    assert (planners.of_schema("Plan"), planners.of_schema("plan_it")) == (schema, None)
    assert (first.steps, schema.steps) == ("plan", "steps")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        pytest.param(lambda: Planner(""), "node must be a name, got ''", id="node"),
        pytest.param(lambda: Planner("p", executor=" "), "executor must be a name, got ' '", id="executor"),
        pytest.param(
            lambda: Planner("p", steps="plan."), "steps must be a name or names joined by dots, got 'plan.'", id="steps"
        ),
        pytest.param(lambda: Planner("p", executor="p"), "a node either plans or carries out, got node='p'", id="both"),
        pytest.param(lambda: PlanSchema(""), "name must be a name, got ''", id="schema"),
        pytest.param(
            lambda: PlanSchema("P", steps=""), "steps must be a name or names joined by dots, got ''", id="field"
        ),
        pytest.param(
            lambda: Planners([Planner("p"), Planner("p", steps="x")]), "'p' must be declared once", id="twice"
        ),
        pytest.param(
            lambda: Planners([Planner("p", executor="q"), Planner("q")]),
            "a node either plans or carries out",
            id="each",
        ),
        pytest.param(
            lambda: Planners([Planner("p", executor="e"), Planner("q", steps="x", executor="e")]),
            "a node carries out the steps of one plan",
            id="two-plans",
        ),
    ],
)
def test_contradictions_are_refused(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        declare()
