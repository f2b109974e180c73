"""What a cell's money was for, and how the run that it was spent in ended: two axes, never mixed.

A cell has one label. That a run failed is no label: trying costs money too, and only an experiment or an exact
replay of the logs can say which part of it could have been saved.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from tokenomics_plugin.outcome import Outcome, OutcomeStatus

__all__ = ["NO_CAUSES", "Cause", "Causes", "Label", "RunOutcome", "Tier", "label_of", "run_outcome", "strongest"]


class Label(StrEnum):
    """What a cell was for."""

    PRODUCTIVE = "productive"
    """In the evidence slice: the result was made from it."""
    OVERHEAD = "overhead"
    """Needed to work at all: instructions, tool schemas, guardrails, orchestration, the first sending of a block."""
    WASTE = "waste"
    """Flagged by at least one cause."""
    UNKNOWN = "unknown"
    """Nothing says."""


class Tier(StrEnum):
    """How sure a cause is."""

    A = "A"
    """Provable from the trace."""
    B = "B"
    """Likely; its precision has to be audited."""
    C = "C"
    """Depends on the policy: only an experiment or an exact replay may call it avoidable."""


class Cause(NamedTuple):
    """Why something is wasted."""

    id: str
    """The detector's, such as `D1`."""
    tier: Tier
    """How sure it is."""


Causes = frozenset[Cause]
NO_CAUSES: Final[Causes] = frozenset()


class RunOutcome(StrEnum):
    """How the run of a cell ended."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAIL = "fail"
    HARMFUL = "harmful"
    PENDING = "pending"
    UNLABELLED = "unlabelled"


_OUTCOMES: Final = {
    OutcomeStatus.SUCCEEDED: RunOutcome.SUCCESS,
    OutcomeStatus.HARMFUL: RunOutcome.HARMFUL,
    OutcomeStatus.PENDING: RunOutcome.PENDING,
}


def run_outcome(outcome: Outcome | None) -> RunOutcome:
    """Where a run stands on the outcome axis; a failure that is worth something, or scores in (0, 1), is partial."""
    if outcome is None:
        return RunOutcome.UNLABELLED
    if outcome.status is not OutcomeStatus.FAILED:
        return _OUTCOMES[outcome.status]
    is_partial = (outcome.value is not None and outcome.value > 0) or 0 < (outcome.score or 0) < 1
    return RunOutcome.PARTIAL if is_partial else RunOutcome.FAIL


def label_of(causes: Causes, *, is_evidence: bool, is_overhead: bool) -> Label:
    """The label of a cell: a cause wins over evidence, and evidence over the role."""
    if causes:
        return Label.WASTE
    if is_evidence:
        return Label.PRODUCTIVE
    return Label.OVERHEAD if is_overhead else Label.UNKNOWN


def strongest(causes: Causes) -> Tier | None:
    """The surest tier of some causes; `None` when there are none."""
    return min((cause.tier for cause in causes), default=None)
