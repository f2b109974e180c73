"""What to do about it: a recommendation that says how it is known, what it risks, and how to undo it.

The configuration is data: the class to put among an agent's middleware and its arguments. Where LangChain has a
middleware for it, it is that one; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from tokenomics_plugin.resampling import Estimate
from tokenomics_plugin.simulation.evaluation import PolicyResult
from tokenomics_plugin.simulation.rules import (
    CallCap,
    CostBudget,
    LoopBreaker,
    MemoReads,
    RetryCap,
    Rule,
    StopAfterErrors,
)
from tokenomics_plugin.simulation.run_table import RunTable
from tokenomics_plugin.statistics import Range

__all__ = ["Configuration", "Evidence", "IdentificationClass", "Recommendation", "recommend"]

_LANGCHAIN = "langchain.agents.middleware"
_OURS = "tokenomics_langchain"
_EVIDENCE = 20
_ROLLBACK = "Take the middleware out of the agent again; it keeps nothing between runs."


class IdentificationClass(StrEnum):
    """How it is known that a recommendation does what it says."""

    EXACT = "I"
    """Exact from logs."""
    REPLAY = "II"
    """Needs replay."""
    RANDOMISATION = "III"
    """Needs randomisation."""
    ASSOCIATION = "IV"
    """Association only."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A component to add to an agent."""

    component: str
    """Import path of the class."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that it is made with."""

    @property
    def text(self) -> str:
        """The Python that makes it, as `BudgetPolicy(max_cost=3.0, mode='shadow')`."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.component.rpartition('.')[2]}({arguments})"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Where a rule would have acted."""

    task_id: str
    """The task."""
    trace_id: str | None
    """The trace, when the run says."""
    span_id: str | None
    """The first span that would not have been there, when the run says."""
    saved: float
    """What the run would not have cost."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Something to do, with its price and its warrant."""

    action: str
    """What to do, in a sentence."""
    identification: IdentificationClass
    """How it is known."""
    saving: Estimate
    """What it saves on as many runs as were logged."""
    value_at_risk: Range | None
    """Value that those runs would have lost, unknown outcomes from none to all; `None` when nobody said what a
    success is worth, and one is or may be lost."""
    break_even_value: float | None
    """A success must be worth less than this for it to pay; `None` when no success is or may be lost."""
    evidence: tuple[Evidence, ...]
    """The runs that it saves most on, at most 20."""
    configuration: Configuration | None
    """What does it; `None` when no component does, and a `CallPolicy` of your own must."""
    rollback: str
    """How to undo it."""
    assumptions: tuple[str, ...]
    """What must hold for it, in sentences."""


def recommend(table: RunTable, result: PolicyResult, *, value: float | None = None) -> Recommendation | None:
    """Turn a result into a recommendation.

    Args:
        table: The runs that it was computed from.
        result: A rule's result.
        value: Worth of a success that does not say its own, as given to `simulate`.

    Returns:
        The recommendation; `None` when the rule saves nothing, or loses more than it saves at that value.
    """
    if result.saved.point <= 0 or (result.least_gain is not None and result.least_gain <= 0):
        return None
    return Recommendation(
        action=f"{result.rule.description[0].upper()}{result.rule.description[1:]}.",
        identification=IdentificationClass.EXACT,
        saving=result.saved,
        value_at_risk=result.lost_value,
        break_even_value=result.break_even_low,
        evidence=_evidence(table, result.rule),
        configuration=_configuration(result.rule),
        rollback=_ROLLBACK,
        assumptions=result.assumptions,
    )


def _configuration(rule: Rule) -> Configuration | None:
    match rule:
        case CallCap(calls=calls):
            return Configuration(
                component=f"{_LANGCHAIN}.ModelCallLimitMiddleware",
                arguments={"run_limit": calls, "exit_behavior": "end"},
            )
        case CostBudget(limit=limit):
            return Configuration(
                component=f"{_OURS}.BudgetPolicy",
                arguments={"max_cost": limit, "reserve": False, "mode": "shadow"},
            )
        case RetryCap(attempts=attempts):
            return Configuration(component=f"{_OURS}.RetryCap", arguments={"attempts": attempts, "mode": "shadow"})
        case LoopBreaker(repeats=repeats, read_only=read_only):
            return Configuration(
                component=f"{_OURS}.LoopBreaker",
                arguments={"repeats": repeats, "read_only": list(read_only), "action": "stop", "mode": "shadow"},
            )
        case MemoReads(read_only=read_only):
            return Configuration(
                component=f"{_OURS}.MemoTools", arguments={"read_only": list(read_only), "mode": "shadow"}
            )
        case StopAfterErrors() | _:
            return None


def _evidence(table: RunTable, rule: Rule) -> tuple[Evidence, ...]:
    effect = rule.effect(table)
    largest = np.argsort(-effect.saved, kind="stable")[:_EVIDENCE]
    return tuple(
        _of_run(table, int(run), int(effect.first_touched_call[run]), float(effect.saved[run]))
        for run in largest
        if effect.saved[run] > 0
    )


def _of_run(table: RunTable, index: int, call: int, saved: float) -> Evidence:
    run = table.runs[index]
    step = int(table.call_starts[table.offsets[index] + call] - table.step_offsets[index])
    return Evidence(
        task_id=run.task_id,
        trace_id=run.trace_id,
        span_id=None if run.span_ids is None else run.span_ids[step],
        saved=saved,
    )
