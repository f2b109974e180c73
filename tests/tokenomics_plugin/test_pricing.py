from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.errors import MissingExtraError
from tokenomics_plugin.pricing import (
    REFERENCE_MODEL,
    STANDARD_DATE,
    Price,
    PriceBook,
    PriceBookError,
    StandardPrices,
    Unpriced,
    billed_tokens,
    list_price_source,
)
from tokenomics_plugin.pricing.patterns import matches, may_meet
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

MILLION = 1_000_000
HOUR_NS = 3_600_000_000_000


def nanoseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1000


def call(
    provider: str | None = "openai",
    model: str | None = "gpt-4o",
    *,
    tokens: Mapping[str, int | None] | None = None,
    at: str = "2026-06-01T00:00:00Z",
    **fields: Any,
) -> SpanRecord:
    usage = TokenUsage.from_inclusive(**{"input_tokens": 1000, "output_tokens": 100, **(tokens or {})})
    return SpanRecord(
        **{
            "trace_id": "0" * 31 + "1",
            "span_id": "0" * 15 + "1",
            "operation": semconv.OPERATION_CHAT,
            "provider": provider,
            "request_model": model,
            "start_unix_nano": nanoseconds(at),
            "usage": usage,
            **fields,
        }
    )


def test_known_price() -> None:
    # gpt-4o: 2.50 in, 1.25 cached, 10.00 out, USD per million.
    span = call(tokens={"input_tokens": 3 * MILLION, "cache_read_tokens": MILLION, "output_tokens": MILLION})
    assert PriceBook().cost(span) == Decimal("5.00") + Decimal("1.25") + Decimal("10.00")


def test_cached_input_is_not_billed_twice() -> None:
    tokens = {"input_tokens": MILLION, "cache_read_tokens": MILLION, "output_tokens": 0}
    assert PriceBook().cost(call(tokens=tokens)) == Decimal("1.25")


def test_reasoning_is_billed_as_output_and_not_twice() -> None:
    plain = PriceBook().cost(call(tokens={"output_tokens": 500}))
    assert PriceBook().cost(call(tokens={"output_tokens": 500, "reasoning_tokens": 400})) == plain


@pytest.mark.parametrize(
    ("at", "usd"), [("2026-03-12T23:59:59Z", "3.00"), ("2026-03-13T00:00:00Z", "1.50")], ids=["before", "after"]
)
def test_the_price_is_that_of_the_requests_time(at: str, usd: str) -> None:
    # On 2026-03-13 claude-opus-4-6 lost its surcharge for more than 200,000 tokens of input.
    tokens = {"input_tokens": 300_000, "output_tokens": 0}
    assert PriceBook().cost(call("anthropic", "claude-opus-4-6", tokens=tokens, at=at)) == Decimal(usd)


def test_passing_a_threshold_reprices_the_whole_call() -> None:
    below, above = (
        PriceBook().cost(call("gcp.gemini", "gemini-2.5-pro", tokens={"input_tokens": size, "output_tokens": 0}))
        for size in (200_000, 200_001)
    )
    assert below == Decimal("0.25")
    assert above == Decimal("0.5000025")


