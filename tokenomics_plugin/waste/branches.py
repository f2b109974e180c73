"""Work that was thrown away: branches that nobody read (D9), and output that nobody waited for (D19)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, PlanRevision, ToolCall, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed
from tokenomics_plugin.waste.finding import Finding

__all__ = ["AbandonedBranch", "UnusedStream"]

_CANCELLED: Final = "cancelled"
_ABANDONED: Final = "abandoned"


@dataclass(frozen=True, kw_only=True)
class AbandonedBranch:
    """D9: work inside an agent, node or branch that was cancelled, while the run around it went on.

    Provable where it wrote nothing, every context is known and none outside has a block of it. Where it was abandoned
    instead, whoever read its stream had some of it: a matter of policy, as are the losers of a choice among samples
    of one prompt, which are the price of the choice. Samples that a later call was sent together are a vote, and no
    finding; so is a cancelled run as a whole.
    """

    id: ClassVar[str] = "D9"
    name: ClassVar[str] = "abandoned branch"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RUN_STATES, Need.CONTEXTS, Need.SIDE_EFFECTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each branch, and one for each choice among samples."""
        facts = facts_of(trajectory)
        branches: defaultdict[tuple[str, str | None], list[ModelCall | ToolCall]] = defaultdict(list)
        is_whole_run = True
        for step in trajectory.steps:
            if isinstance(step, PlanRevision):
                continue
            if step.enclosing_run_state in (_CANCELLED, _ABANDONED):
                branches[step.enclosing_run_state, step.agent].append(step)
            else:
                is_whole_run = False
        if not is_whole_run:
            thrown_away = {step.span_id for steps in branches.values() for step in steps}
            for (state, _), steps in branches.items():
                yield from self._branch(facts, state, steps, thrown_away)
        yield from self._losers(facts)

    def _branch(
        self, facts: Facts, state: str, steps: list[ModelCall | ToolCall], thrown_away: set[str]
    ) -> Iterator[Finding]:
        if any(isinstance(step, ToolCall) and step.side_effect.may_write and has_completed(step) for step in steps):
            return
        readers = (call.span_id for step in steps for call in _readers(facts, step.span_id))
        if not thrown_away.issuperset(readers):
            return
        is_proven = state == _CANCELLED and facts.carriage.is_complete
        yield Finding(
            cause=self.id,
            tier=Tier.A if is_proven else Tier.B if state == _CANCELLED else Tier.C,
            spans=tuple(step.span_id for step in steps),
        )

    def _losers(self, facts: Facts) -> Iterator[Finding]:
        samples: defaultdict[tuple[object, ...], list[ModelCall]] = defaultdict(list)
        for context in facts.carriage.contexts.values():
            call = context.call
            if context.node is not None and call.context and has_completed(call) and not call.is_cache_hit:
                samples[context.node, call.parent_span_id, call.attempt_kind].append(call)
        for calls in samples.values():
            overlapping = [call for call in calls[1:] if call.started_unix_nano < end_of(calls[0])]
            read = [call for call in (calls[0], *overlapping) if facts.carriage.of_producer.get(call.span_id)]
            if overlapping and len(read) == 1:
                losers = [call.span_id for call in (calls[0], *overlapping) if call is not read[0]]
                yield Finding(cause=self.id, tier=Tier.C, spans=tuple(losers), evidence=(read[0].span_id,))


@dataclass(frozen=True, kw_only=True)
class UnusedStream:
    """D19: output of a call that was cancelled, or whose reader went away, and that no later call was sent.

    Provable where it was cancelled and the provider counted its output; likely where the output was estimated. Where
    the reader went away it had read some of it, and perhaps had what it wanted.
    """

    id: ClassVar[str] = "D19"
    name: ClassVar[str] = "output after a cancellation"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RUN_STATES, Need.USAGE})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each call."""
        facts = facts_of(trajectory)
        for call in trajectory.model_calls:
            if call.run_state not in (_CANCELLED, _ABANDONED) or not _has_output(call):
                continue
            if not facts.carriage.of_producer.get(call.span_id):
                yield Finding(cause=self.id, tier=_stream_tier(call), outputs=(call.span_id,))


def _readers(facts: Facts, span_id: str) -> Iterator[ModelCall]:
    """The calls that were sent what a call had produced."""
    for carry in facts.carriage.of_producer.get(span_id, ()):
        yield from carry.uses()


def _has_output(call: ModelCall) -> bool:
    return call.usage is not None and bool(call.usage.visible_output_tokens or call.usage.reasoning_tokens)


def _stream_tier(call: ModelCall) -> Tier:
    if call.run_state == _ABANDONED:
        return Tier.C
    return Tier.B if call.is_usage_estimated else Tier.A
