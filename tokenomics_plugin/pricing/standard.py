"""Standard tokens: one scale for the work of all models, that no vendor moves.

Tokens of different models are different things, and money moves when a vendor changes a list. A standard token
is cost at the list prices of one date, in units of one reference model's fresh input token: value per standard
token is value per dollar at frozen prices.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tokenomics_plugin.pricing.billable import Billable
from tokenomics_plugin.pricing.list_prices import ListPrices
from tokenomics_plugin.pricing.rates import Rates, billed_tokens

__all__ = ["REFERENCE_MODEL", "STANDARD_DATE", "StandardPrices"]

STANDARD_DATE: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""Whose list prices count. Noon, because some lists have a cheaper night."""
REFERENCE_MODEL: Final = "anthropic claude-haiku-4-5"
"""Whose fresh input token is one standard token."""
# Its list price on that date, written down so that no data update moves the unit; 1 : 1.25 : 0.1 : 5 are the ratios
# of its whole family.
_REFERENCE_INPUT: Final = Decimal("1.00")
_REFERENCE_RATES: Final = Rates(
    input=_REFERENCE_INPUT,
    cache_write=Decimal("1.25"),
    cache_read=Decimal("0.10"),
    output=Decimal("5.00"),
    reasoning=Decimal("5.00"),
)
_MILLION: Final = 1_000_000


class StandardPrices:
    """Converts calls to standard tokens.

    A model that appeared after the date counts at its first price; one that no list knows, such as a local one,
    as if it were the reference. Only a correction of history in `genai-prices` moves the scale, which is why
    reports name its version.
    """

    def __init__(self) -> None:
        self._list = ListPrices()

    def tokens(self, span: Billable) -> Decimal | None:
        """Standard tokens of a model call; `None` when its usage is not known."""
        if span.is_cache_hit:
            return Decimal(0)
        counts = billed_tokens(span)
        if counts is None:
            return None
        rates = self._list.rates(span, STANDARD_DATE)
        usd = None if rates is None else rates.cost(counts)
        if usd is None:
            usd = _REFERENCE_RATES.cost(counts)
            assert usd is not None, "the reference prices every class"
        return usd / _REFERENCE_INPUT * _MILLION