@settings(deadline=None)  # the first example loads the lists
@given(data=st.data())
def test_agrees_with_genai_prices_for_every_listed_model(data: st.DataObject) -> None:
    provider = data.draw(st.sampled_from(providers))
    model = data.draw(st.sampled_from(provider.models))
    at = data.draw(st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))
    fresh, written, read, visible, reasoning = (data.draw(st.integers(0, 400_000)) for _ in range(5))
    span = call(
        provider.id,
        model.id,
        start_unix_nano=int(at.timestamp()) * 10**9,
        usage=TokenUsage(
            fresh_input_tokens=fresh,
            cache_write_tokens=written,
            cache_read_tokens=read,
            visible_output_tokens=visible,
            reasoning_tokens=reasoning,
        ),
    )
    quote = PriceBook().quote(span)
    if quote.usd is None:  # genai-prices calls an unlisted class free: we do not
        assert quote.unpriced in (Unpriced.CLASS_UNPRICED, Unpriced.MODEL_UNKNOWN)
        return
    listed = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=fresh + written + read,
            cache_write_tokens=written,
            cache_read_tokens=read,
            output_tokens=visible + reasoning,
            output_reasoning_tokens=reasoning,
        ),
        model.id,
        provider_id=provider.id,
        genai_request_timestamp=at.replace(microsecond=0),
    )
    assert quote.usd == listed.total_price


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai", "gpt-4o-2024-08-06"),
        ("anthropic", "claude-sonnet-4-5"),
        ("azure.ai.openai", "gpt-4o"),
        ("az.ai.openai", "gpt-4o"),
        ("azure.ai.inference", "gpt-4o"),
        ("gcp.gemini", "gemini-2.5-pro"),
        ("gcp.gen_ai", "gemini-2.5-pro"),
        ("gcp.vertex_ai", "claude-sonnet-4-5"),
        ("aws.bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("x_ai", "grok-4"),
        ("mistral_ai", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("groq", "llama-3.3-70b-versatile"),
        ("cohere", "command-r-plus"),
        ("perplexity", "sonar"),
        ("moonshot_ai", "kimi-k2-0905-preview"),
    ],
)
def test_well_known_providers_are_found(name: str, model: str) -> None:
    cost = PriceBook().cost(call(name, model))
    assert cost is not None
    assert cost > 0


@pytest.mark.parametrize(
    ("provider", "model", "fields", "reason"),
    [
        ("openai", "no-such-model", {}, Unpriced.MODEL_UNKNOWN),
        ("my-openai-clone", "gpt-4o", {}, Unpriced.MODEL_UNKNOWN),
        (None, "gpt-4o", {}, Unpriced.MODEL_UNKNOWN),
        ("openai", None, {}, Unpriced.MODEL_UNKNOWN),
        ("openai", "gpt-4o", {"usage": None}, Unpriced.USAGE_UNKNOWN),
        ("openai", "gpt-4o", {"tokens": {"output_tokens": None}}, Unpriced.USAGE_UNKNOWN),
        ("openai", "gpt-4o", {"tokens": {"cache_read_tokens": 2000}}, Unpriced.USAGE_INCONSISTENT),
        ("openai", "text-embedding-3-small", {}, Unpriced.CLASS_UNPRICED),
        ("gcp.gemini", "gemma-3", {}, Unpriced.CLASS_UNPRICED),
    ],
    ids=[
        "unknown model",
        "unknown provider with a familiar name",
        "no provider",
        "no model",
        "no usage",
        "no output count",
        "contradictory usage",
        "chat on a model without an output price",
        "model listed without any price",
    ],
)
def test_what_cannot_be_priced_is_unknown_and_says_why(
    provider: str | None, model: str | None, fields: dict[str, Any], reason: Unpriced
) -> None:
    span = call(provider, model, **fields)
    assert PriceBook().quote(span).unpriced is reason
    assert PriceBook().cost(span) is None


def test_embeddings_have_no_output_and_that_is_no_missing_count() -> None:
    usage = TokenUsage.from_inclusive(input_tokens=MILLION, output_tokens=None)
    span = call(model="text-embedding-3-small", operation=semconv.OPERATION_EMBEDDINGS, usage=usage)
    assert billed_tokens(span) == (MILLION, 0, 0, 0, 0)
    assert PriceBook().cost(span) == Decimal("0.02")


def test_the_model_that_answered_is_billed_and_else_the_one_asked_for() -> None:
    asked = call(model="gpt-4o")
    assert PriceBook().cost(replace(asked, response_model="gpt-4o-mini")) == PriceBook().cost(call(model="gpt-4o-mini"))
    assert PriceBook().cost(replace(asked, response_model="a-deployment-name")) == PriceBook().cost(asked)


def test_a_price_update_in_the_process_changes_nothing() -> None:
    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert PriceBook().cost(call()) == Decimal("0.0035")
    finally:
        set_custom_snapshot(None)


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pricing went to the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert PriceBook().cost(call()) is not None


