"""The same again: reads that could not have changed (D1), and prompts that were answered already (D2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, SideEffect, ToolCall, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed, is_named
from tokenomics_plugin.waste.finding import Finding
from tokenomics_plugin.waste.outputs import is_cut_off

__all__ = ["DuplicateModelCall", "DuplicateRead"]


@dataclass(frozen=True, kw_only=True)
class DuplicateRead:
    """D1: a tool was read again with the same arguments, gave the same, and nothing was written in between.

    The model call that asked for it is wasted too, if it asked for nothing else and had been sent the first result;
    so is carrying the request and the second copy. Without that evidence only the tool call is.
    """

    id: ClassVar[str] = "D1"
    name: ClassVar[str] = "exact duplicate read"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.SIDE_EFFECTS})

    polling: frozenset[str] = frozenset()
    """Patterns of tools that are asked again on purpose, such as `get_job_*`."""
    time_to_live_s: float | None = None
    """Seconds after which a result is out of date; `None`: only a write makes it so."""

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each needless read."""
        facts = facts_of(trajectory)
        repeats = list(self._repeats(facts))
        needless = facts.needless_requests(repeats)
        for tool, earlier in repeats:
            asker = facts.asked_by.get(tool.span_id)
            spans = (tool.span_id, asker) if asker in needless and asker is not None else (tool.span_id,)
            knew = asker is not None and facts.knew(asker, earlier.span_id)
            yield Finding(
                cause=self.id,
                tier=Tier.A,
                spans=spans,
                blocks=facts.rent(spans) if knew else (),
                evidence=(earlier.span_id,),
            )

    def _repeats(self, facts: Facts) -> Iterator[tuple[ToolCall, ToolCall]]:
        """Needless reads, each with the first of its kind."""
        first: dict[tuple[str | None, str], ToolCall] = {}
        for tool in facts.trajectory.tool_calls:
            if not _is_read(tool) or tool.arguments_hash is None or is_named(tool.tool, self.polling):
                continue
            key = tool.tool, tool.arguments_hash
            earlier = first.get(key)
            if earlier is not None and self._is_repeat(facts, tool, earlier):
                yield tool, earlier
            else:
                first[key] = tool

    def _is_repeat(self, facts: Facts, tool: ToolCall, earlier: ToolCall) -> bool:
        if tool.result_hash is None or tool.result_hash != earlier.result_hash:
            return False
        age_ns = tool.started_unix_nano - end_of(earlier)
        if self.time_to_live_s is not None and age_ns > self.time_to_live_s * 10**9:
            return False
        # What depends on its arguments only is not changed by any write.
        return tool.side_effect is SideEffect.NONE or not facts.writes.any_between(earlier, tool)


@dataclass(frozen=True, kw_only=True)
class DuplicateModelCall:
    """D2: a model was sent the very context again, with the same parameters.

    Provable at temperature 0 when the answer was the same. Spans do not say which tools and which schema were
    offered, so another answer may be to another question; and a vote over samples may be counted in code, so samples
    that were drawn at the same time are taken for one, as are answers that some later call was sent together.
    """

    id: ClassVar[str] = "D2"
    name: ClassVar[str] = "duplicate model call"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.CONTEXTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each needless call."""
        facts = facts_of(trajectory)
        groups: defaultdict[tuple[object, ...], list[ModelCall]] = defaultdict(list)
        for context in facts.carriage.contexts.values():
            call = context.call
            if context.node is not None and call.context and _is_first_attempt(call):
                key = context.node, call.provider, call.model, call.temperature, call.max_tokens, call.operation
                groups[key].append(call)
        for calls in groups.values():
            for call in calls[1:]:
                if (tier := _tier(facts, calls[0], call)) is not None:
                    yield Finding(cause=self.id, tier=tier, spans=(call.span_id,), evidence=(calls[0].span_id,))


def _is_read(tool: ToolCall) -> bool:
    return (
        not tool.side_effect.may_write
        and has_completed(tool)
        and not tool.is_replay
        and tool.answered_by != "policy"  # which refused it, so that there is no result
    )


def _is_first_attempt(call: ModelCall) -> bool:
    """Whether a call is neither a retry nor tried again: those have causes of their own."""
    return (
        has_completed(call)
        and not call.is_replay
        and not call.is_cache_hit
        and call.attempt_kind is None
        and call.superseded_by is None
        and not is_cut_off(call)
    )


def _tier(facts: Facts, first: ModelCall, call: ModelCall) -> Tier | None:
    """How sure it is that the call was needless; `None` when it need not have been."""
    if facts.is_ensemble(first, call):
        return None
    is_same = call.answer_hash is not None and call.answer_hash == first.answer_hash
    if call.started_unix_nano < end_of(first):
        return Tier.B if is_same and call.temperature == 0 else None
    if call.temperature == 0:
        return Tier.A if is_same else Tier.B
    return Tier.B if is_same else None
