"""Trajectories as the simulator sees runs: a step for each model and tool call, in order."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from decimal import Decimal

import numpy as np

from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.simulation import NO_KEY, LoggedRun
from tokenomics_plugin.trajectory import ModelCall, SideEffect, ToolCall, Trajectory

__all__ = ["logged_run"]

_FINAL = {OutcomeStatus.SUCCEEDED: True, OutcomeStatus.FAILED: False, OutcomeStatus.HARMFUL: False}
_Call = ModelCall | ToolCall


def logged_run(trajectory: Trajectory, call_costs: Sequence[Decimal | None]) -> LoggedRun | None:
    """A trajectory as a run of the simulator.

    What is before the first model call is left out: no rule can stop a run before it. A tool costs nothing of its own.

    Args:
        trajectory: What was done for one task in one trace.
        call_costs: USD of each of its model calls.

    Returns:
        The run; `None` when it has no model call, or one of unknown cost: a sum that lacks a call says nothing.
    """
    if not call_costs or None in call_costs:
        return None
    calls = [step for step in trajectory.steps if isinstance(step, ModelCall | ToolCall)]
    first = next(place for place, step in enumerate(calls) if isinstance(step, ModelCall))
    outcome, kept = trajectory.outcome, calls[first:]
    costs = iter(call_costs)
    actions, reads = zip(*_keys(calls), strict=True)
    return LoggedRun(
        task_id=trajectory.task_id or trajectory.trace_id,
        cluster=trajectory.group,
        step_costs=np.array([float(next(costs) or 0) if isinstance(step, ModelCall) else 0.0 for step in kept]),
        begins_call=np.array([isinstance(step, ModelCall) for step in kept]),
        step_errors=np.array([step.error_type is not None for step in kept]),
        action_keys=np.array(_numbered(actions)[first:], dtype=np.int64),
        read_keys=np.array(_numbered(reads)[first:], dtype=np.int64),
        is_success=None if outcome is None else _FINAL.get(outcome.status),
        value=None if outcome is None or outcome.value is None else float(outcome.value),
        trace_id=trajectory.trace_id,
        span_ids=tuple(step.span_id for step in kept),
    )


def _keys(calls: Sequence[_Call]) -> Iterator[tuple[Hashable, Hashable]]:
    """Of each step, what it did in which state, and what it read: `None` for what did or read nothing known.

    The state is another one from a write on, and from a tool on of which nothing is declared, unless that only does
    once more what was done last.
    """
    version, last = 0, None
    for step in calls:
        if not isinstance(step, ToolCall) or step.arguments_hash is None:
            yield None, None
            continue
        action = step.tool, step.arguments_hash
        is_new = step.side_effect is SideEffect.UNKNOWN and action != last
        version += is_new or step.side_effect is SideEffect.WRITE
        last = action
        is_read = step.side_effect in (SideEffect.NONE, SideEffect.READ) and step.error_type is None
        key = (*action, version)
        yield key, (*key, step.result_hash) if is_read and step.result_hash is not None else None


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [NO_KEY if key is None else numbers.setdefault(key, len(numbers)) for key in keys]
