"""Carrying what has been replaced (D13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect, ToolCall, Trajectory
from tokenomics_plugin.waste.carriage import Carry
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, facts_of, has_completed
from tokenomics_plugin.waste.finding import BlockRange, Finding

__all__ = ["ExpiredContextRent"]


@dataclass(frozen=True, kw_only=True)
class ExpiredContextRent:
    """D13: something was read, written and read again, and the old version is carried beside the new one.

    The first call that is sent both may compare them, so the rent is claimed from the second on. Results that differ
    without a write in between may be the pages of one list.
    """

    id: ClassVar[str] = "D13"
    name: ClassVar[str] = "expired context"
    tier: ClassVar[Tier] = Tier.B
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.CONTEXTS, Need.SIDE_EFFECTS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each result that was replaced."""
        facts = facts_of(trajectory)
        latest: dict[tuple[str | None, str | None, str], ToolCall] = {}
        for tool in trajectory.tool_calls:
            # What depends on its arguments only does not expire.
            if tool.side_effect is not SideEffect.READ or not has_completed(tool):
                continue
            if tool.arguments_hash is None or tool.result_hash is None:
                continue
            key = tool.agent, tool.tool, tool.arguments_hash
            old = latest.get(key)
            latest[key] = tool
            if old is not None and _is_replaced(facts, old, tool) and (blocks := _expired(facts, old, tool)):
                yield Finding(cause=self.id, tier=Tier.B, blocks=blocks, evidence=(old.span_id, tool.span_id))


def _is_replaced(facts: Facts, old: ToolCall, new: ToolCall) -> bool:
    return old.result_hash != new.result_hash and facts.completed_writes.any_between(old, new)


def _expired(facts: Facts, old: ToolCall, new: ToolCall) -> tuple[BlockRange, ...]:
    carries = facts.carriage.of_producer
    return tuple(
        block
        for mine in carries.get(old.span_id, ())
        for its in carries.get(new.span_id, ())
        if mine.calls is its.calls
        for block in _beside(mine, its)
    )


def _beside(old: Carry, new: Carry) -> Iterator[BlockRange]:
    """Where the old block was carried beside the new one, but for the new one's first time."""
    ends = [carry.last + 1 for carry in (old, new) if carry.last is not None]
    for call in old.calls[max(old.first, new.first + 1) : min(ends, default=None)]:
        yield BlockRange(call=call.span_id, start=old.position, stop=old.position + 1)
