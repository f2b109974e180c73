from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.cells import CellLedger, CellSummary
from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.report import summarize
from tokenomics_plugin.store import TraceStore
from tokenomics_plugin.trajectory import (
    UNNAMED_ERROR,
    ModelCall,
    PlanRevision,
    SideEffect,
    SideEffects,
    ToolCall,
    Trajectory,
)
from tokenomics_plugin.usage import TokenUsage

SYSTEM = ContextBlock(hash="1f:aa", role="system", size=40)
RESULT = ContextBlock(hash="1f:bb", role="tool", size=9, producer=f"{3:016x}")
CHAT = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.GEN_AI_PROVIDER_NAME: "p", semconv.GEN_AI_REQUEST_MODEL: "m"}
TOOL = {semconv.GEN_AI_OPERATION_NAME: "execute_tool", semconv.GEN_AI_TOOL_NAME: "get_order"}


@pytest.fixture
def spans(otlp: Any) -> list[Span]:
    """An agent that calls a model, a tool in a node, and the model again."""
    task = {semconv.TASK_ID: "ticket-1", semconv.TASK_GROUP: "refunds"}
    agent = {semconv.GEN_AI_OPERATION_NAME: "invoke_agent", semconv.GEN_AI_AGENT_NAME: "solver"}
    return [
        otlp.span(1, attributes=agent | task, start_time_unix_nano=10, end_time_unix_nano=90),
        otlp.span(
            2,
            parent_span_id=(1).to_bytes(8),
            start_time_unix_nano=20,
            end_time_unix_nano=30,
            attributes=CHAT
            | {
                semconv.GEN_AI_USAGE_INPUT_TOKENS: 50,
                semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 5,
                semconv.GEN_AI_RESPONSE_FINISH_REASONS: ["tool_calls"],
                semconv.GEN_AI_REQUEST_TEMPERATURE: 0.5,
                semconv.GEN_AI_REQUEST_MAX_TOKENS: 400,
                semconv.RESULT_FINGERPRINT: "1f:cc",
                semconv.CONTEXT_BLOCKS: json.dumps([["1f:aa", "system", 40]]),
            },
        ),
        otlp.span(
            4,
            parent_span_id=(1).to_bytes(8),
            start_time_unix_nano=40,
            end_time_unix_nano=60,
            attributes={semconv.GEN_AI_OPERATION_NAME: "run_node", semconv.NODE_NAME: "look_up"},
        ),
        otlp.span(
            3,
            parent_span_id=(4).to_bytes(8),
            start_time_unix_nano=41,
            end_time_unix_nano=50,
            attributes=TOOL
            | {
                semconv.GEN_AI_TOOL_CALL_ID: "call-1",
                semconv.ARGUMENTS_FINGERPRINT: "1f:dd",
                semconv.RESULT_FINGERPRINT: "1f:bb",
            },
        ),
        otlp.span(
            5,
            parent_span_id=(1).to_bytes(8),
            start_time_unix_nano=70,
            end_time_unix_nano=80,
            attributes=CHAT
            | {
                semconv.GEN_AI_USAGE_INPUT_TOKENS: 60,
                semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 6,
                semconv.CONTEXT_PREVIOUS: f"{2:016x}",
                semconv.CONTEXT_KEPT: 1,
                semconv.CONTEXT_BLOCKS: json.dumps([["1f:bb", "tool", 9, None, f"{3:016x}"]]),
            },
        ),
    ]


@pytest.fixture
def read(store: TraceStore, otlp: Any) -> Callable[..., list[Trajectory]]:
    """Load spans and read their trajectories."""

    def load_and_read(spans: Sequence[Span], *, side_effects: SideEffects = SideEffects()) -> list[Trajectory]:  # noqa: B008
        store.load([otlp.traces(*spans)])
        return list(store.trajectories(side_effects=side_effects))

    return load_and_read


@pytest.fixture
def new_store(tmp_path: Path, empty_store: Path) -> Iterator[Callable[[], TraceStore]]:
    """Makes stores, as many as are asked for."""
    with ExitStack() as stores:

        def make() -> TraceStore:
            path = tmp_path / f"{uuid4()}.duckdb"
            shutil.copyfile(empty_store, path)
            return stores.enter_context(TraceStore(path))

        yield make


