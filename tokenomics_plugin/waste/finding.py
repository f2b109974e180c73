"""What a detector says: this spend bought nothing, for this cause, and here is what shows it.

A finding names cells of the bill and no money: prices change, and several findings may claim the same cell, which
then share it. A call is named by its span; a block of its context by its position, for a context may carry the same
text twice and only one of the two is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import Trajectory

__all__ = ["BlockRange", "Finding", "block_pairs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRange:
    """Blocks that one model call carried, one after the other."""

    call: str
    """Span id of the call."""
    start: int
    """Position of the first in the call's context, from 0."""
    stop: int
    """Position after the last."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"a range of blocks has 0 <= start < stop, got start={self.start} and stop={self.stop}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Spend of one trajectory that one detector claims, all of it in the same way."""

    cause: str
    """Id of the detector, such as `D1`."""
    tier: Tier
    """How strong the evidence is; no stronger than its detector's."""
    spans: tuple[str, ...] = ()
    """Span ids of calls that are claimed whole: all their cells, and what a tool charges."""
    outputs: tuple[str, ...] = ()
    """Span ids of model calls of which only the answer is claimed."""
    blocks: tuple[BlockRange, ...] = ()
    """Blocks that other calls carried for nothing: only these cells of those calls."""
    is_price_gap: bool = False
    """Whether the blocks were needed, and only their price was not: what they cost beyond a cache read is claimed."""
    tokens: int | None = None
    """With a price gap, how many tokens of the call the cache should have served more; `None` when unknown."""
    evidence: tuple[str, ...] = ()
    """Span ids that it rests on, such as the call that was repeated."""
    is_waste: bool = True
    """False for spend that is only shown, and that labels no cell as waste."""


def block_pairs(finding: Finding, trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """The claimed blocks one by one, as span id of the call and hash of the block; a block of unknown hash is left out.

    Args:
        finding: A finding.
        trajectory: The trajectory that it was found in.
    """
    contexts = {call.span_id: call.context or () for call in trajectory.model_calls}
    for claimed in finding.blocks:
        for block in contexts.get(claimed.call, ())[claimed.start : claimed.stop]:
            if block is not None:
                yield claimed.call, block.hash
