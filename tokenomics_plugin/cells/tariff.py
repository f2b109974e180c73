"""What the tokens of one call cost, in whole attodollars (10^-18 USD), so that sums of millions of cells are exact.

A price of 1 USD per million tokens is 10^12 attodollars a token: list prices have at most six decimals, and twelve
fit. A price with more is rounded, and the reconciliation shows by how much.
"""

from __future__ import annotations

from decimal import Decimal
from operator import mul
from typing import Final, NamedTuple

from tokenomics_plugin.pricing import Counts, PriceBook, Rates
from tokenomics_plugin.trajectory import ModelCall

__all__ = ["UNPRICED", "Tariff", "Tariffs", "attodollars", "usd"]

_DIGITS: Final = 18
_MILLION_DIGITS: Final = 6  # rates are per million tokens


class Tariff(NamedTuple):
    """Attodollars for one token of each class, in the order of `Counts`, and for the call itself."""

    fresh: int
    """One token of fresh input."""
    write: int
    """One token of input that was also written to the provider's cache."""
    read: int
    """One token of input read from the provider's cache."""
    visible: int
    """One token of visible output."""
    reasoning: int
    """One token of hidden reasoning."""
    call: int
    """The call itself: a fee, or what a price by the hour leaves after tokens got equal shares of it."""


UNPRICED: Final = Tariff(0, 0, 0, 0, 0, 0)
"""Of calls without a cost: their tokens are counted, their money is not."""


def usd(attodollars: int) -> Decimal:
    """An amount in USD, every digit of it."""
    return Decimal(f"{attodollars}E-{_DIGITS}")  # from text: arithmetic would round to the context's digits


def attodollars(amount: Decimal) -> int:
    """An amount in USD as a whole number of attodollars, rounded if need be."""
    return int(amount.scaleb(_DIGITS).to_integral_value())


class Tariffs:
    """Tariffs of a price book."""

    def __init__(self, prices: PriceBook) -> None:
        """Take prices."""
        self._prices = prices
        # By identity: hashing ten decimals costs more than the rest. The rates are kept, so an id stays theirs.
        self._known: dict[int, tuple[Rates, Tariff]] = {}

    def of(self, call: ModelCall, counts: Counts | None) -> tuple[Decimal | None, Tariff]:
        """What the price book says that a call cost, and its tariff; `None` and `UNPRICED` when that is unknown.

        The price book multiplies decimals and cells multiply whole numbers, so that one checks the other.
        """
        rates = self._prices.rates(call)
        # An answer from the framework's own cache is free even when nothing is known of its tokens.
        quote = self._prices.quote(call) if rates is None or call.is_cache_hit else rates.quote(call)
        if quote.usd is None or counts is None:
            return quote.usd, UNPRICED
        return quote.usd, self._by_class(rates) if rates is not None else self._shared_out(quote.usd, call, counts)

    def _shared_out(self, cost: Decimal, call: ModelCall, counts: Counts) -> Tariff:
        """A cost of the whole call: by the lists' proportions where its log stated it, else alike for all tokens."""
        rates = None if call.reported_cost_usd is None else self._prices.list_rates(call)
        listed = None if rates is None else self._by_class(rates)
        return (listed and _scaled(listed, attodollars(cost), counts)) or _by_time(cost, sum(counts))

    def _by_class(self, rates: Rates) -> Tariff:
        known = self._known.get(id(rates))
        if known is None or known[0] is not rates:  # an id says nothing after a ledger came from another process
            by_class = (rates.input, rates.cache_write, rates.cache_read, rates.output, rates.reasoning)
            # A class without a price was not used, else the call would have no cost.
            tokens = [0 if rate is None else attodollars(rate.scaleb(-_MILLION_DIGITS)) for rate in by_class]
            known = self._known[id(rates)] = rates, Tariff._make([*tokens, attodollars(rates.call)])
        return known[1]


def _scaled(tariff: Tariff, amount: int, counts: Counts) -> Tariff | None:
    """A tariff in the same proportions by which a call costs another amount; `None` where it is free by this one."""
    listed = sum(map(mul, tariff, counts))
    if listed <= 0:
        return None
    tokens = [each * amount // listed for each in tariff[:-1]]
    return Tariff._make([*tokens, amount - sum(map(mul, tokens, counts))])


def _by_time(cost: Decimal, tokens: int) -> Tariff:
    """A price of the whole call: each token costs the same, and what does not divide stays with the call."""
    amount = attodollars(cost)
    each, rest = divmod(amount, tokens) if tokens else (0, amount)
    return Tariff(each, each, each, each, each, rest)
