"""What a model call cost: token counts are facts, prices change, so money is derived when a report reads.

List prices come from the data that `genai-prices` bundles, as of the request's time; nothing is fetched. A price
book of one's own wins over them: negotiated prices, and what the machine of a local model costs an hour. What
cannot be priced has no price (`None`, with the reason); it is never free.

Prices of different models are only comparable as money, and money moves when a vendor changes a list. So there is
a second, frozen scale, *standard tokens*: cost at the list prices of one date, in tokens of one reference model.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Self

from tokenomics_plugin import semconv
from tokenomics_plugin.errors import MissingExtraError, TokenomicsError
from tokenomics_plugin.outcome import as_money
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "PRICE_CURRENCY",
    "REFERENCE_MODEL",
    "STANDARD_DATE",
    "TOKEN_CLASSES",
    "Price",
    "PriceBook",
    "PriceBookError",
    "Quote",
    "StandardPrices",
    "Unpriced",
    "billed_tokens",
    "list_price_source",
]

PRICE_CURRENCY: Final = "USD"
"""Every price and cost is in this currency."""
TOKEN_CLASSES: Final = ("input", "cache_write", "cache_read", "output", "reasoning")
"""The disjoint classes of `TokenUsage`, under the names that price books use."""

STANDARD_DATE: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""Whose list prices make standard tokens. Noon, because some lists have a cheaper night."""
REFERENCE_MODEL: Final = "anthropic claude-haiku-4-5"
"""Whose fresh input token is one standard token."""

_MILLION_DIGITS: Final = 6
_NANOSECONDS_PER_HOUR: Final = 3_600_000_000_000
# Machine time is no round number: a picodollar, the unit of list prices per token, is exact enough to add up.
_PICODOLLAR: Final = Decimal("1e-12")
_PRICE_KEYS: Final = (*TOKEN_CLASSES, "usd_per_hour")
_TIME_KEYS: Final = ("valid_from", "valid_until")
_ENTRY_KEYS: Final = ("provider", "model", *_PRICE_KEYS, *_TIME_KEYS)