def test_a_trajectory_is_its_calls_in_order_with_what_is_around_them(
    read: Callable[..., list[Trajectory]], spans: list[Span]
) -> None:
    [trajectory] = read(spans, side_effects=SideEffects(read={"get_*"}))
    assert (trajectory.task_id, trajectory.group, trajectory.agents) == ("ticket-1", "refunds", ("solver",))
    first, tool, second = trajectory.steps
    assert first == ModelCall(
        span_id=f"{2:016x}",
        parent_span_id=f"{1:016x}",
        agent="solver",
        provider="p",
        model="m",
        request_model="m",
        started_unix_nano=20,
        ended_unix_nano=30,
        usage=TokenUsage.from_inclusive(input_tokens=50, output_tokens=5),
        context=(SYSTEM,),
        answer_hash="1f:cc",
        finish_reasons=("tool_calls",),
        temperature=0.5,
        max_tokens=400,
    )
    assert tool == ToolCall(
        span_id=f"{3:016x}",
        parent_span_id=f"{4:016x}",
        agent="solver",
        tool="get_order",
        call_id="call-1",
        started_unix_nano=41,
        ended_unix_nano=50,
        arguments_hash="1f:dd",
        result_hash="1f:bb",
        side_effect=SideEffect.READ,
        node="look_up",
    )
    assert isinstance(second, ModelCall)
    assert second.context == (SYSTEM, RESULT)
    assert trajectory.model_calls == (first, second)
    assert trajectory.tool_calls == (tool,)


def test_blocks_that_are_carried_again_are_the_same_objects(
    read: Callable[..., list[Trajectory]], spans: list[Span]
) -> None:
    [trajectory] = read(spans)
    first, second = (call.context or () for call in trajectory.model_calls)
    assert second[0] is first[0]


def test_a_plan_is_a_step(read: Callable[..., list[Trajectory]], otlp: Any) -> None:
    plan = {
        semconv.GEN_AI_OPERATION_NAME: "plan",
        semconv.PLAN_ID: "p1",
        semconv.PLAN_REVISION: 1,
        semconv.PLAN_STEPS: ["1f:a", "1f:b"],
        semconv.PLAN_STEP_STATUSES: ["completed", "pending"],
        semconv.PLAN_STEPS_ADDED: 1,
        semconv.PLAN_STEPS_REMOVED: 2,
        semconv.PLAN_STEPS_COMPLETED: 1,
    }
    [trajectory] = read([otlp.span(1, attributes=plan, start_time_unix_nano=1, end_time_unix_nano=2)])
    assert trajectory.steps == (
        PlanRevision(
            span_id=f"{1:016x}",
            started_unix_nano=1,
            ended_unix_nano=2,
            plan_id="p1",
            revision=1,
            steps=("1f:a", "1f:b"),
            statuses=("completed", "pending"),
            steps_added=1,
            steps_removed=2,
            steps_completed=1,
        ),
    )


def test_what_a_span_says_of_attempts_endings_and_loops_is_on_its_step(
    read: Callable[..., list[Trajectory]], otlp: Any
) -> None:
    said = {
        semconv.LOGICAL_OPERATION_ID: "op",
        semconv.ATTEMPT_NUMBER: 2,
        semconv.ATTEMPT_KIND: "tool_retry",
        semconv.ATTEMPT_SUPERSEDED_BY: "next",
        semconv.RUN_STATE: "cancelled",
        semconv.REPLAY: True,
        semconv.STEP_KIND: "observe",
        semconv.PLAN_STEP_ID: "1f:s",
        semconv.ANSWERED_BY: "policy",
        semconv.LOOP_KIND: "revisit",
        semconv.LOOP_REPEATS: 3,
    }
    links = [
        Span.Link(trace_id=(1).to_bytes(16), span_id=(number).to_bytes(8), attributes=otlp.attributes(attributes))
        for number, attributes in ((8, {}), (9, {semconv.LINK_KIND: semconv.LINK_REPEATS}))
    ]
    [trajectory] = read(
        [otlp.span(1, attributes=TOOL | said, links=links, status=Status(code=Status.STATUS_CODE_ERROR))]
    )
    [tool] = trajectory.tool_calls
    assert (tool.operation_id, tool.attempt_number, tool.attempt_kind) == ("op", 2, "tool_retry")
    assert (tool.superseded_by, tool.run_state, tool.is_replay) == ("next", "cancelled", True)
    assert (tool.step_kind, tool.step_id, tool.answered_by) == ("observe", "1f:s", "policy")
    assert (tool.loop_kind, tool.loop_repeats, tool.loop_first) == ("revisit", 3, f"{9:016x}")
    assert tool.error_type == UNNAMED_ERROR


def test_a_step_knows_that_a_span_around_it_was_abandoned(read: Callable[..., list[Trajectory]], otlp: Any) -> None:
    branch = {semconv.GEN_AI_OPERATION_NAME: "run_branch", semconv.RUN_STATE: "abandoned"}
    parent = otlp.span(1, attributes=branch)
    [trajectory] = read([parent, otlp.span(2, parent_span_id=(1).to_bytes(8), attributes=CHAT)])
    [call] = trajectory.model_calls
    assert (call.run_state, call.enclosing_run_state) == (None, "abandoned")


