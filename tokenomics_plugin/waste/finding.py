"""What a detector says: this spend bought nothing, for this cause, and here is what shows it.

A finding names cells of the bill and no money: prices change, and several findings may claim the same cell, which
then share it. A call is named by its span; a block of its context by its position, for a context may carry the same
text twice and only one of the two is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tokenomics_plugin.trajectory import Trajectory

__all__ = ["INPUT_CLASSES", "OUTPUT_CLASSES", "BlockRange", "Finding", "Part", "Tier", "block_pairs"]

INPUT_CLASSES = frozenset({"fresh_input_tokens", "cache_write_tokens", "cache_read_tokens"})
"""Fields of `TokenUsage` that count input."""
OUTPUT_CLASSES = frozenset({"visible_output_tokens", "reasoning_tokens"})
"""Fields of `TokenUsage` that count output."""


class Tier(StrEnum):
    """How strong the evidence is; the best comes first."""

    PROVABLE = "A"
    """The trace itself shows it."""
    LIKELY = "B"
    """Mostly so: to be multiplied by a precision that an audit measured."""
    POLICY = "C"
    """Depends on a policy that may be right: only an experiment or an exact replay can call it avoidable."""


class Part(StrEnum):
    """How much of a claimed cell is wasted."""

    WHOLE = "whole"
    """All that it cost."""
    PRICE_GAP = "price_gap"
    """What it cost beyond the price of a cache read: the tokens were needed, the full price was not."""


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
    blocks: tuple[BlockRange, ...] = ()
    """Blocks that other calls carried for nothing: only these cells of those calls."""
    token_classes: frozenset[str] | None = None
    """Fields of `TokenUsage` that the claim is restricted to; `None` for all."""
    part: Part = Part.WHOLE
    """How much of each claimed cell."""
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
