"""From spans to trajectories: what calls did, and what they were part of, trace by trace.

One trace is in memory at a time. Its contexts are resolved over the whole trace, because a call may refer to one that
was made for another task.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from tokenomics_plugin import semconv
from tokenomics_plugin.ancestry import inherited
from tokenomics_plugin.context_blocks import Context, resolve
from tokenomics_plugin.outcome import Outcome
from tokenomics_plugin.store.records import cost, usage
from tokenomics_plugin.trajectory import (
    UNNAMED_ERROR,
    ModelCall,
    PlanRevision,
    SideEffects,
    Step,
    ToolCall,
    Trajectory,
)
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Row", "read_trajectories"]


class Row(NamedTuple):
    """A row of `queries.STEPS`: a span, as attributes and columns say it."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_unix_nano: int
    duration_nano: int | None
    status: str
    error_type: str | None
    operation: str | None
    provider: str | None
    request_model: str | None
    response_model: str | None
    agent_name: str | None
    tool_name: str | None
    task_id: str | None
    task_group: str | None
    reported_cost: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    run_state: str | None
    node_name: str | None
    step_kind: str | None
    step_id: str | None
    operation_id: str | None
    attempt_kind: str | None
    superseded_by: str | None
    answered_by: str | None
    arguments_fingerprint: str | None
    result_fingerprint: str | None
    tool_call_id: str | None
    finish_reasons: str | None
    context_previous: str | None
    context_kept: str | None
    context_blocks: str | None
    loop_kind: str | None
    plan_id: str | None
    plan_steps: str | None
    plan_step_statuses: str | None
    is_replay: bool
    is_cache_hit: bool
    is_usage_estimated: bool
    attempt_number: int | None
    loop_repeats: int | None
    max_tokens: int | None
    plan_revision: int | None
    plan_steps_added: int | None
    plan_steps_removed: int | None
    plan_steps_completed: int | None
    temperature: float | None
    loop_first: str | None

    @property
    def end_unix_nano(self) -> int | None:
        """When it ended; `None` when the sender's clock stepped back in between."""
        return None if self.duration_nano is None else self.start_unix_nano + self.duration_nano

    @property
    def error(self) -> str | None:
        """How it failed; `None` when it did not."""
        return self.error_type or (UNNAMED_ERROR if self.status == "Error" else None)


class _Around(NamedTuple):
    """What is around a span, the span itself included; `None` where nothing is."""

    task_id: str | None = None
    agent: str | None = None
    tool: str | None = None
    node: str | None = None
    step_id: str | None = None
    run_state: str | None = None

    def below(self, row: Row) -> _Around:
        """What is around the children of a span that this is around."""
        task_id, agent, tool, node, step_id, run_state = self
        if row.operation == semconv.OPERATION_INVOKE_AGENT:
            agent = row.agent_name or agent
        elif row.operation == semconv.OPERATION_EXECUTE_TOOL:
            tool = row.tool_name or row.name or tool
        return _Around(
            row.task_id or task_id,
            agent,
            tool,
            row.node_name or node,
            row.step_id or step_id,
            row.run_state or run_state,
        )


_NOTHING: Final = _Around()


def read_trajectories(
    rows: Iterable[tuple[Any, ...]],
    *,
    outcomes: Mapping[str, Outcome],
    judged_tasks: Mapping[str, str],
    side_effects: SideEffects,
) -> Iterator[Trajectory]:
    """The trajectories of spans, in the order of their traces.

    Spans belong to the task that they or an ancestor name. Where a trace names one task only, all of it does; where it
    names none, all of it belongs to the task whose outcome names the trace. A trace in which no agent, model or tool
    worked has no trajectory.

    Args:
        rows: Rows of `queries.STEPS`.
        outcomes: Task -> the judgement that counts.
        judged_tasks: Trace -> task, where an outcome names its trace.
        side_effects: What tools do.
    """
    for trace_id, spans in groupby(map(Row._make, rows), key=attrgetter("trace_id")):
        trace = {row.span_id: row for row in spans}
        yield from _of_trace(trace_id, trace, outcomes, judged_tasks.get(trace_id), side_effects)


def _of_trace(
    trace_id: str,
    trace: Mapping[str, Row],
    outcomes: Mapping[str, Outcome],
    judged_task: str | None,
    side_effects: SideEffects,
) -> Iterator[Trajectory]:
    around = inherited(trace, _Around.below, nothing=_NOTHING)
    contexts = _contexts(trace)
    for task_id, rows in _by_task(trace, around, judged_task).items():
        outcome = None if task_id is None else outcomes.get(task_id)
        steps = (_step(row, around, contexts, side_effects) for row in rows)
        yield Trajectory(
            trace_id=trace_id,
            task_id=task_id,
            group=_group(rows, task_id, outcome),
            outcome=outcome,
            steps=tuple(step for step in steps if step is not None),
            agents=tuple(dict.fromkeys(agent for row in rows if (agent := _agent(row, around)) is not None)),
        )


def _by_task(
    trace: Mapping[str, Row], around: Mapping[str, _Around], judged_task: str | None
) -> Mapping[str | None, Sequence[Row]]:
    """The spans of agents' work by their task, the tasks in order of their first span."""
    named = {row.task_id for row in trace.values() if row.task_id}
    only_task = judged_task if not named else next(iter(named)) if len(named) == 1 else None
    work = [row for row in trace.values() if row.operation is not None]
    if len(named) <= 1:
        return {only_task: work} if work else {}
    tasks: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in work:
        tasks[around[row.span_id].task_id].append(row)
    return tasks


