"""Decisions as they come back from recorded spans, and the experiment that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tokenomics_plugin import semconv

if TYPE_CHECKING:
    from tokenomics_plugin.statistics import RandomisedDecisions

__all__ = ["LoggedDecision", "randomised_decisions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedDecision:
    """An event `tokenomics.policy.decision`, with the call that it is about."""

    rule: str
    """The policy."""
    mode: str
    """`shadow` or `enforce`."""
    action: str
    """What it did, or would have done."""
    reason: str
    """Why."""
    estimate: float | None
    """The figure that decided."""
    propensity: float | None
    """Probability with which the call would be made; `None` where chance took no part."""
    kind: str | None
    """What was left to chance."""
    task_id: str | None
    """`tokenomics.task.id` of the call's span."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any], span: Mapping[str, Any]) -> Self:
        """Read the attributes of an event and its span, with values as they were sent or as text, as stored."""
        estimate, propensity = event.get(semconv.POLICY_ESTIMATE), event.get(semconv.POLICY_PROPENSITY)
        return cls(
            rule=event[semconv.POLICY_RULE],
            mode=event[semconv.POLICY_MODE],
            action=event[semconv.POLICY_ACTION],
            reason=event[semconv.POLICY_REASON],
            estimate=None if estimate is None else float(estimate),
            propensity=None if propensity is None else float(propensity),
            kind=event.get(semconv.POLICY_DECISION),
            task_id=span.get(semconv.TASK_ID),
        )

    @property
    def is_randomised(self) -> bool:
        """Whether chance decided: a shadow only says what it would have tossed."""
        return self.mode == "enforce" and self.propensity is not None


def randomised_decisions(decisions: Iterable[LoggedDecision], *, seed: int = 0) -> RandomisedDecisions:
    """The experiment of these decisions, in their order; decisions of one task belong together.

    Raises:
        ValueError: If one was not randomised, or belongs to no task: leave it out, and count it.
    """
    from tokenomics_plugin.statistics import RandomisedDecisions  # numpy is no part of the live path

    logged = list(decisions)
    if any(not decision.is_randomised or decision.task_id is None for decision in logged):
        raise ValueError("a decision was not randomised, or belongs to no task: leave it out, and count it")
    return RandomisedDecisions(
        went_on=[decision.action == "go_on" for decision in logged],
        probabilities=[decision.propensity for decision in logged if decision.propensity is not None],
        clusters=[decision.task_id for decision in logged],
        seed=seed,
    )
