"""The cells of one trajectory, one by one: for a look into a trace, and as the plain form of what the ledger sums up.

Their number grows with the square of the turns, which is why `CellLedger` does not list them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tokenomics_plugin.cells.carrying import Carrying, Layout
from tokenomics_plugin.cells.flags import NO_FLAGS, Flags, MissedCache, Part
from tokenomics_plugin.cells.labels import NO_CAUSES, Causes, Label, Tier, strongest
from tokenomics_plugin.cells.rules import block_label, missed_range, output_label, template_label
from tokenomics_plugin.cells.tariff import UNPRICED, Tariff, Tariffs, usd
from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.pricing import PriceBook, billed_tokens
from tokenomics_plugin.trajectory import ModelCall, Trajectory

__all__ = ["Cell", "TokenClass", "cells_of"]


class TokenClass(StrEnum):
    """Disjoint classes of tokens, as they are priced."""

    IN_FRESH = "in_fresh"
    CACHE_WRITE = "cache_write"
    CACHE_READ = "cache_read"
    OUT_VISIBLE = "out_visible"
    REASONING = "reasoning"
    NONE = "none"
    """Money without tokens: a fee for the call, machine time that no token can be charged with."""


_INPUT: Final = (TokenClass.IN_FRESH, TokenClass.CACHE_WRITE, TokenClass.CACHE_READ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One model call, one block of its input or its output, one class of tokens: what the bill is the sum of."""

    call: ModelCall
    """The call."""
    place: int | Part
    """Index of the block in the call's context, or the part of the call that is no block of it."""
    block: ContextBlock | None
    """The block; `None` for a part of the call, and for a block of which nothing is known."""
    token_class: TokenClass
    """Class of its tokens."""
    tokens: int
    """How many; 0 for the difference of price that a missed cache made, which is a cell of its own."""
    usd: Decimal | None
    """What they cost; `None` when the call has no cost."""
    label: Label
    """What it was for."""
    causes: Causes
    """Why it is waste; empty when it is not."""

    @property
    def tier(self) -> Tier | None:
        """The surest of its causes' tiers; `None` when it is not waste."""
        return strongest(self.causes)


def cells_of(
    trajectory: Trajectory,
    prices: PriceBook,
    *,
    flags: Flags = NO_FLAGS,
    evidence: AbstractSet[str] = frozenset(),
) -> Iterator[Cell]:
    """All cells of a trajectory that have tokens or money, call by call.

    Args:
        trajectory: The calls.
        prices: What they cost.
        flags: Causes of waste.
        evidence: Spans of the evidence slice; empty when nobody computed one.
    """
    tariffs, by_call = Tariffs(prices), flags.by_call()
    carrying = Carrying(trajectory.model_calls, evidence=evidence)
    for call in trajectory.model_calls:
        counts = billed_tokens(call)
        cost, tariff = tariffs.of(call, counts)
        causes = by_call.get(call.span_id, {})
        if counts is None:
            if cost:
                yield _unmeasured(call, cost, causes.get(Part.CALL, NO_CAUSES))
            continue
        layout = carrying.add(call, counts)
        missed = flags.missed_caches.get(call.span_id)
        cells = _CallCells(layout, None if cost is None else tariff, causes, missed)
        yield from cells.all(is_in_slice=call.span_id in evidence)


class _CallCells:
    """The cells of one call."""

    def __init__(
        self, layout: Layout, tariff: Tariff | None, causes: Mapping[int | Part, Causes], missed: MissedCache | None
    ) -> None:
        self._layout = layout
        self._tariff = tariff
        self._causes = causes
        self._missed = missed

    def all(self, *, is_in_slice: bool) -> Iterator[Cell]:
        layout, call = self._layout, self._layout.call
        yield from self._input(Part.TEMPLATE, layout.template_classes, template_label(call), -layout.template)
        for index in range(layout.length):
            label = block_label(layout, index, is_in_slice=is_in_slice)
            yield from self._input(index, layout.block_classes(index), label, layout.lineage.ends[index])
        label = output_label(call, is_in_slice=is_in_slice)
        prices = (0, 0) if self._tariff is None else (self._tariff.visible, self._tariff.reasoning)
        classes = TokenClass.OUT_VISIBLE, TokenClass.REASONING
        for token_class, tokens, price in zip(classes, layout.counts[3:], prices, strict=True):
            if tokens:
                yield self._cell(Part.OUTPUT, token_class, tokens, tokens * price, label, NO_CAUSES)
        if self._tariff is not None and self._tariff.call:
            yield self._cell(Part.TEMPLATE, TokenClass.NONE, 0, self._tariff.call, template_label(call), NO_CAUSES)

    def _input(self, place: int | Part, classes: tuple[int, int, int], label: Label, start: int) -> Iterator[Cell]:
        fresh, write, read = classes
        tariff = self._tariff or UNPRICED
        prices = (tariff.fresh, tariff.write, tariff.read)
        # From the end on: what the cache missed begins where it stopped to serve.
        position = start + read
        missed = missed_range(self._layout, self._missed)
        for token_class, tokens, price in (
            (_INPUT[2], read, prices[2]),
            (_INPUT[1], write, prices[1]),
            (_INPUT[0], fresh, prices[0]),
        ):
            if not tokens:
                continue
            gap = 0
            if token_class is not _INPUT[2]:
                count = max(0, min(position + tokens, missed.stop) - max(position, missed.start))
                gap = count * max(0, price - tariff.read)
                position += tokens
            yield self._cell(place, token_class, tokens, tokens * price - gap, label, NO_CAUSES)
            if gap and self._missed is not None:
                yield self._cell(place, token_class, 0, gap, label, self._missed.causes)

    def _cell(
        self, place: int | Part, token_class: TokenClass, tokens: int, cost: int, label: Label, more: Causes
    ) -> Cell:
        causes = self._causes.get(Part.CALL, NO_CAUSES) | self._causes.get(place, NO_CAUSES) | more
        return Cell(
            call=self._layout.call,
            place=place,
            block=self._layout.lineage.blocks[place] if isinstance(place, int) else None,
            token_class=token_class,
            tokens=tokens,
            usd=None if self._tariff is None else usd(cost),
            label=Label.WASTE if causes else label,
            causes=causes,
        )


def _unmeasured(call: ModelCall, cost: Decimal, causes: Causes) -> Cell:
    return Cell(
        call=call,
        place=Part.CALL,
        block=None,
        token_class=TokenClass.NONE,
        tokens=0,
        usd=cost,
        label=Label.WASTE if causes else Label.UNKNOWN,
        causes=causes,
    )
