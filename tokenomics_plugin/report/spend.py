"""What some spans used: counts, tokens by class, and cost when all of it is known."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tokenomics_plugin.pricing import TOKEN_CLASSES, Counts, PriceBook, Quote, StandardPrices, billed_tokens
from tokenomics_plugin.span import SpanRecord

__all__ = ["Call", "Spend", "Tally", "Tokens"]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens in disjoint classes, over the calls whose usage is known."""

    input: int
    """Fresh input: neither written to nor read from the provider's cache."""
    cache_write: int
    """Input that was also written to the provider's cache."""
    cache_read: int
    """Input read from the provider's cache."""
    output: int
    """Visible output."""
    reasoning: int
    """Hidden reasoning."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.cache_write + self.cache_read + self.output + self.reasoning


@dataclass(frozen=True, kw_only=True)
class Spend:
    """What was used. Tokens and cost are those of model calls; agents only repeat their calls' sums."""

    spans: int
    """Spans."""
    errors: int
    """Spans that ended with status Error."""
    calls: int
    """Billed model calls."""
    calls_with_usage: int
    """Calls whose token counts are complete and do not contradict each other."""
    priced_calls: int
    """Calls whose cost is known."""
    tokens: Tokens
    """Tokens of the calls with usage."""
    standard_tokens: Decimal | None
    """Cost-weighted tokens at frozen prices; `None` when a call has no usage."""
    priced_cost_usd: Decimal
    """Cost of the priced calls: of all of them, or the least that it was."""
    cost_usd: Decimal | None
    """Cost of all calls; `None` when a call has no known cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One model call, measured and priced once for all the tallies that it goes into."""

    counts: Counts | None
    """Tokens by class; `None` when they are not known."""
    standard_tokens: Decimal | None
    """Standard tokens; `None` when usage is not known."""
    quote: Quote
    """Cost, or why it is unknown."""

    @classmethod
    def of(cls, span: SpanRecord, prices: PriceBook, standard: StandardPrices) -> Call:
        """Measure and price a billed span."""
        return cls(counts=billed_tokens(span), standard_tokens=standard.tokens(span), quote=prices.quote(span))


class Tally:
    """Adds up spans and calls; one for each task, agent, model and tool, so it is kept small."""

    __slots__ = ("_calls", "_calls_with_usage", "_cost", "_errors", "_priced_calls", "_spans", "_standard", "_tokens")

    def __init__(self) -> None:
        self._spans = self._errors = self._calls = self._calls_with_usage = self._priced_calls = 0
        self._tokens: Counts = (0, 0, 0, 0, 0)
        self._cost = self._standard = Decimal(0)

    def add_span(self, span: SpanRecord) -> None:
        """Count a span, billed or not."""
        self._spans += 1
        self._errors += span.status == "Error"

    def add_call(self, call: Call) -> None:
        """Add what a billed span used; the span itself is counted by `add_span`."""
        self._calls += 1
        if call.counts is not None and call.standard_tokens is not None:
            self._calls_with_usage += 1
            self._add_tokens(call.counts)
            self._standard += call.standard_tokens
        if call.quote.usd is not None:
            self._priced_calls += 1
            self._cost += call.quote.usd

    def add(self, other: Tally) -> None:
        """Add all that another tally has added up."""
        self._spans += other._spans
        self._errors += other._errors
        self._calls += other._calls
        self._calls_with_usage += other._calls_with_usage
        self._priced_calls += other._priced_calls
        self._add_tokens(other._tokens)
        self._standard += other._standard
        self._cost += other._cost

    def _add_tokens(self, counts: Counts) -> None:
        a, b, c, d, e = self._tokens
        v, w, x, y, z = counts
        self._tokens = (a + v, b + w, c + x, d + y, e + z)

    def spend(self) -> Spend:
        """The sums as they stand."""
        return Spend(
            spans=self._spans,
            errors=self._errors,
            calls=self._calls,
            calls_with_usage=self._calls_with_usage,
            priced_calls=self._priced_calls,
            tokens=Tokens(**dict(zip(TOKEN_CLASSES, self._tokens, strict=True))),
            standard_tokens=self._standard if self._calls_with_usage == self._calls else None,
            priced_cost_usd=self._cost,
            cost_usd=self._cost if self._priced_calls == self._calls else None,
        )
