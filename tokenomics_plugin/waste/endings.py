"""Going on when the answer was there already (D17), and what runs cost that came to nothing (D20)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.trajectory import ModelCall, PlanRevision, ToolCall, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed, is_named
from tokenomics_plugin.waste.finding import Finding

__all__ = ["FailedRunSpend", "PostAnswerWork"]

_ANSWER: Final = "answer"
# Looking at an answer is not working on; whether it pays is another question.
_LOOKS: Final = frozenset({"reflect", "verify"})


@dataclass(frozen=True, kw_only=True)
class PostAnswerWork:
    """D17: work after the answer that was delivered in the end was there, and after the last write.

    The delivered answer is that of the last call that a span says was made to answer. Where the same text had been
    answered before, what lies between is provably wasted. What comes after the last answer is likely to be, if none
    of it was sent that answer. A user who speaks in between makes it a conversation, and no finding.
    """

    id: ClassVar[str] = "D17"
    name: ClassVar[str] = "work after the answer"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.CONTEXTS, Need.STEP_KINDS, Need.SIDE_EFFECTS})

    post_processing: frozenset[str] = frozenset()
    """Patterns of agents, nodes and tools that are meant to run afterwards, such as `save_memory`."""

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """At most one finding for each of the two."""
        delivered = _delivered(trajectory)
        if delivered is None:
            return
        facts = facts_of(trajectory)
        first, last = delivered
        since = max(end_of(first), facts.writes.last() or 0)
        after = [step for step in self._work(trajectory, since) if step is not first]
        if not after or _has_user_spoken(facts, first):
            return
        until = end_of(last)
        repeated = [step for step in after if first is not last and step.started_unix_nano < until]
        trailing = [step for step in after if step.started_unix_nano >= until]
        if repeated:
            yield self._finding(Tier.A, repeated, first, last)
        if trailing and not any(facts.knew(step.span_id, answer.span_id) for step in trailing for answer in delivered):
            yield self._finding(Tier.B, trailing, first, last)

    def _work(self, trajectory: Trajectory, since: int) -> Iterator[ModelCall | ToolCall]:
        for step in trajectory.steps:
            if step.started_unix_nano < since or isinstance(step, PlanRevision):
                continue
            if step.is_replay or step.step_kind in _LOOKS:
                continue
            if not any(is_named(name, self.post_processing) for name in (step.agent, step.node, step.tool)):
                yield step

    def _finding(self, tier: Tier, steps: list[ModelCall | ToolCall], first: ModelCall, last: ModelCall) -> Finding:
        spans = tuple(step.span_id for step in steps)
        evidence = tuple(dict.fromkeys((first.span_id, last.span_id)))
        return Finding(cause=self.id, tier=tier, spans=spans, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class FailedRunSpend:
    """D20: everything that a run cost whose task failed or did harm.

    It is shown and labels nothing as waste: most of it is the cost of trying, and how much could have been avoided only
    a replay of a rule for stopping can say. A task that nobody judged has not failed.
    """

    id: ClassVar[str] = "D20"
    name: ClassVar[str] = "failed-run spend"
    tier: ClassVar[Tier] = Tier.C
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OUTCOME})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding, or none."""
        outcome = trajectory.outcome
        if outcome is None or outcome.status not in (OutcomeStatus.FAILED, OutcomeStatus.HARMFUL):
            return
        spans = tuple(step.span_id for step in trajectory.steps if not isinstance(step, PlanRevision))
        if spans:
            yield Finding(cause=self.id, tier=Tier.C, spans=spans, is_waste=False)


def _delivered(trajectory: Trajectory) -> tuple[ModelCall, ModelCall] | None:
    """The first and the last call that gave the answer which was delivered; `None` when no span says which that is."""
    calls = [call for call in trajectory.model_calls if has_completed(call) and call.answer_hash is not None]
    last = next((call for call in reversed(calls) if call.step_kind == _ANSWER), None)
    if last is None:
        return None
    return next(call for call in calls if call.answer_hash == last.answer_hash), last


def _has_user_spoken(facts: Facts, answer: ModelCall) -> bool:
    """Whether a conversation had something new from outside, in a user's name, after an answer."""
    answers = facts.carriage.of_producer.get(answer.span_id, ())
    return any(
        carry.block.role == "user"
        and carry.producer is None
        # The first call of a conversation is sent what the user had said before.
        and (context.index > 0 or any(its.is_in(context) and its.position < carry.position for its in answers))
        for context in facts.carriage.contexts.values()
        if context.call.started_unix_nano >= end_of(answer)
        for carry in context.added
    )
