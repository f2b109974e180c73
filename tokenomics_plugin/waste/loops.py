"""Going round in circles (D5).

A cycle is found without looking back over the history: for each possible period it is enough to count how many calls
in a row repeated the call one period before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect, ToolCall, Trajectory
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, facts_of, is_named
from tokenomics_plugin.waste.finding import Finding

__all__ = ["Loop"]

_LONGEST_PERIOD: Final = 4


@dataclass(frozen=True, kw_only=True)
class Loop:
    """D5: an agent's tool calls go round: A-B-A-B with up to four in a round, or the same one three times in a row.

    All but the first round is claimed. Provable where every call gave what it had given a round before and nothing
    was written in between. Likely where the results were the same and the tools' effects are unknown, or the results
    are unknown and the tools only read. A result that differs is progress, and ends the loop.
    """

    id: ClassVar[str] = "D5"
    name: ClassVar[str] = "loop"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.SIDE_EFFECTS})

    polling: frozenset[str] = frozenset()
    """Patterns of tools that are asked again on purpose, such as `get_job_*`."""

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each loop."""
        facts = facts_of(trajectory)
        by_agent: defaultdict[str | None, list[ToolCall]] = defaultdict(list)
        for tool in trajectory.tool_calls:
            # Attempts of one call are no actions of their own.
            if not tool.is_replay and tool.attempt_kind is None and not is_named(tool.tool, self.polling):
                by_agent[tool.agent].append(tool)
        for calls in by_agent.values():
            yield from self._loops(facts, calls)

    def _loops(self, facts: Facts, calls: list[ToolCall]) -> Iterator[Finding]:
        runs = [_Run(period) for period in range(1, _LONGEST_PERIOD + 1)]
        claimed = 0
        for index in range(len(calls) + 1):
            for run in runs:
                over = run.advance(facts, calls, index)
                # The shortest period comes first, and what it claimed no longer one claims again.
                if over is not None and over[0] >= claimed:
                    claimed = index
                    yield self._finding(facts, calls, run.period, over)

    def _finding(self, facts: Facts, calls: list[ToolCall], period: int, loop: tuple[int, int, Tier]) -> Finding:
        start, stop, tier = loop
        repeats = [(calls[index], calls[index - period]) for index in range(start, stop)]
        spans = (*(tool.span_id for tool, _ in repeats), *sorted(facts.needless_requests(repeats)))
        return Finding(
            cause=self.id,
            tier=tier,
            spans=spans,
            blocks=facts.rent(spans),
            evidence=tuple(tool.span_id for tool in calls[start - period : start]),
        )


class _Run:
    """How long the calls have been repeating those one period before."""

    __slots__ = ("_count", "_tier", "period")

    def __init__(self, period: int) -> None:
        self.period = period
        self._count = 0
        self._tier = Tier.A

    def advance(self, facts: Facts, calls: list[ToolCall], index: int) -> tuple[int, int, Tier] | None:
        """Count one more call; where that ends a loop, the calls from which to which it went, and how sure it is."""
        tier = None
        if self.period <= index < len(calls):
            tier = _repeats(facts, calls[index], calls[index - self.period])
        if tier is not None:
            self._tier = max(self._tier, tier)
            self._count += 1
            return None
        count, tier, self._count, self._tier = self._count, self._tier, 0, Tier.A
        return (index - count, index, tier) if count >= max(2, self.period) else None


def _repeats(facts: Facts, tool: ToolCall, earlier: ToolCall) -> Tier | None:
    """How sure it is that a call did again what another had done; `None` when it did not."""
    if tool.tool != earlier.tool or tool.arguments_hash is None or tool.arguments_hash != earlier.arguments_hash:
        return None
    if tool.result_hash is None or earlier.result_hash is None:
        is_same_error = tool.error_type is not None and tool.error_type == earlier.error_type
        unchanged = not facts.writes.any_between(earlier, tool)
        return Tier.B if unchanged and (is_same_error or not tool.side_effect.may_write) else None
    if tool.result_hash != earlier.result_hash or facts.declared_writes.any_between(earlier, tool):
        return None
    if tool.side_effect is SideEffect.WRITE and tool.error_type is None:
        return None
    return Tier.B if facts.writes.any_between(earlier, tool) else Tier.A
