"""One's own prices, which win over the lists: negotiated ones, and machines paid by the hour.

[[price]]
provider = "openai"                    # gen_ai.provider.name; * stands for any text
model = "gpt-4o*"                      # the response's model, else the request's
input = "2.50"                         # USD per million tokens; also cache_write, cache_read, reasoning
output = "10.00"
valid_from = 2026-01-01T00:00:00Z      # inclusive; valid_until is exclusive

[[price]]
provider = "local"
model = "SmolLM2-135M-Instruct"
usd_per_hour = "0.08"                  # for the duration of the call
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Self

from tokenomics_plugin.errors import TokenomicsError
from tokenomics_plugin.outcome import as_money
from tokenomics_plugin.pricing.billable import Billable
from tokenomics_plugin.pricing.list_prices import ListPrices, model_names
from tokenomics_plugin.pricing.patterns import literalness, matches, may_meet
from tokenomics_plugin.pricing.quote import Quote, Unpriced
from tokenomics_plugin.pricing.rates import TOKEN_CLASSES, Rates

__all__ = ["Price", "PriceBook", "PriceBookError"]

_NANOSECONDS_PER_HOUR: Final = 3_600_000_000_000
# Machine time is no round number of dollars: a picodollar, what list prices per token come to, adds up exactly.
_PICODOLLAR: Final = Decimal("1e-12")
_ZERO: Final = Decimal(0)
_PRICE_KEYS: Final = (*TOKEN_CLASSES, "usd_per_hour")
_TIME_KEYS: Final = ("valid_from", "valid_until")
_FREE: Final = Rates(input=_ZERO, cache_write=_ZERO, cache_read=_ZERO, output=_ZERO, reasoning=_ZERO)
_ENTRY_KEYS: Final = ("provider", "model", *_PRICE_KEYS, *_TIME_KEYS)


class PriceBookError(TokenomicsError, ValueError):
    """A price book that cannot be used; the message names the entry, the key and the rule."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """One entry of a price book: what some models cost, per token class or per hour of the call."""

    provider: str
    """`gen_ai.provider.name`, or a pattern; `*` alone also takes spans that name none."""
    model: str
    """Model name, or a pattern."""
    input: Decimal | None = None
    """USD per million fresh input tokens."""
    cache_write: Decimal | None = None
    """USD per million input tokens that were written to the provider's cache."""
    cache_read: Decimal | None = None
    """USD per million input tokens that were read from the provider's cache."""
    output: Decimal | None = None
    """USD per million visible output tokens."""
    reasoning: Decimal | None = None
    """USD per million reasoning tokens; `None` means the price of `output`."""
    usd_per_hour: Decimal | None = None
    """Price of the machine for the call's duration; calls that overlap on one machine are charged each."""
    valid_from_unix_nano: int | None = None
    """First instant that pays this price; `None`: since ever."""
    valid_until_unix_nano: int | None = None
    """First instant that no longer does; `None`: for ever."""

    def __post_init__(self) -> None:
        for name in _PRICE_KEYS:
            price = as_money(name, getattr(self, name))
            if price is not None and price < 0:
                raise ValueError(f"{name} must not be negative, got {price}")
            object.__setattr__(self, name, price)
        by_class = any(getattr(self, name) is not None for name in TOKEN_CLASSES)
        if by_class == (self.usd_per_hour is not None):
            raise ValueError(f"give either usd_per_hour or prices of {', '.join(TOKEN_CLASSES)}")
        starts, ends = self.valid_from_unix_nano, self.valid_until_unix_nano
        if starts is not None and ends is not None and starts >= ends:
            raise ValueError("valid_from must be before valid_until")

    def matches(self, provider: str | None, model: str) -> bool:
        """Whether this entry is about that provider's model."""
        return matches(self.provider, provider or "") and matches(self.model, model)

    def is_valid(self, at_unix_nano: int) -> bool:
        """Whether a request of that time pays this price."""
        starts, ends = self.valid_from_unix_nano, self.valid_until_unix_nano
        return (starts is None or starts <= at_unix_nano) and (ends is None or at_unix_nano < ends)

    def overlaps(self, other: Price) -> bool:
        """Whether some request could match both."""
        return (
            may_meet(self.provider, other.provider)
            and may_meet(self.model, other.model)
            and self._begins_before_the_end_of(other)
            and other._begins_before_the_end_of(self)
        )

    @property
    def specificity(self) -> tuple[bool, int, bool, int]:
        """What decides between entries that match: the more literal model, then the more literal provider."""
        return *literalness(self.model), *literalness(self.provider)

    def quote(self, span: Billable) -> Quote:
        """What this entry charges for a call that it matches."""
        if self.rates is not None:
            return self.rates.quote(span)
        assert self.usd_per_hour is not None, "one of the two is given"
        if span.duration_nano is None:
            return Quote(unpriced=Unpriced.DURATION_UNKNOWN)
        return Quote(usd=(self.usd_per_hour * span.duration_nano / _NANOSECONDS_PER_HOUR).quantize(_PICODOLLAR))

    @cached_property
    def rates(self) -> Rates | None:
        """The price of each class of tokens; `None` when the price is by the hour."""
        if self.usd_per_hour is not None:
            return None
        return Rates(
            input=self.input,
            cache_write=self.cache_write,
            cache_read=self.cache_read,
            output=self.output,
            reasoning=self.output if self.reasoning is None else self.reasoning,
        )

    def _begins_before_the_end_of(self, other: Price) -> bool:
        starts, ends = self.valid_from_unix_nano, other.valid_until_unix_nano
        return starts is None or ends is None or starts < ends


