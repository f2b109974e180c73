"""Tokens of a call times the rate of their class: the one place where money is multiplied."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

from tokenomics_plugin import semconv
from tokenomics_plugin.pricing.billable import Billable
from tokenomics_plugin.pricing.quote import Quote, Unpriced

__all__ = ["TOKEN_CLASSES", "Counts", "Rates", "billed_tokens"]

TOKEN_CLASSES: Final = ("input", "cache_write", "cache_read", "output", "reasoning")
"""The disjoint classes of `TokenUsage`, in its order and under the names that price books use."""
Counts = tuple[int, int, int, int, int]
"""Tokens of one call, in the order of `TOKEN_CLASSES`."""
_MILLION_DIGITS: Final = 6


def billed_tokens(span: Billable) -> Counts | None:
    """Tokens of a call by class; `None` when some are unknown or contradict each other.

    An embeddings call has no output, which its span expresses by leaving the count out: there it is 0.
    """
    usage = span.usage
    if usage is None or not usage.is_consistent:
        return None
    visible, reasoning = usage.visible_output_tokens, usage.reasoning_tokens
    if span.operation == semconv.OPERATION_EMBEDDINGS:
        visible, reasoning = visible or 0, reasoning or 0
    counts = (usage.fresh_input_tokens, usage.cache_write_tokens, usage.cache_read_tokens, visible, reasoning)
    return None if None in counts else counts  # type: ignore[return-value]  # no None is left


@dataclass(frozen=True, kw_only=True)
class Rates:
    """USD per million tokens of each class; `None` where there is no price."""

    input: Decimal | None
    """Fresh input."""
    cache_write: Decimal | None
    """Input that was also written to the provider's cache."""
    cache_read: Decimal | None
    """Input read from the provider's cache."""
    output: Decimal | None
    """Visible output."""
    reasoning: Decimal | None
    """Hidden reasoning."""
    call: Decimal = Decimal(0)
    """USD for the call itself, whatever it used."""

    def cost(self, counts: Counts) -> Decimal | None:
        """USD for one call; `None` when a class that occurs has no price."""
        total = Decimal(0)
        for count, rate in zip(counts, self._by_class, strict=True):
            if count:
                if rate is None:
                    return None
                total += rate * count
        return total.scaleb(-_MILLION_DIGITS) + self.call

    def quote(self, span: Billable) -> Quote:
        """What the call cost, or why that is unknown."""
        counts = billed_tokens(span)
        if counts is None:
            contradictory = span.usage is not None and not span.usage.is_consistent
            return Quote(unpriced=Unpriced.USAGE_INCONSISTENT if contradictory else Unpriced.USAGE_UNKNOWN)
        usd = self.cost(counts)
        return Quote(unpriced=Unpriced.CLASS_UNPRICED) if usd is None else Quote(usd=usd)

    @cached_property
    def _by_class(self) -> tuple[Decimal | None, ...]:
        return self.input, self.cache_write, self.cache_read, self.output, self.reasoning
