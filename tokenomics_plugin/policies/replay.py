"""Puts logged calls to a policy, as if they were made now: its decisions before it is ever installed.

The trajectory stays as it was: in shadow mode a policy sees every call, so its first `stop` is where it would have
ended the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tokenomics_plugin.policy import Allowed, CallPolicy, CallResult, ProposedCall, Verdict
from tokenomics_plugin.trajectory import ModelCall, ToolCall, Trajectory

__all__ = ["first_refusal", "logged_calls", "replay"]

_CHARACTERS_A_TOKEN: Final = 4


def logged_calls(trajectory: Trajectory) -> Iterator[tuple[ProposedCall, CallResult]]:
    """The calls of a stored trajectory, as a policy would have seen them.

    A trace stands for the run, and the name of an agent within it for the agent's run. The length of a model's input
    is told from the tokens that it turned out to be. Calls that a policy refused, or a middleware answered, are left
    out: they were not made.
    """
    for step in trajectory.steps:
        if isinstance(step, ModelCall):
            yield _model_call(trajectory, step), _result(step)
        elif isinstance(step, ToolCall) and step.answered_by in (None, "memory"):
            yield _tool_call(trajectory, step), _result(step)


def replay(policy: CallPolicy, calls: Iterable[tuple[ProposedCall, CallResult]]) -> Iterator[Verdict]:
    """Ask and tell a policy of calls that ended one after the other; a call that it would not allow is not told."""
    for call, result in calls:
        verdict = policy.ask(call)
        if isinstance(verdict, Allowed):
            policy.tell(call, result)
        yield verdict


def first_refusal(policy: CallPolicy, calls: Iterable[tuple[ProposedCall, CallResult]]) -> int | None:
    """Index of the first call that a policy stops, or would stop in shadow mode; `None` for none."""
    for index, verdict in enumerate(replay(policy, calls)):
        if any(decision.action in ("stop", "block") for decision in verdict.decisions):
            return index
    return None


def _model_call(trajectory: Trajectory, step: ModelCall) -> ProposedCall:
    tokens = None if step.usage is None else step.usage.input_tokens
    return ProposedCall(
        kind="model",
        name=step.model or step.request_model,
        provider=step.provider,
        operation_id=step.operation_id or step.span_id,
        attempt=step.attempt_number or 1,
        run_id=trajectory.trace_id,
        agent_run_id=f"{trajectory.trace_id}:{step.agent}",
        agent_name=step.agent,
        task_id=trajectory.task_id,
        conversation_id=None,
        input_characters=None if tokens is None else tokens * _CHARACTERS_A_TOKEN,
        max_output_tokens=step.max_tokens,
    )


def _tool_call(trajectory: Trajectory, step: ToolCall) -> ProposedCall:
    return ProposedCall(
        kind="tool",
        name=step.tool,
        operation_id=step.operation_id or step.span_id,
        attempt=step.attempt_number or 1,
        run_id=trajectory.trace_id,
        agent_run_id=f"{trajectory.trace_id}:{step.agent}",
        agent_name=step.agent,
        task_id=trajectory.task_id,
        conversation_id=None,
        tool_call_id=step.call_id,
        arguments_fingerprint=step.arguments_hash,
    )


def _result(step: ModelCall | ToolCall) -> CallResult:
    state = step.run_state or ("completed" if step.error_type is None else "failed")
    ended = step.ended_unix_nano
    if isinstance(step, ToolCall) and step.answered_by == "memory":
        state = "answered"
    return CallResult(
        state=state,
        duration_ns=0 if ended is None else ended - step.started_unix_nano,
        usage=step.usage if isinstance(step, ModelCall) else None,
        error_type=step.error_type,
        # A trace does not hold answers: that there was one is what a memory in shadow mode needs to know.
        answer=True if isinstance(step, ToolCall) and state == "completed" else None,
    )