def _group(rows: Sequence[Row], task_id: str | None, outcome: Outcome | None) -> str | None:
    """One task has one group; of contradicting ones the first by name, and the outcome's when no span has one."""
    groups = {row.task_group for row in rows if row.task_group and row.task_id == task_id}
    if groups:
        return min(groups)
    return None if outcome is None else outcome.group


def _contexts(trace: Mapping[str, Row]) -> dict[str, Context | None]:
    return resolve(
        {
            span_id: {
                semconv.CONTEXT_PREVIOUS: row.context_previous,
                semconv.CONTEXT_KEPT: row.context_kept,
                semconv.CONTEXT_BLOCKS: row.context_blocks,
            }
            for span_id, row in trace.items()
            if row.context_blocks is not None
        }
    )


def _step(
    row: Row,
    around: Mapping[str, _Around],
    contexts: Mapping[str, Context | None],
    side_effects: SideEffects,
) -> Step | None:
    if row.operation in semconv.BILLED_OPERATIONS:
        return _model_call(row, around, contexts)
    if row.operation == semconv.OPERATION_EXECUTE_TOOL:
        return _tool_call(row, around, side_effects)
    if row.operation == semconv.OPERATION_PLAN:
        return _plan_revision(row, around)
    return None


def _model_call(row: Row, around: Mapping[str, _Around], contexts: Mapping[str, Context | None]) -> ModelCall:
    here = around[row.span_id]
    return ModelCall(
        span_id=row.span_id,
        parent_span_id=row.parent_span_id,
        agent=row.agent_name or here.agent,
        operation=row.operation or semconv.OPERATION_CHAT,
        provider=row.provider,
        model=row.response_model or row.request_model,
        request_model=row.request_model,
        started_unix_nano=row.start_unix_nano,
        ended_unix_nano=row.end_unix_nano,
        usage=_usage(row),
        reported_cost_usd=cost(row.reported_cost),
        is_usage_estimated=row.is_usage_estimated,
        context=contexts.get(row.span_id),
        answer_hash=row.result_fingerprint,
        finish_reasons=_texts(row.finish_reasons) or (),
        temperature=row.temperature,
        max_tokens=row.max_tokens,
        error_type=row.error,
        run_state=row.run_state,
        enclosing_run_state=_enclosing_run_state(row, around),
        is_cache_hit=row.is_cache_hit,
        is_replay=row.is_replay,
        operation_id=row.operation_id,
        attempt_number=row.attempt_number,
        attempt_kind=row.attempt_kind,
        superseded_by=row.superseded_by,
        step_kind=row.step_kind,
        step_id=here.step_id,
        node=here.node,
        tool=here.tool,
    )


def _tool_call(row: Row, around: Mapping[str, _Around], side_effects: SideEffects) -> ToolCall:
    here = around[row.span_id]
    return ToolCall(
        span_id=row.span_id,
        parent_span_id=row.parent_span_id,
        agent=row.agent_name or here.agent,
        tool=row.tool_name,
        call_id=row.tool_call_id,
        started_unix_nano=row.start_unix_nano,
        ended_unix_nano=row.end_unix_nano,
        arguments_hash=row.arguments_fingerprint,
        result_hash=row.result_fingerprint,
        error_type=row.error,
        side_effect=side_effects.of(row.tool_name),
        run_state=row.run_state,
        enclosing_run_state=_enclosing_run_state(row, around),
        is_replay=row.is_replay,
        operation_id=row.operation_id,
        attempt_number=row.attempt_number,
        attempt_kind=row.attempt_kind,
        superseded_by=row.superseded_by,
        answered_by=row.answered_by,
        loop_kind=row.loop_kind,
        loop_repeats=row.loop_repeats,
        loop_first=row.loop_first,
        step_kind=row.step_kind,
        step_id=here.step_id,
        node=here.node,
    )


def _plan_revision(row: Row, around: Mapping[str, _Around]) -> PlanRevision:
    return PlanRevision(
        span_id=row.span_id,
        parent_span_id=row.parent_span_id,
        agent=_agent(row, around),
        started_unix_nano=row.start_unix_nano,
        ended_unix_nano=row.end_unix_nano,
        plan_id=row.plan_id,
        revision=row.plan_revision or 0,
        steps=_texts(row.plan_steps),
        statuses=_texts(row.plan_step_statuses),
        steps_added=row.plan_steps_added,
        steps_removed=row.plan_steps_removed,
        steps_completed=row.plan_steps_completed,
        node=around[row.span_id].node,
    )


def _agent(row: Row, around: Mapping[str, _Around]) -> str | None:
    return row.agent_name or around[row.span_id].agent


def _enclosing_run_state(row: Row, around: Mapping[str, _Around]) -> str | None:
    return around.get(row.parent_span_id or "", _NOTHING).run_state


def _usage(row: Row) -> TokenUsage | None:
    return usage(
        row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens, row.reasoning_tokens
    )


@lru_cache(maxsize=1024)
def _texts(encoded: str | None) -> tuple[str, ...] | None:
    """A list of texts that the store keeps as JSON; `None` when it is anything else."""
    try:
        values = json.loads(encoded or "")
    except ValueError:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    return tuple(values)
