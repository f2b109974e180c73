"""The providers' public price lists, as `genai-prices` bundles them, with their history.

Its data are read directly and its arithmetic is done by `Rates`: its own entry point takes 80 us a call, where a
report makes millions, and would use prices that the process had fetched meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

from tokenomics_plugin.errors import MissingExtraError
from tokenomics_plugin.pricing.billable import Billable
from tokenomics_plugin.pricing.rates import Rates

__all__ = ["ListPrices", "list_price_source", "model_names"]

# `gen_ai.provider.name`, today's well-known values and earlier ones, -> provider id of genai-prices. Any other name
# must equal an id: genai-prices' own fuzzy match would sell "my-openai-clone" at OpenAI's prices.
_PROVIDER_IDS: Final = {
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}


def list_price_source() -> str:
    """Name and version of the list prices, as a report cites them."""
    return f"genai-prices {version('genai-prices')}"


def model_names(span: Billable) -> tuple[str, ...]:
    """The names to look a call's model up by: what answered, then what was asked for."""
    answered, asked = span.response_model, span.request_model
    if answered and asked and answered != asked:
        return answered, asked
    name = answered or asked
    return (name,) if name else ()


class ListPrices:
    """Looks calls up; every answer is remembered, because a report asks the same few questions."""

    def __init__(self) -> None:
        self._models: dict[tuple[str | None, str], Any] = {}
        self._tiers: dict[int, _Tiers] = {}

    def rates(self, span: Billable, at: datetime) -> Rates | None:
        """The rates that a call of this size pays at that time; `None` when its model is on no list."""
        for name in model_names(span):
            model = self._model(span.provider, name)
            if model is not None:
                return self._tiers_of(model.get_prices(at)).rates(_input_tokens(span))
        return None

    def _tiers_of(self, prices: Any) -> _Tiers:
        if id(prices) not in self._tiers:
            self._tiers[id(prices)] = _Tiers(prices)
        return self._tiers[id(prices)]

    def _model(self, provider: str | None, name: str) -> Any:
        key = provider, name
        if key not in self._models:
            seller = self._providers.get(_PROVIDER_IDS.get(provider or "", provider))
            everyone = list(self._providers.values())
            self._models[key] = None if seller is None else seller.find_model(name, all_providers=everyone)
        return self._models[key]

    @cached_property
    def _providers(self) -> Mapping[str | None, Any]:
        try:
            from genai_prices.data import providers  # 120 ms: only when a list price is asked for
        except ModuleNotFoundError as error:
            raise MissingExtraError("genai-prices", extra="report") from error
        return {provider.id: provider for provider in providers}


class _Tiers:
    """The rates of one listed price: passing a threshold of input reprices the whole call."""

    def __init__(self, prices: Any) -> None:
        self._prices = prices  # kept alive: its id is a key, and may be another's after it
        listed = (getattr(price, "tiers", ()) for price in vars(prices).values())
        self._thresholds = sorted({tier.start for tiers in listed for tier in tiers})
        self._rates = [self._rates_at(0), *(self._rates_at(threshold + 1) for threshold in self._thresholds)]

    def rates(self, input_tokens: int) -> Rates:
        """What a call with that much input pays."""
        return self._rates[bisect_left(self._thresholds, input_tokens)]

    def _rates_at(self, input_tokens: int) -> Rates:
        fresh, visible = self._at("input_mtok", input_tokens), self._at("output_mtok", input_tokens)
        # A class without a price of its own costs what the class that includes it does.
        return Rates(
            input=fresh,
            cache_write=_first(self._at("cache_write_mtok", input_tokens), fresh),
            cache_read=_first(self._at("cache_read_mtok", input_tokens), fresh),
            output=visible,
            reasoning=_first(self._at("output_reasoning_mtok", input_tokens), visible),
            call=(self._at("requests_kcount", input_tokens) or Decimal(0)) / 1000,
        )

    def _at(self, key: str, input_tokens: int) -> Decimal | None:
        price = getattr(self._prices, key)
        if price is None or isinstance(price, Decimal):
            return price
        passed = [tier.price for tier in price.tiers if input_tokens > tier.start]
        rate: Decimal = passed[-1] if passed else price.base
        return rate


def _input_tokens(span: Billable) -> int:
    # Without a known size the tier does not matter: there is nothing to multiply.
    return (span.usage.input_tokens or 0) if span.usage is not None else 0


def _first(*rates: Decimal | None) -> Decimal | None:
    return next((rate for rate in rates if rate is not None), None)
