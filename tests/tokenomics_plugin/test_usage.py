from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.usage import ZERO, TokenUsage

SAME_CALL = TokenUsage(
    fresh_input_tokens=100,
    cache_write_tokens=20,
    cache_read_tokens=880,
    visible_output_tokens=30,
    reasoning_tokens=20,
)
counts = st.none() | st.integers(0, 10**9)
usages = st.builds(
    TokenUsage,
    fresh_input_tokens=counts,
    cache_write_tokens=counts,
    cache_read_tokens=counts,
    visible_output_tokens=counts,
    reasoning_tokens=counts,
)


@pytest.mark.parametrize(
    ("read", "source"),
    [
        pytest.param(
            TokenUsage.from_opentelemetry,
            {
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.cache_read.input_tokens": 880,
                "gen_ai.usage.cache_write.input_tokens": 20,
                "gen_ai.usage.reasoning.output_tokens": 20,
            },
            id="opentelemetry",
        ),
        pytest.param(
            TokenUsage.from_opentelemetry,
            {
                "gen_ai.usage.prompt_tokens": 1000,
                "gen_ai.usage.completion_tokens": 50,
                "gen_ai.usage.cache_read_input_tokens": 880,
                "gen_ai.usage.cache_creation.input_tokens": 20,
                "gen_ai.usage.reasoning_tokens": 20,
            },
            id="opentelemetry-of-earlier-generations",
        ),
        pytest.param(
            TokenUsage.from_langchain,
            {
                "input_tokens": 1000,
                "output_tokens": 50,
                "total_tokens": 1050,
                "input_token_details": {"cache_read": 880, "cache_creation": 20},
                "output_token_details": {"reasoning": 20},
            },
            id="langchain",
        ),
        pytest.param(
            TokenUsage.from_anthropic,
            {
                "input_tokens": 100,
                "cache_read_input_tokens": 880,
                "cache_creation_input_tokens": 20,
                "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 20},
            },
            id="raw-anthropic",
        ),
    ],
)
def test_every_convention_says_the_same_of_the_same_call(read: Any, source: dict[str, Any]) -> None:
    assert read(source) == SAME_CALL


@pytest.mark.parametrize(
    "usage",
    [
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 900},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        {
            "input_tokens": 1000,
            "output_tokens": 50,
            "input_tokens_details": {"cached_tokens": 900},
            "output_tokens_details": {"reasoning_tokens": 20},
        },
    ],
    ids=["chat-completions", "responses"],
)
def test_openai_counts_cached_tokens_inside_the_prompt(usage: dict[str, Any]) -> None:
    parsed = TokenUsage.from_openai(usage)

    assert (parsed.fresh_input_tokens, parsed.cache_read_tokens, parsed.input_tokens) == (100, 900, 1000)
    assert (parsed.visible_output_tokens, parsed.reasoning_tokens, parsed.output_tokens) == (30, 20, 50)


def test_anthropics_input_is_what_the_cache_did_not_serve() -> None:
    usage = TokenUsage.from_anthropic({"input_tokens": 3, "cache_read_input_tokens": 997, "output_tokens": 5})

    assert (usage.fresh_input_tokens, usage.input_tokens) == (3, 1000)


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 11}, "cached tokens (11) exceed"),
        ({"input_tokens": 10, "output_tokens": 1, "reasoning_tokens": 2}, "reasoning_tokens (2) exceed"),
        ({"input_tokens": -1, "output_tokens": 1}, "input_tokens=-1 is negative"),
    ],
    ids=["cache-beyond-input", "reasoning-beyond-output", "negative"],
)
def test_contradictory_counts_are_flagged_and_kept(counts: dict[str, int], problem: str) -> None:
    usage = TokenUsage.from_inclusive(**counts)

    assert problem in usage.inconsistencies[0]
    assert (usage.input_tokens, usage.output_tokens) == (counts["input_tokens"], counts["output_tokens"])
    assert problem in str(usage.to_attributes()[semconv.USAGE_INCONSISTENT])


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            {"input_token_details": {"cache_read": 0, "cache_creation": 0, "ephemeral_5m_input_tokens": 900}},
            (100, 900, 0),
        ),
        ({"input_token_details": {"cache_creation": 900}}, (100, 900, 0)),
        ({"input_token_details": {"flex_cache_read": 900, "flex": 100}}, (100, 0, 900)),
        ({"input_token_details": {"priority_cache_read": 900}}, (100, 0, 900)),
    ],
    ids=["anthropic-by-lifetime", "plain", "openai-flex", "openai-priority"],
)
def test_langchains_packages_name_the_parts_differently(
    details: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    usage = TokenUsage.from_langchain({"input_tokens": 1000, "output_tokens": 5, **details})

    assert (usage.fresh_input_tokens, usage.cache_write_tokens, usage.cache_read_tokens) == expected


def test_langchains_reasoning_may_bear_the_service_tier() -> None:
    usage = TokenUsage.from_langchain(
        {"input_tokens": 1, "output_tokens": 50, "output_token_details": {"flex_reasoning": 20}}
    )

    assert (usage.visible_output_tokens, usage.reasoning_tokens) == (30, 20)


@pytest.mark.parametrize("count", [float("inf"), float("nan"), 12.7, "many", [1]])
def test_what_is_no_count_is_unknown(count: Any) -> None:
    assert TokenUsage.from_opentelemetry({"gen_ai.usage.input_tokens": count}).input_tokens is None


def test_unknown_is_not_zero() -> None:
    usage = TokenUsage.from_langchain({"output_tokens": 5})

    assert usage.fresh_input_tokens is None
    assert usage.total_tokens is None
    assert semconv.GEN_AI_USAGE_INPUT_TOKENS not in usage.to_attributes()


def test_a_negative_count_without_an_explanation_is_refused() -> None:
    with pytest.raises(ValueError, match="fresh_input_tokens must not be negative, got -1"):
        TokenUsage(fresh_input_tokens=-1)


@pytest.mark.parametrize("count", [True, 1.5, "3"])
def test_counts_are_integers(count: Any) -> None:
    with pytest.raises(TypeError, match="must be an int or None"):
        TokenUsage(fresh_input_tokens=count)


@given(usages, usages, usages)
def test_addition_is_commutative_associative_and_has_a_zero(a: TokenUsage, b: TokenUsage, c: TokenUsage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + ZERO == a


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_classes_are_disjoint_and_add_up_to_the_totals(
    input_tokens: int, output_tokens: int, data: st.DataObject
) -> None:
    read = data.draw(st.integers(0, input_tokens))
    write = data.draw(st.integers(0, input_tokens - read))
    reasoning = data.draw(st.integers(0, output_tokens))

    usage = TokenUsage.from_inclusive(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=reasoning,
    )

    assert usage.is_consistent
    assert (usage.input_tokens, usage.output_tokens) == (input_tokens, output_tokens)


@given(usages)
def test_attributes_read_back_as_they_were_written(usage: TokenUsage) -> None:
    again = TokenUsage.from_opentelemetry(usage.to_attributes())

    assert again.total_tokens == usage.total_tokens
    if usage.total_tokens is not None:
        assert again == usage
