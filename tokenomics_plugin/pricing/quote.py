"""The answer to "what did this call cost": an amount, or the reason that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

__all__ = ["PRICE_CURRENCY", "Quote", "Unpriced"]

PRICE_CURRENCY: Final = "USD"
"""Every price and cost is in this currency."""


class Unpriced(StrEnum):
    """Why a call has no cost."""

    USAGE_UNKNOWN = "usage_unknown"
    """The span says nothing, or not everything, about its tokens."""
    USAGE_INCONSISTENT = "usage_inconsistent"
    """The span's counts contradict each other."""
    MODEL_UNKNOWN = "model_unknown"
    """Neither the price book nor the list has a price for this provider and model."""
    DURATION_UNKNOWN = "duration_unknown"
    """The price is by the hour, and the span does not say how long it took."""
    CLASS_UNPRICED = "class_unpriced"
    """The price found lacks a class of tokens that the call used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """The cost of one call, or why it is unknown: exactly one of the two."""

    usd: Decimal | None = None
    """Cost."""
    unpriced: Unpriced | None = None
    """Why there is none."""