def test_the_source_is_named_with_its_version() -> None:
    assert list_price_source().startswith("genai-prices 0.")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data", None)
    with pytest.raises(MissingExtraError, match=r"tokenomics-plugin\[report\]"):
        PriceBook().cost(call())


def test_a_book_that_prices_everything_does_not_load_the_lists() -> None:
    program = (
        "import sys\n"
        "from tokenomics_plugin.pricing import Price, PriceBook\n"
        "from tokenomics_plugin.span import SpanRecord\n"
        "book = PriceBook([Price(provider='*', model='*', usd_per_hour='1')])\n"
        "span = SpanRecord(trace_id='1', span_id='1', request_model='m', duration_nano=3600 * 10**9)\n"
        "print(book.cost(span), 'genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1.000000000000", "False"]


def test_each_class_pays_its_own_price() -> None:
    price = Price(
        provider="openai",
        model="gpt-4o",
        input=Decimal(1),
        cache_write=Decimal(2),
        cache_read=Decimal(4),
        output=Decimal(8),
        reasoning=Decimal(16),
    )
    usage = TokenUsage(
        fresh_input_tokens=MILLION,
        cache_write_tokens=MILLION,
        cache_read_tokens=MILLION,
        visible_output_tokens=MILLION,
        reasoning_tokens=MILLION,
    )
    assert PriceBook([price]).cost(call(usage=usage)) == 31


def test_they_win_over_the_list() -> None:
    book = PriceBook([Price(provider="openai", model="gpt-4o", input=Decimal(0), output=Decimal(0))])
    assert book.cost(call()) == 0
    assert book.cost(call(model="gpt-4o-mini")) == PriceBook().cost(call(model="gpt-4o-mini"))


def test_reasoning_costs_what_output_does_unless_it_is_said() -> None:
    book = PriceBook([Price(provider="*", model="*", input=Decimal(0), output=Decimal(3))])
    assert book.cost(call(tokens={"output_tokens": MILLION, "reasoning_tokens": MILLION})) == 3


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [({"cache_read_tokens": 1}, Unpriced.CLASS_UNPRICED), ({}, None), ({"cache_read_tokens": 0}, None)],
    ids=["class used", "class absent", "class at 0"],
)
def test_a_class_that_occurs_needs_a_price(tokens: Mapping[str, int | None], reason: Unpriced | None) -> None:
    book = PriceBook([Price(provider="openai", model="gpt-4o", input=Decimal(1), output=Decimal(1))])
    assert book.quote(call(tokens=tokens)).unpriced is reason


