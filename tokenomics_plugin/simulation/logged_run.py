"""One run as a policy would have seen it: what each step cost and did, and what became of the task.

A step is anything that costs: a model call, a tool call, a part of either. Rules stop a run only before a step that
begins a model call, so that cutting a logged step in two changes nothing. Keys are numbers: equal keys, equal things.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_KEY", "LoggedRun"]

NO_KEY = -1
"""Stands for a step that took no action, or read nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedRun:
    """A run of a task, from its first step to its last. Arrays have one element a step."""

    task_id: str
    """The business task."""
    step_costs: NDArray[np.float64]
    """What each step cost, in one currency for all runs; at least 0."""
    is_success: bool | None
    """Whether the task succeeded; `None` while nobody knows. That is no failure."""
    value: float | None = None
    """Worth of the run's outcome in the same currency; `None` when nobody said."""
    cluster: str | None = None
    """Tasks that are alike share a cluster; `None` for a task like no other. Runs of one task are always together."""
    begins_call: NDArray[np.bool_] | None = None
    """Whether the step begins a model call; the others belong to the call before them. `None`: every step does."""
    step_errors: NDArray[np.bool_] | None = None
    """Whether the step failed; `None` when errors were not recorded."""
    attempts: NDArray[np.int64] | None = None
    """Number of the attempt at the whole task that the step belongs to, from 1, never falling; `None`: all of one."""
    action_keys: NDArray[np.int64] | None = None
    """Key of the step's action with its arguments and the state it met, `NO_KEY` for none; `None`: not recorded."""
    read_keys: NDArray[np.int64] | None = None
    """Key of a read without effects: tool, arguments, state version and result, `NO_KEY` for any other step. Two
    steps of a run with one key did the same work twice. `None`: not recorded."""
    success_step: int | None = None
    """Index of the step with which success was reached; `None`: with the last, the most that a stop can destroy."""
    trace_id: str | None = None
    """Its trace, to find it again."""
    span_ids: tuple[str, ...] | None = None
    """Span of each step."""

    def __post_init__(self) -> None:
        costs = np.asarray(self.step_costs)
        if costs.ndim != 1 or not len(costs):
            raise ValueError(f"step_costs must be one row of at least one step, got shape {costs.shape}")
        if not (np.isfinite(costs).all() and (costs >= 0).all()):
            raise ValueError("step_costs must be finite and at least 0: leave out runs of unknown cost, and count them")
        for name in ("begins_call", "step_errors", "attempts", "action_keys", "read_keys", "span_ids"):
            column = getattr(self, name)
            if column is not None and len(column) != len(costs):
                raise ValueError(f"{name} must have one element a step, {len(costs)}, got {len(column)}")
        if self.attempts is not None and (np.diff(self.attempts, prepend=1) < 0).any():
            raise ValueError("attempts must count from 1 and never fall: sort the steps by time")
        if self.success_step is not None and not 0 <= self.success_step < len(costs):
            raise ValueError(f"success_step must be an index below {len(costs)}, got {self.success_step}")
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"value must be finite, got {self.value}; use None when nobody said")
