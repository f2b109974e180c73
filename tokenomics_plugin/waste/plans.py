"""Plans that nobody followed (D10)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, PlanRevision, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import end_of, facts_of
from tokenomics_plugin.waste.finding import Finding

__all__ = ["DeadPlan"]

_LOOK_BACK: Final = 16
"""Model calls among which a plan's is looked for: others may run beside it, but not many."""


@dataclass(frozen=True, kw_only=True)
class DeadPlan:
    """D10: a plan, or a revision of one, of whose new steps none was carried out, found done or kept.

    What is claimed is the model call that wrote it. It is no more than likely: to plan may help where the plan does
    not. A plan with one step that was followed is no finding, and neither is any plan of a program that does not say
    which calls carry out its steps.
    """

    id: ClassVar[str] = "D10"
    name: ClassVar[str] = "dead plan"
    tier: ClassVar[Tier] = Tier.B
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PLANS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each dead revision."""
        plans: defaultdict[str, list[PlanRevision]] = defaultdict(list)
        carried_out: set[str] = set()
        for step in trajectory.steps:
            if isinstance(step, PlanRevision):
                plans[step.plan_id or step.span_id].append(step)
            elif step.step_id is not None:
                carried_out.add(step.step_id)
        for revisions in plans.values():
            yield from self._dead(trajectory, revisions, carried_out)

    def _dead(
        self, trajectory: Trajectory, revisions: Sequence[PlanRevision], carried_out: set[str]
    ) -> Iterator[Finding]:
        followed = carried_out | _completed(revisions)
        if not followed or any(revision.steps is None for revision in revisions):
            return  # nobody says what was carried out
        before: frozenset[str] = frozenset()
        for revision, later in zip(revisions, [*revisions[1:], None], strict=True):
            steps = frozenset(revision.steps or ())
            added, before = steps - before, steps
            kept = frozenset() if later is None else frozenset(later.steps or ())
            if not added or added & (followed | kept):
                continue
            if (writer := _writer(trajectory, revision)) is not None and not _asked_for_more(trajectory, writer):
                evidence = (revision.span_id,) if later is None else (revision.span_id, later.span_id)
                yield Finding(cause=self.id, tier=Tier.B, spans=(writer.span_id,), evidence=evidence)


def _completed(revisions: Sequence[PlanRevision]) -> set[str]:
    """Steps that some revision found done, or under way."""
    return {
        step
        for revision in revisions
        for step, status in zip(revision.steps or (), revision.statuses or (), strict=False)
        if status != "pending"
    }


def _writer(trajectory: Trajectory, revision: PlanRevision) -> ModelCall | None:
    """The model call that a revision comes from: the last of its agent, in its node, that had begun before it ended."""
    calls = trajectory.model_calls
    index = bisect_right(calls, end_of(revision), key=lambda call: call.started_unix_nano)
    for call in reversed(calls[max(0, index - _LOOK_BACK) : index]):
        if call.agent == revision.agent and revision.node in (None, call.node):
            return call
    return None


def _asked_for_more(trajectory: Trajectory, writer: ModelCall) -> bool:
    """Whether a call that wrote a plan also asked for tools that did something else."""
    asked = facts_of(trajectory).asked.get(writer.span_id, ())
    return any(call.span_id in asked and call.step_kind != "plan" for call in trajectory.tool_calls)