def test_a_machine_is_paid_by_the_hour_whatever_the_usage() -> None:
    book = PriceBook([Price(provider="local", model="SmolLM2*", usd_per_hour=Decimal("0.08"))])
    span = call("local", "SmolLM2-135M-Instruct", usage=None, duration_nano=HOUR_NS // 2)
    assert book.cost(span) == Decimal("0.04")
    assert book.cost(replace(span, duration_nano=1)) == 0, "less than half a picodollar"
    assert book.quote(replace(span, duration_nano=None)).unpriced is Unpriced.DURATION_UNKNOWN


@given(st.lists(st.integers(0, HOUR_NS), min_size=1, max_size=20))
def test_machine_time_adds_up_in_any_order(durations: list[int]) -> None:
    book = PriceBook([Price(provider="*", model="*", usd_per_hour=Decimal("0.07"))])
    costs = [book.cost(call(duration_nano=duration)) for duration in durations]
    known = [cost for cost in costs if cost is not None]
    assert sum(known) == sum(reversed(known))
    assert len(known) == len(durations)


def test_the_entry_for_the_responding_model_comes_before_one_for_the_requested() -> None:
    book = PriceBook(
        [
            Price(provider="openai", model="asked", input=Decimal(1), output=Decimal(0)),
            Price(provider="openai", model="answered*", input=Decimal(2), output=Decimal(0)),
        ]
    )
    span = call(model="asked", tokens={"input_tokens": MILLION})
    assert book.cost(span) == 1
    assert book.cost(replace(span, response_model="answered-by")) == 2
    assert book.cost(replace(span, response_model="another")) == 1


@pytest.mark.parametrize(
    ("general", "special"),
    [
        (("openai", "gpt-4o*"), ("openai", "gpt-4o-mini")),
        (("openai", "gpt-*"), ("openai", "gpt-4o-*")),
        (("*", "gpt-4o-mini"), ("openai", "gpt-4o-mini")),
        (("open*", "gpt-4o-mini"), ("openai", "gpt-4o-mini")),
        (("openai", "*"), ("*", "gpt-4o-mini")),
    ],
    ids=["exact model", "longer model", "exact provider", "exact provider over pattern", "model over provider"],
)
def test_the_most_specific_entry_wins_in_any_order(general: tuple[str, str], special: tuple[str, str]) -> None:
    prices = [
        Price(provider=general[0], model=general[1], input=Decimal(1), output=Decimal(0)),
        Price(provider=special[0], model=special[1], input=Decimal(2), output=Decimal(0)),
    ]
    span = call(model="gpt-4o-mini", tokens={"input_tokens": MILLION})
    assert PriceBook(prices).cost(span) == PriceBook(prices[::-1]).cost(span) == 2


def test_a_pattern_for_everything_takes_calls_without_a_provider() -> None:
    book = PriceBook([Price(provider="*", model="*", input=Decimal(1), output=Decimal(1))])
    assert book.cost(call(None)) is not None


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        ("2025-12-31T23:59:59.999999Z", "0.0025"),
        ("2026-01-01T00:00:00Z", "0.001"),
        ("2026-06-30T23:59:59.999999Z", "0.001"),
        ("2026-07-01T00:00:00Z", "0.0025"),
    ],
    ids=["before", "first instant", "last instant", "after"],
)
def test_validity_includes_its_start_and_excludes_its_end(at: str, usd: str) -> None:
    price = Price(
        provider="openai",
        model="gpt-4o",
        input=Decimal(1),
        output=Decimal(0),
        valid_from_unix_nano=nanoseconds("2026-01-01T00:00:00Z"),
        valid_until_unix_nano=nanoseconds("2026-07-01T00:00:00Z"),
    )
    assert PriceBook([price]).cost(call(tokens={"output_tokens": 0}, at=at)) == Decimal(usd)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"model": "gpt-4o"}, {"model": "gpt-4o"}),
        ({"model": "gpt-*"}, {"model": "*-4o-"}),
        ({"model": "m", "valid_until_unix_nano": 11}, {"model": "m", "valid_from_unix_nano": 10}),
    ],
    ids=["same", "patterns that meet", "validities that overlap"],
)
def test_equal_claims_are_refused(first: dict[str, Any], second: dict[str, Any]) -> None:
    prices = [Price(provider="openai", output=Decimal(1), **fields) for fields in (first, second)]
    with pytest.raises(PriceBookError, match=r"two prices claim the same requests: openai .* and openai "):
        PriceBook(prices)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"model": "a*"}, {"model": "b*"}),
        ({"model": "m", "valid_until_unix_nano": 10}, {"model": "m", "valid_from_unix_nano": 10}),
        ({"model": "m", "provider": "azure.ai.openai"}, {"model": "m"}),
    ],
    ids=["patterns apart", "one after the other", "another provider"],
)
def test_claims_that_cannot_meet_are_accepted(first: dict[str, Any], second: dict[str, Any]) -> None:
    book = PriceBook(Price(**{"provider": "openai", "output": 1, **fields}) for fields in (first, second))
    assert book.quote(call(model="x")).unpriced is Unpriced.MODEL_UNKNOWN


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "give either usd_per_hour or prices of"),
        ({"usd_per_hour": 1, "input": 1}, "give either usd_per_hour or prices of"),
        ({"input": -1}, "input must not be negative, got -1"),
        ({"output": "cheap"}, "output must be an amount of money, got 'cheap'"),
        ({"input": 1, "valid_from_unix_nano": 5, "valid_until_unix_nano": 5}, "valid_from must be before"),
    ],
    ids=["nothing", "both kinds", "negative", "no number", "ends before it starts"],
)
def test_an_impossible_price_is_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Price(provider="openai", model="gpt-4o", **fields)