# `gen_ai.provider.name`, today's well-known values and earlier ones, -> provider id of genai-prices. Other names
# must equal an id: genai-prices' own fuzzy match would sell "my-openai-clone" at OpenAI's prices.
_LIST_PROVIDERS: Final = {
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


class PriceBookError(TokenomicsError, ValueError):
    """A price book that cannot be used; the message names the entry, the key and the rule."""


class Unpriced(StrEnum):
    """Why a call has no cost."""

    USAGE_UNKNOWN = "usage_unknown"
    """The span says nothing, or not everything, about its tokens."""
    USAGE_INCONSISTENT = "usage_inconsistent"
    """The span's counts contradict each other."""
    MODEL_UNKNOWN = "model_unknown"
    """Neither the price book nor the list has a price for this provider and model."""
    CLASS_UNPRICED = "class_unpriced"
    """The price found lacks a class of tokens that the call used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """The cost of one call, or why there is none: exactly one of the two."""

    usd: Decimal | None = None
    """Cost."""
    unpriced: Unpriced | None = None
    """Why the cost is unknown."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """One entry of a price book: what some models cost, per token class or per hour of the call."""

    provider: str
    """`gen_ai.provider.name`, exact or with `*` for any text; `*` alone also takes spans that name none."""
    model: str
    """Model name, exact or with `*`; matched on the response's model, then on the request's."""
    input: Decimal | None = None
    """USD per million fresh input tokens."""
    cache_write: Decimal | None = None
    """USD per million input tokens written to the provider's cache."""
    cache_read: Decimal | None = None
    """USD per million input tokens read from the provider's cache."""
    output: Decimal | None = None
    """USD per million visible output tokens."""
    reasoning: Decimal | None = None
    """USD per million reasoning tokens; `None` means `output`."""
    usd_per_hour: Decimal | None = None
    """Price of the machine, for the call's duration. Calls that overlap on one machine are charged one by one."""
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
        priced_classes = [name for name in TOKEN_CLASSES if getattr(self, name) is not None]
        if (self.usd_per_hour is None) == (not priced_classes):
            raise ValueError(f"give usd_per_hour, or some of {', '.join(TOKEN_CLASSES)}: one of them, not both")
        starts, ends = self.valid_from_unix_nano, self.valid_until_unix_nano
        if starts is not None and ends is not None and starts >= ends:
            raise ValueError("valid_from must be before valid_until")

    def matches(self, provider: str | None, model: str) -> bool:
        """Whether this entry is about that provider's model."""
        return bool(self._provider_pattern.fullmatch(provider or "") and self._model_pattern.fullmatch(model))

    def is_valid(self, at_unix_nano: int) -> bool:
        """Whether a request at that time pays this price."""
        starts, ends = self.valid_from_unix_nano, self.valid_until_unix_nano
        return (starts is None or starts <= at_unix_nano) and (ends is None or at_unix_nano < ends)

    @property
    def specificity(self) -> tuple[bool, int, bool, int]:
        """What decides between entries that match: the more literal model, then the more literal provider."""
        return *_literalness(self.model), *_literalness(self.provider)

    def overlaps(self, other: Price) -> bool:
        """Whether some request could match both."""
        return (
            _may_meet(self.provider, other.provider)
            and _may_meet(self.model, other.model)
            and (self.valid_from_unix_nano or 0) < _end(other)
            and (other.valid_from_unix_nano or 0) < _end(self)
        )

    @cached_property
    def _provider_pattern(self) -> re.Pattern[str]:
        return _compile(self.provider)

    @cached_property
    def _model_pattern(self) -> re.Pattern[str]:
        return _compile(self.model)

    @cached_property
    def _rates(self) -> _Rates:
        return _Rates(
            input=self.input,
            cache_write=self.cache_write,
            cache_read=self.cache_read,
            output=self.output,
            reasoning=self.output if self.reasoning is None else self.reasoning,
        )

    def _quote(self, span: SpanRecord) -> Quote:
        if self.usd_per_hour is None:
            return _quote(self._rates, span)
        return Quote(usd=(self.usd_per_hour * span.duration_nano / _NANOSECONDS_PER_HOUR).quantize(_PICODOLLAR))


class PriceBook:
    """Prices for calls: one's own entries first, then the public lists as of the request's time."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        """Take entries; the most specific one that matches a call wins.

        Raises:
            PriceBookError: If two entries that are equally specific could match the same request.
        """
        self._prices = sorted(prices, key=lambda price: price.specificity, reverse=True)
        self._matching: dict[tuple[str | None, str], tuple[Price, ...]] = {}
        self._list = _ListPrices()
        for first, second in combinations(self._prices, 2):
            if first.specificity == second.specificity and first.overlaps(second):
                raise PriceBookError(
                    f"two prices claim the same requests: {_name(first)} and {_name(second)}; make one more "
                    f"specific, or let valid_until of one be valid_from of the other"
                )

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Read `[[price]]` entries: the fields of `Price`, validity as TOML times with an offset.

        Raises:
            PriceBookError: If the file is not TOML or an entry breaks a rule.
            OSError: If the file cannot be read.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PriceBookError(f"{path} is not a TOML file: {error}") from error
        entries = document.pop("price", [])
        if document or not isinstance(entries, list):
            unexpected = ", ".join(document) or "price"
            raise PriceBookError(f"{path}: {unexpected} is not known here; write each price as a [[price]] table")
        try:
            return cls(_parsed(entry, f"price {number}") for number, entry in enumerate(entries, start=1))
        except PriceBookError as error:
            raise PriceBookError(f"{path}: {error}") from error.__cause__

    def cost(self, span: SpanRecord) -> Decimal | None:
        """USD that a model call cost; `None` when it cannot be known."""
        return self.quote(span).usd

    def quote(self, span: SpanRecord) -> Quote:
        """The cost of a model call, or why there is none.

        One's own prices are tried for the response's model, then the request's; then the lists likewise.
        """
        price = self._own_price(span)
        return self._list.quote(span) if price is None else price._quote(span)

    def _own_price(self, span: SpanRecord) -> Price | None:
        for name in _models(span):
            for price in self._candidates(span.provider, name):
                if price.is_valid(span.start_unix_nano):
                    return price
        return None

    def _candidates(self, provider: str | None, model: str) -> tuple[Price, ...]:
        key = provider, model
        if key not in self._matching:
            self._matching[key] = tuple(price for price in self._prices if price.matches(provider, model))
        return self._matching[key]


class StandardPrices:
    """The frozen scale: list prices of `STANDARD_DATE` in units of the reference's fresh input token.

    Sum over the classes of count times price, divided by the reference's price. A model that came later counts at
    its first price, one that no list knows (a local one) as if it were the reference. The scale moves only when
    `genai-prices` corrects its history, so figures are comparable under the version that a report names.
    """

    def __init__(self) -> None:
        self._list = _ListPrices()

    def tokens(self, span: SpanRecord) -> Decimal | None:
        """Standard tokens of a model call; `None` when its usage is not known."""
        counts = billed_tokens(span)
        if counts is None:
            return None
        usd = self._list.cost(span, counts, STANDARD_DATE)
        if usd is None:
            usd = _REFERENCE_RATES.cost(counts)
            assert usd is not None, "the reference prices every class"
        return (usd / _REFERENCE_INPUT).scaleb(_MILLION_DIGITS)


def billed_tokens(span: SpanRecord) -> tuple[int, int, int, int, int] | None:
    """Tokens of a call in the order of `TOKEN_CLASSES`; `None` when some are unknown or contradict each other.

    An embeddings call has no output, which its spans express by leaving the count out: there it is 0.
    """
    usage = span.usage
    if usage is None or usage.inconsistencies:
        return None
    counts = _counts(usage)
    if span.operation == semconv.OPERATION_EMBEDDINGS:
        counts = (*counts[:3], counts[3] or 0, counts[4] or 0)
    return None if None in counts else counts  # type: ignore[return-value]  # no None is left


def list_price_source() -> str:
    """Name and version of the list prices, as a report cites them."""
    return f"genai-prices {version('genai-prices')}"


@dataclass(frozen=True, kw_only=True)
class _Rates:
    """USD per million tokens of each class, and per call; `None` where there is no price."""

    input: Decimal | None
    cache_write: Decimal | None
    cache_read: Decimal | None
    output: Decimal | None
    reasoning: Decimal | None
    call: Decimal = Decimal(0)

    def cost(self, counts: Sequence[int]) -> Decimal | None:
        """USD for one call; `None` when a class that occurs has no price."""
        total = Decimal(0)
        for count, rate in zip(counts, self._by_class, strict=True):
            if count:
                if rate is None:
                    return None
                total += rate * count
        return total.scaleb(-_MILLION_DIGITS) + self.call

    @cached_property
    def _by_class(self) -> tuple[Decimal | None, ...]:
        return self.input, self.cache_write, self.cache_read, self.output, self.reasoning


# claude-haiku-4-5's list price on STANDARD_DATE: the ratios 1 : 1.25 : 0.1 : 5 are those of its whole family.
_REFERENCE_INPUT: Final = Decimal("1.00")
_REFERENCE_RATES: Final = _Rates(
    input=_REFERENCE_INPUT,
    cache_write=Decimal("1.25"),
    cache_read=Decimal("0.10"),
    output=Decimal("5.00"),
    reasoning=Decimal("5.00"),
)


class _ListPrices:
    """`genai-prices`' bundled data, read directly: its own entry point takes 80 us a call, and may be auto-updated."""

    def __init__(self) -> None:
        self._models: dict[tuple[str | None, str], Any] = {}
        self._tiers: dict[int, _Tiers] = {}

    def quote(self, span: SpanRecord) -> Quote:
        model = self._model(span)
        if model is None:
            return Quote(unpriced=Unpriced.MODEL_UNKNOWN)
        counts = billed_tokens(span)
        if counts is None:
            return Quote(unpriced=_no_tokens(span))
        at = datetime.fromtimestamp(span.start_unix_nano / 1e9, UTC)
        return _quoted(self._cost(model, counts, at))

    def cost(self, span: SpanRecord, counts: Sequence[int], at: datetime) -> Decimal | None:
        model = self._model(span)
        return None if model is None else self._cost(model, counts, at)

    def _cost(self, model: Any, counts: Sequence[int], at: datetime) -> Decimal | None:
        prices = model.get_prices(at)
        tiers = self._tiers.get(id(prices))
        if tiers is None:
            tiers = self._tiers[id(prices)] = _Tiers(prices)
        return tiers.rates(sum(counts[:3])).cost(counts)

    def _model(self, span: SpanRecord) -> Any:
        """The first of the span's models that the list knows."""
        found = (self._find(span.provider, name) for name in _models(span))
        return next((model for model in found if model is not None), None)

    def _find(self, provider: str | None, name: str) -> Any:
        key = provider, name
        if key not in self._models:
            seller = self._providers.get(_LIST_PROVIDERS.get(provider or "", provider))
            everyone = list(self._providers.values())
            self._models[key] = None if seller is None else seller.find_model(name, all_providers=everyone)
        return self._models[key]

    @cached_property
    def _providers(self) -> Mapping[str | None, Any]:
        try:
            from genai_prices.data import providers  # 120 ms: only when a price is asked of it
        except ModuleNotFoundError as error:
            raise MissingExtraError("genai-prices", extra="report") from error
        return {provider.id: provider for provider in providers}


class _Tiers:
    """The rates of one listed price: passing a threshold of input reprices the whole call."""

    def __init__(self, prices: Any) -> None:
        self._prices = prices  # kept because its id, a key elsewhere, is its own only while it lives
        listed = (getattr(price, "tiers", ()) for price in vars(prices).values())
        self._thresholds = sorted({tier.start for tiers in listed for tier in tiers})
        self._rates = [self._rates_at(0), *(self._rates_at(threshold + 1) for threshold in self._thresholds)]

    def rates(self, input_tokens: int) -> _Rates:
        """What a call with that much input pays."""
        return self._rates[bisect_left(self._thresholds, input_tokens)]

    def _rates_at(self, input_tokens: int) -> _Rates:
        fresh, visible = self._at("input_mtok", input_tokens), self._at("output_mtok", input_tokens)
        # A class without a price of its own costs what the class that includes it does.
        return _Rates(
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


def _first(*rates: Decimal | None) -> Decimal | None:
    return next((rate for rate in rates if rate is not None), None)


def _quote(rates: _Rates, span: SpanRecord) -> Quote:
    counts = billed_tokens(span)
    return Quote(unpriced=_no_tokens(span)) if counts is None else _quoted(rates.cost(counts))


def _quoted(usd: Decimal | None) -> Quote:
    return Quote(unpriced=Unpriced.CLASS_UNPRICED) if usd is None else Quote(usd=usd)


def _no_tokens(span: SpanRecord) -> Unpriced:
    contradictory = span.usage is not None and span.usage.inconsistencies
    return Unpriced.USAGE_INCONSISTENT if contradictory else Unpriced.USAGE_UNKNOWN


def _counts(usage: TokenUsage) -> tuple[int | None, int | None, int | None, int | None, int | None]:
    return (
        usage.fresh_input_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.visible_output_tokens,
        usage.reasoning_tokens,
    )


def _models(span: SpanRecord) -> Iterator[str]:
    if span.response_model:
        yield span.response_model
    if span.request_model and span.request_model != span.response_model:
        yield span.request_model


def _parsed(entry: Any, where: str) -> Price:
    """One `[[price]]` table."""
    if not isinstance(entry, dict):
        raise PriceBookError(f"{where} must be a [[price]] table, got {entry!r}")
    for key in entry:
        if key not in _ENTRY_KEYS:
            raise PriceBookError(f"{where}: {key} is not a key; there are {', '.join(_ENTRY_KEYS)}")
    names = {key: _text(entry, key, where) for key in ("provider", "model")}
    times = {f"{key}_unix_nano": _instant(entry[key], key, where) for key in _TIME_KEYS if key in entry}
    try:
        prices = {key: as_money(key, entry[key]) for key in _PRICE_KEYS if key in entry}
        return Price(**names, **prices, **times)  # type: ignore[arg-type]  # each under its own name
    except ValueError as error:
        raise PriceBookError(f"{where} ({names['provider']} {names['model']}): {error}") from error


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise PriceBookError(f"{where}: {key} must be a name, or a pattern with *, got {value!r}")
    return value


def _instant(value: Any, key: str, where: str) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise PriceBookError(f"{where}: {key} must be a time with an offset, such as 2026-01-01T00:00:00Z, got {value}")
    # Whole seconds and microseconds apart: a float of either has no room for both.
    return int(value.replace(microsecond=0).timestamp()) * 10**9 + value.microsecond * 1000


def _name(price: Price) -> str:
    return f"{price.provider} {price.model}"


def _end(price: Price) -> float:
    return float("inf") if price.valid_until_unix_nano is None else price.valid_until_unix_nano


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _literalness(pattern: str) -> tuple[bool, int]:
    return "*" not in pattern, len(pattern.replace("*", ""))


def _may_meet(first: str, second: str) -> bool:
    """Whether some name matches both patterns."""
    # row[j]: the part of `first` read so far and second[:j] may match the same name.
    row = [not second[:size].strip("*") for size in range(len(second) + 1)]
    for mine in first:
        above, row = row, [row[0] and mine == "*"]
        for size, yours in enumerate(second, start=1):
            if "*" in (mine, yours):  # it matches nothing here, or one character more of the other
                row.append(above[size] or row[size - 1])
            else:
                row.append(above[size - 1] and mine == yours)
    return row[-1]
