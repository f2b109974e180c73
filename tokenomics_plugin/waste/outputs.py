"""Output that was cut off and made again, or that nobody went on from (D14)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, Trajectory
from tokenomics_plugin.waste.carriage import CarriedContext
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed
from tokenomics_plugin.waste.finding import Finding

__all__ = ["OverlongOutput", "is_cut_off"]

_CUT_OFF: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
"""Finish reasons that say so, in lower case."""


@dataclass(frozen=True, kw_only=True)
class OverlongOutput:
    """D14: the limit of output tokens cut an answer off, and it was asked for again from the start.

    The cut-off call is claimed whole; an answer that was continued instead is no finding. Where a conversation went on
    without an answer that had asked for nothing, its output is claimed as a matter of policy: code may have read it.
    """

    id: ClassVar[str] = "D14"
    name: ClassVar[str] = "over-long output"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CONTEXTS, Need.HASHES})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each answer."""
        facts = facts_of(trajectory)
        calls = {call.span_id: call for call in trajectory.model_calls}
        redone: dict[tuple[object, ...], ModelCall] = {}
        # From the last to the first: what comes after a call is known when it is reached.
        for context in reversed(facts.carriage.contexts.values()):
            call, key = context.call, (context.node, context.call.agent, context.call.node)
            again = calls.get(call.superseded_by or "") or redone.get(key)
            if context.node is not None:
                redone[key] = call
            if is_cut_off(call):
                if again is not None and again.started_unix_nano >= end_of(call):
                    yield Finding(cause=self.id, tier=Tier.A, spans=(call.span_id,), evidence=(again.span_id,))
            elif (after := _left_behind_by(facts, context)) is not None:
                yield Finding(
                    cause=self.id,
                    tier=Tier.C,
                    outputs=(call.span_id,),
                    evidence=(after.span_id,),
                )


def is_cut_off(call: ModelCall) -> bool:
    """Whether a limit of tokens ended the answer."""
    return any(reason.lower() in _CUT_OFF for reason in call.finish_reasons)


def _left_behind_by(facts: Facts, context: CarriedContext) -> ModelCall | None:
    """The call that went on with a conversation as if an answer had not been given; `None` when none did."""
    call = context.call
    if call.answer_hash is None or not has_completed(call) or call.superseded_by is not None or call.is_cache_hit:
        return None
    # What these say steers the program.
    if call.step_kind not in (None, "act", "answer") or facts.asked.get(call.span_id):
        return None
    if facts.carriage.of_producer.get(call.span_id) or context.index + 1 == len(context.calls):
        return None
    after = context.calls[context.index + 1]
    goes_on = facts.carriage.contexts[after.span_id]
    has_more = len(after.context or ()) > len(call.context or ())
    is_longer = has_more and goes_on.known_prefix >= len(call.context or ()) > 0
    return after if is_longer and after.started_unix_nano >= end_of(call) else None