def read_book(tmp_path: Path, text: str) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return PriceBook.from_toml(path)


def test_a_full_book_is_read(tmp_path: Path) -> None:
    book = read_book(
        tmp_path,
        """
        [[price]]
        provider = "openai"
        model = "gpt-4o*"
        input = "2.00"
        cache_write = 2
        cache_read = 0.5
        output = "8.00"
        valid_from = 2026-01-01T00:00:00Z
        valid_until = 2027-01-01T01:00:00+01:00

        [[price]]
        provider = "local"
        model = "SmolLM2-135M-Instruct"
        usd_per_hour = "0.08"
        """,
    )
    tokens = {"input_tokens": 3 * MILLION, "cache_write_tokens": MILLION, "cache_read_tokens": MILLION}
    span = call(model="gpt-4o-mini", tokens={**tokens, "output_tokens": MILLION})
    assert book.cost(span) == Decimal("12.5")
    assert book.cost(replace(span, start_unix_nano=nanoseconds("2026-12-31T23:59:59Z"))) == Decimal("12.5")
    assert book.cost(replace(span, start_unix_nano=nanoseconds("2027-01-01T00:00:00Z"))) != Decimal("12.5")
    assert book.cost(call("local", "SmolLM2-135M-Instruct", duration_nano=HOUR_NS)) == Decimal("0.08")


def test_a_book_without_entries_is_the_lists(tmp_path: Path) -> None:
    assert read_book(tmp_path, "# nothing yet\n").cost(call()) == PriceBook().cost(call())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price", r"prices\.toml is not a TOML file"),
        ("[prices]\n", "prices is not known; a price book has only"),
        ("[price]\nmodel='m'\n", r"price must be written \[\[price\]\]"),
        ("price = [1]\n", r"price 1 must be a \[\[price\]\] table, got 1"),
        ("[[price]]\nmodel='m'\ninput=1\n", "price 1: provider must be a name, or a pattern with \\*, got None"),
        ("[[price]]\nprovider='p'\nmodel=''\ninput=1\n", "price 1: model must be a name, or a pattern"),
        ("[[price]]\nprovider='p'\nmodel='m'\nimput=1\n", "price 1: imput is not known; an entry has provider,"),
        ("[[price]]\nprovider='p'\nmodel='m'\ninput='x'\n", r"price 1 \(p m\): input must be an amount of money"),
        ("[[price]]\nprovider='p'\nmodel='m'\ninput=true\n", r"price 1 \(p m\): input must be an amount of money"),
        ("[[price]]\nprovider='p'\nmodel='m'\ninput=-1\n", r"price 1 \(p m\): input must not be negative"),
        ("[[price]]\nprovider='p'\nmodel='m'\ninput=nan\n", r"price 1 \(p m\): input must be finite"),
        ("[[price]]\nprovider='p'\nmodel='m'\n", r"price 1 \(p m\): give either usd_per_hour or prices of"),
        (
            "[[price]]\nprovider='p'\nmodel='m'\ninput=1\nvalid_from=2026-01-01T00:00:00\n",
            "price 1: valid_from must be a time with an offset",
        ),
        (
            "[[price]]\nprovider='p'\nmodel='m'\ninput=1\nvalid_until=2026-01-01\n",
            "price 1: valid_until must be a time with an offset",
        ),
        ("[[price]]\nprovider='p'\nmodel='m'\ninput=1\n" * 2, "two prices claim the same requests: p m and p m"),
    ],
    ids=[
        "not TOML",
        "unknown table",
        "single brackets",
        "no table",
        "no provider",
        "empty model",
        "unknown key",
        "no number",
        "boolean",
        "negative",
        "not finite",
        "no price",
        "time without offset",
        "date",
        "same twice",
    ],
)
def test_a_bad_book_names_the_entry_the_key_and_the_rule(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PriceBookError, match=message) as caught:
        read_book(tmp_path, text)
    assert "prices.toml" in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PriceBookError, match="is not a TOML file"):
        PriceBook.from_toml(path)