def test_a_trace_of_two_tasks_is_two_trajectories_and_one_of_what_is_nobodys(
    read: Callable[..., list[Trajectory]], otlp: Any
) -> None:
    spans = [
        otlp.span(number, attributes=CHAT | ({semconv.TASK_ID: task} if task else {}), start_time_unix_nano=number)
        for number, task in enumerate(["b", "a", None, "b"], start=1)
    ]
    found = {trajectory.task_id: len(trajectory.steps) for trajectory in read(spans)}
    assert found == {"b": 2, "a": 1, None: 1}


def test_a_trace_in_which_no_agent_worked_has_no_trajectory(read: Callable[..., list[Trajectory]], otlp: Any) -> None:
    assert read([otlp.span(1, name="GET /")]) == []


def test_an_agent_that_called_nothing_has_a_trajectory_without_steps(
    read: Callable[..., list[Trajectory]], otlp: Any
) -> None:
    agent = {semconv.GEN_AI_OPERATION_NAME: "invoke_agent", semconv.GEN_AI_AGENT_NAME: "solver"}
    [trajectory] = read([otlp.span(1, attributes=agent)])
    assert (trajectory.steps, trajectory.agents) == ((), ("solver",))


def test_the_outcome_that_counts_is_on_every_trajectory_of_its_task(
    store: TraceStore, read: Callable[..., list[Trajectory]], otlp: Any
) -> None:
    for time, status in ((5, OutcomeStatus.FAILED), (9, OutcomeStatus.SUCCEEDED)):
        outcome = Outcome(task_id="t", status=status, observed_time_unix_nano=time)
        record = otlp.log(event_name=semconv.EVENT_EVALUATION_RESULT, attributes=outcome.to_attributes())
        store.load([otlp.logs(record)])
    spans = [otlp.span(1, trace=trace, attributes=CHAT | {semconv.TASK_ID: "t"}) for trace in (1, 2)]
    statuses = [trajectory.outcome and trajectory.outcome.status for trajectory in read(spans)]
    assert statuses == [OutcomeStatus.SUCCEEDED] * 2


def test_a_trace_without_a_task_belongs_to_the_one_whose_outcome_names_it(
    store: TraceStore, read: Callable[..., list[Trajectory]], otlp: Any
) -> None:
    outcome = Outcome(task_id="t", status=OutcomeStatus.FAILED, group="g")
    record = otlp.log(
        trace_id=(1).to_bytes(16), event_name=semconv.EVENT_EVALUATION_RESULT, attributes=outcome.to_attributes()
    )
    store.load([otlp.logs(record)])
    [trajectory] = read([otlp.span(1, attributes=CHAT)])
    assert (trajectory.task_id, trajectory.group) == ("t", "g")


@pytest.mark.parametrize(
    ("tool", "effect"),
    [
        ("get_order", SideEffect.READ),
        ("get_and_delete", SideEffect.WRITE),
        ("calculate", SideEffect.NONE),
        ("Get_order", SideEffect.UNKNOWN),
        (None, SideEffect.UNKNOWN),
    ],
    ids=["declared", "the worse of two", "none", "case matters", "no name"],
)
def test_what_a_tool_does_is_what_was_declared(tool: str | None, effect: SideEffect) -> None:
    declared = SideEffects(read={"get_*"}, write={"*delete*"}, none={"calculate"})
    assert declared.of(tool) is effect
    assert effect.may_write == (effect in (SideEffect.WRITE, SideEffect.UNKNOWN))


def test_patterns_are_a_set_and_not_one_text() -> None:
    with pytest.raises(ValueError, match="read must be a set of patterns"):
        SideEffects(read="get_*")  # type: ignore[arg-type]


BOOK = PriceBook([Price(provider="p", model="m", input=Decimal(3), cache_read=Decimal(1), output=Decimal(10))])


def summary_of(store: TraceStore) -> CellSummary:
    ledger = CellLedger(BOOK)
    for trajectory in store.trajectories():
        ledger.add(trajectory)
    return ledger.summary()


def test_cells_are_the_same_however_spans_are_exported(
    new_store: Callable[[], TraceStore], otlp: Any, spans: list[Span]
) -> None:
    once = new_store()
    once.load([otlp.traces(*spans)])
    expected = summary_of(once)
    assert expected.reconciliation.is_exact
    assert expected.total.tokens == 121
    assert expected.total.usd == summarize(once, BOOK).total.cost_usd
    for order in list(permutations(spans))[::17]:
        store = new_store()
        for batch in (order[:2], order[1:], order):  # split, and some spans again and again
            store.load([otlp.traces(*batch)])
        assert summary_of(store) == expected
