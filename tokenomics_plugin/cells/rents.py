"""What each block cost over its life: making it, sending it once, and the rent of being carried on.

An agent pays for a tool's result once when it reads it, and again on every later turn. The rent of a block is what
the calls after the first one paid to carry it; together with the templates, the lives of all blocks add up to the bill.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tokenomics_plugin.cells.carrying import BlockKey, Lineage
from tokenomics_plugin.cells.tariff import usd
from tokenomics_plugin.trajectory import ModelCall, Trajectory

__all__ = ["TEMPLATE_ROLE", "UNKNOWN_ROLE", "BlockCost", "LifeCost", "Rents"]

TEMPLATE_ROLE: Final = "template"
"""Role of what calls paid beyond their blocks: tool schemas, templates, fees."""
UNKNOWN_ROLE: Final = "unknown"
"""Role of blocks of which nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LifeCost:
    """What blocks cost over their lives, USD."""

    generation_usd: Decimal
    """Making them: the output of model calls."""
    first_usd: Decimal
    """Sending them for the first time."""
    rent_usd: Decimal
    """Sending them again."""

    @property
    def usd(self) -> Decimal:
        """All of it."""
        return self.generation_usd + self.first_usd + self.rent_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockCost:
    """One block of one trajectory."""

    trace_id: str
    """32 hex digits."""
    hash: str | None
    """Its fingerprint; `None` for an answer that no span gives one."""
    producer: str | None
    """Span that produced it; `None` when it came from outside the trace."""
    role: str
    """system, user, assistant, tool, other."""
    tool: str | None
    """Tool whose result it is; `None` for other blocks."""
    tokens: int
    """How many tokens it is, as far as is known."""
    carried: int
    """Calls that sent it."""
    cost: LifeCost
    """What it cost."""


class _Life:
    """Attodollars so far."""

    __slots__ = ("first", "generation", "rent")

    def __init__(self) -> None:
        self.generation = self.first = self.rent = 0

    @property
    def total(self) -> int:
        return self.generation + self.first + self.rent

    def add(self, other: _Life) -> None:
        self.generation += other.generation
        self.first += other.first
        self.rent += other.rent

    def cost(self) -> LifeCost:
        return LifeCost(generation_usd=usd(self.generation), first_usd=usd(self.first), rent_usd=usd(self.rent))


class _Block(_Life):
    """A block of the trajectory that is being added up."""

    __slots__ = ("carried", "role", "tokens")

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role
        self.tokens = self.carried = 0


class _Dear:
    """A block that is kept; the least dear one is the first to go."""

    __slots__ = ("block", "rank")

    def __init__(self, rank: tuple[int, str, int], block: BlockCost) -> None:
        self.rank = rank
        self.block = block

    def __lt__(self, other: _Dear) -> bool:
        return self.rank < other.rank