def test_a_fresh_input_token_of_the_reference_is_the_unit() -> None:
    provider, model = REFERENCE_MODEL.split()
    usage = TokenUsage(
        fresh_input_tokens=1000,
        cache_write_tokens=100,
        cache_read_tokens=100,
        visible_output_tokens=10,
        reasoning_tokens=10,
    )
    assert StandardPrices().tokens(call(provider, model, usage=usage)) == 1000 + 125 + 10 + 50 + 50


def test_the_written_down_reference_is_its_list_price_of_that_date() -> None:
    provider, model = REFERENCE_MODEL.split()
    for count in range(5):
        usage = TokenUsage(
            **dict.fromkeys(  # type: ignore[arg-type]  # one class at a time
                ("fresh_input_tokens", "cache_write_tokens", "cache_read_tokens", "visible_output_tokens"), 0
            )
            | {"reasoning_tokens": 0}
            | {list(TokenUsage.__dataclass_fields__)[count]: MILLION}
        )
        listed = call(provider, model, usage=usage, start_unix_nano=int(STANDARD_DATE.timestamp()) * 10**9)
        unlisted = call("nobody", "unknown", usage=usage)
        assert PriceBook().cost(listed) == (StandardPrices().tokens(unlisted) or 0) / MILLION


def test_a_dearer_model_does_more_standard_work() -> None:
    tokens = {"input_tokens": 1000, "output_tokens": 0}
    assert StandardPrices().tokens(call("openai", "gpt-4o", tokens=tokens)) == 2500


def test_the_date_of_the_call_does_not_move_the_scale() -> None:
    tokens = {"input_tokens": 300_000}
    before, after = (
        call("anthropic", "claude-opus-4-6", tokens=tokens, at=at)
        for at in ("2026-03-12T00:00:00Z", "2026-10-01T00:00:00Z")
    )
    assert PriceBook().cost(before) != PriceBook().cost(after)
    assert StandardPrices().tokens(before) == StandardPrices().tokens(after)


def test_a_model_that_no_list_knows_counts_as_the_reference() -> None:
    assert StandardPrices().tokens(call("local", "SmolLM2-135M-Instruct")) == 1000 + 5 * 100


@pytest.mark.parametrize("tokens", [{"output_tokens": None}, {"cache_read_tokens": 2000}], ids=["gap", "conflict"])
def test_unknown_usage_has_no_standard_tokens(tokens: Mapping[str, int | None]) -> None:
    assert StandardPrices().tokens(call(tokens=tokens)) is None


patterns = st.text(alphabet="ab*", max_size=5)


@given(patterns, patterns)
def test_patterns_meet_exactly_when_some_name_matches_both(first: str, second: str) -> None:
    # Five literals at most on either side: a name of ten letters is long enough to match both, if any is.
    names = ("".join(letters) for size in range(9) for letters in product("ab", repeat=size))
    assert may_meet(first, second) == any(matches(first, name) and matches(second, name) for name in names)


def test_only_the_star_is_special() -> None:
    assert matches("gpt-4.[x]?*", "gpt-4.[x]?\nfoo")
    assert not matches("gpt-4.*", "gpt-45")


@pytest.mark.parametrize(
    ("tokens", "model"),
    [({}, "gpt-4o"), ({"input_tokens": None}, "gpt-4o"), ({"reasoning_tokens": 101}, "gpt-4o"), ({}, "unheard-of")],
    ids=["listed", "usage-unknown", "usage-inconsistent", "not-listed"],
)
def test_what_a_log_says_that_a_call_cost_wins_over_the_lists(tokens: Mapping[str, int | None], model: str) -> None:
    assert PriceBook().cost(call(model=model, tokens=tokens, reported_cost_usd=Decimal("0.5"))) == Decimal("0.5")


def test_a_price_of_ones_own_wins_over_what_a_log_says() -> None:
    book = PriceBook([Price(provider="openai", model="gpt-4o", input=Decimal(1), output=Decimal(0))])

    assert book.cost(call(reported_cost_usd=Decimal("0.5"))) == Decimal("0.001")