class PriceBook:
    """Prices for calls: one's own entries first, then the log's own cost, then the lists as of the request's time."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        """Take entries; of those that match a call, the most specific one counts.

        Raises:
            PriceBookError: If two equally specific entries could match the same request.
        """
        self._prices = sorted(prices, key=lambda price: price.specificity, reverse=True)
        self._matching: dict[tuple[str | None, str], tuple[Price, ...]] = {}
        self._list = ListPrices()
        for first, second in combinations(self._prices, 2):
            if first.specificity == second.specificity and first.overlaps(second):
                raise PriceBookError(
                    f"two prices claim the same requests: {_name(first)} and {_name(second)}; make one of them "
                    f"more specific, or end one (valid_until) where the other begins (valid_from)"
                )

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Read `[[price]]` tables with the fields of `Price`; validity is a TOML time with an offset.

        Raises:
            PriceBookError: If the file is not TOML, or an entry breaks a rule.
            OSError: If the file cannot be read.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            return cls(_parsed(entry, f"price {number}") for number, entry in enumerate(_entries(document), start=1))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PriceBookError(f"{path} is not a TOML file: {error}") from error
        except PriceBookError as error:
            raise PriceBookError(f"{path}: {error}") from error

    @classmethod
    def of_file(cls, path: Path | str | None) -> Self:
        """What `from_toml` reads; list prices alone without a file.

        Raises:
            PriceBookError: As `from_toml`.
            OSError: Likewise.
        """
        return cls() if path is None else cls.from_toml(path)

    def cost(self, span: Billable) -> Decimal | None:
        """USD that a model call cost; `None` when that cannot be known."""
        return self.quote(span).usd

    def quote(self, span: Billable) -> Quote:
        """What a model call cost, or why that is unknown.

        Each source is asked for the response's model, then for the request's.
        """
        if span.is_cache_hit:
            return Quote(usd=Decimal(0))  # no model ran: neither a price for the call nor one by the hour applies
        price = self._own_price(span)
        if price is not None:
            return price.quote(span)
        if span.reported_cost_usd is not None:
            return Quote(usd=span.reported_cost_usd)
        rates = self.list_rates(span)
        return Quote(unpriced=Unpriced.MODEL_UNKNOWN) if rates is None else rates.quote(span)

    def rates(self, span: Billable) -> Rates | None:
        """What the tokens of a model call cost by class; `None` when the price is by the hour, or of the whole call."""
        if span.is_cache_hit:
            return _FREE
        price = self._own_price(span)
        if price is not None:
            return price.rates
        return self.list_rates(span) if span.reported_cost_usd is None else None

    def list_rates(self, span: Billable) -> Rates | None:
        """What the public lists said at the time of the call; `None` when they do not know the model."""
        return self._list.rates(span, datetime.fromtimestamp(span.start_unix_nano / 1e9, UTC))

    def _own_price(self, span: Billable) -> Price | None:
        for name in model_names(span):
            for price in self._candidates(span.provider, name):
                if price.is_valid(span.start_unix_nano):
                    return price
        return None

    def _candidates(self, provider: str | None, model: str) -> tuple[Price, ...]:
        key = provider, model
        if key not in self._matching:
            self._matching[key] = tuple(price for price in self._prices if price.matches(provider, model))
        return self._matching[key]


def _entries(document: dict[str, Any]) -> list[Any]:
    entries = document.pop("price", [])
    if document:
        raise PriceBookError(f"{', '.join(document)} is not known; a price book has only [[price]] tables")
    if not isinstance(entries, list):
        raise PriceBookError("price must be written [[price]], with two brackets: there may be several")
    return entries


def _parsed(entry: Any, where: str) -> Price:
    if not isinstance(entry, dict):
        raise PriceBookError(f"{where} must be a [[price]] table, got {entry!r}")
    unknown = [key for key in entry if key not in _ENTRY_KEYS]
    if unknown:
        raise PriceBookError(f"{where}: {', '.join(unknown)} is not known; an entry has {', '.join(_ENTRY_KEYS)}")
    provider, model = (_text(entry, key, where) for key in ("provider", "model"))
    times = {f"{key}_unix_nano": _instant(entry[key], key, where) for key in _TIME_KEYS if key in entry}
    try:
        prices = {key: as_money(key, entry[key]) for key in _PRICE_KEYS if key in entry}
        return Price(provider=provider, model=model, **prices, **times)  # type: ignore[arg-type]  # by their names
    except ValueError as error:
        raise PriceBookError(f"{where} ({provider} {model}): {error}") from error


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise PriceBookError(f"{where}: {key} must be a name, or a pattern with *, got {value!r}")
    return value


def _instant(value: Any, key: str, where: str) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise PriceBookError(f"{where}: {key} must be a time with an offset, as 2026-01-01T00:00:00Z, got {value}")
    # Apart, because a float has no room for seconds since 1970 and microseconds together.
    return int(value.replace(microsecond=0).timestamp()) * 10**9 + value.microsecond * 1000


def _name(price: Price) -> str:
    return f"{price.provider} {price.model}"