class Rents:
    """Lives of blocks, summed up by role and by tool; of single blocks only the dearest are kept."""

    def __init__(self, top: int) -> None:
        """Start at zero, to keep so many single blocks."""
        self._top = top
        self._roles: dict[str, _Life] = {}
        self._tools: dict[str | None, _Life] = {}
        self._dearest: list[_Dear] = []

    def add_template(self, cost: int) -> None:
        """Add attodollars of templates and fees."""
        self._role(TEMPLATE_ROLE).rent += cost

    def add_unknown(self, cost: int) -> None:
        """Add attodollars of calls of which no tokens are known."""
        self._role(UNKNOWN_ROLE).rent += cost

    def add(
        self, trajectory: Trajectory, lineages: Iterable[Lineage], answers: Sequence[tuple[ModelCall, int, int]]
    ) -> None:
        """Add the blocks of a trajectory.

        Args:
            trajectory: The trajectory, all of its calls charged.
            lineages: What they carried.
            answers: Calls with the tokens and the attodollars of their output.
        """
        blocks: dict[BlockKey, _Block] = {}
        for lineage in lineages:
            self._add_lineage(lineage, blocks)
        alone = _add_answers(blocks, answers)
        tools = {call.span_id: call.tool for call in trajectory.tool_calls}
        for number, ((digest, producer), block) in enumerate([*blocks.items(), *alone]):
            self._role(block.role).add(block)
            tool = None
            if block.role == "tool":
                tool = tools.get(producer or "")
                self._tool(tool).add(block)
            self._keep(block, trajectory.trace_id, number, digest or None, producer, tool)

    def merge(self, other: Rents) -> None:
        """Add what another has summed up."""
        for role, life in other._roles.items():
            self._role(role).add(life)
        for tool, life in other._tools.items():
            self._tool(tool).add(life)
        for item in other._dearest:
            self._push(item)

    def roles(self) -> dict[str, LifeCost]:
        """By role of the block; they add up to the bill."""
        return {role: life.cost() for role, life in self._roles.items()}

    def tools(self) -> dict[str | None, LifeCost]:
        """Results of tools by tool; `None` for those whose tool is not known."""
        return {tool: life.cost() for tool, life in self._tools.items()}

    def top(self) -> tuple[BlockCost, ...]:
        """The dearest blocks, the dearest first."""
        return tuple(kept.block for kept in sorted(self._dearest, reverse=True))

    def _add_lineage(self, lineage: Lineage, blocks: dict[BlockKey, _Block]) -> None:
        price, unknown = 0, 0
        for index, (block, key) in enumerate(zip(lineage.blocks, lineage.keys, strict=True)):
            price += lineage.price_steps[index]
            rent = price * lineage.tokens[index] + lineage.extra_cost[index]
            if block is None or key is None:
                unknown += rent
                continue
            life = blocks.get(key)
            if life is None:
                life = blocks[key] = _Block(block.role)
            life.first += lineage.first_cost[index]
            life.rent += rent
            life.tokens = lineage.tokens[index]
            life.carried += lineage.calls - lineage.joined[index]
        if unknown:
            self.add_unknown(unknown)

    def _keep(
        self, block: _Block, trace_id: str, number: int, digest: str | None, producer: str | None, tool: str | None
    ) -> None:
        total = block.total
        if len(self._dearest) >= self._top and (not self._top or total < self._dearest[0].rank[0]):
            return
        cost = BlockCost(
            trace_id=trace_id,
            hash=digest,
            producer=producer,
            role=block.role,
            tool=tool,
            tokens=block.tokens,
            carried=block.carried,
            cost=block.cost(),
        )
        self._push(_Dear((total, trace_id, number), cost))

    def _push(self, item: _Dear) -> None:
        if len(self._dearest) < self._top:
            heapq.heappush(self._dearest, item)
        elif self._top:
            heapq.heappushpop(self._dearest, item)

    def _role(self, role: str) -> _Life:
        life = self._roles.get(role)
        if life is None:
            life = self._roles[role] = _Life()
        return life

    def _tool(self, tool: str | None) -> _Life:
        life = self._tools.get(tool)
        if life is None:
            life = self._tools[tool] = _Life()
        return life


def _add_answers(
    blocks: dict[BlockKey, _Block], answers: Sequence[tuple[ModelCall, int, int]]
) -> list[tuple[tuple[str, str | None], _Block]]:
    """Charge answers with what making them cost; return those that no call carries, which are blocks too."""
    produced = {producer: block for (_, producer), block in blocks.items() if producer is not None}
    alone: list[tuple[tuple[str, str | None], _Block]] = []
    for call, tokens, cost in answers:
        block = produced.get(call.span_id)
        if block is None and call.answer_hash is not None:
            block = blocks.get((call.answer_hash, None))  # a source that names no producers
        if block is None:
            block = _Block("assistant")
            block.tokens = tokens
            alone.append(((call.answer_hash or "", call.span_id), block))
        block.generation += cost
    return alone
