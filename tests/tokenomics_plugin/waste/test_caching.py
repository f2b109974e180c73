from dataclasses import replace
from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.usage import TokenUsage
from tokenomics_plugin.waste import BlockRange, Finding, MissedCache, StrandedRepetition
from trajectories import Script


def stranded(script: Script, **declared: Any) -> list[Finding]:
    return list(StrandedRepetition(**declared).find(script.trajectory()))


def missed(script: Script) -> list[Finding]:
    return list(MissedCache().find(script.trajectory()))


def clock(script: Script, hour: int) -> None:
    script.conversation[0] = script.block("system", f"It is {hour} o'clock.", tokens=5_000)


def test_what_follows_a_changed_front_is_stranded_and_only_the_price_gap_is_claimed() -> None:
    script = Script()
    clock(script, 1)
    before = script.model("Hello")
    clock(script, 2)
    call = script.model("Hello again")

    (finding,) = stranded(script)

    assert finding.tier is Tier.B
    assert finding.is_price_gap
    assert finding.tokens == 200
    assert finding.blocks == (BlockRange(call=call.span_id, start=1, stop=2),)
    assert finding.evidence == (before.span_id,)


def test_it_is_provable_where_the_order_is_declared_free() -> None:
    script = Script()
    for hour in (1, 2):
        clock(script, hour)
        script.model("Hello")

    assert [finding.tier for finding in stranded(script, free_roles=frozenset({"system"}))] == [Tier.A]
    assert [finding.tier for finding in stranded(script, free_roles=frozenset({"user"}))] == [Tier.B]


def test_a_window_that_slides_saves_rent_and_is_a_matter_of_policy() -> None:
    script = Script()
    for number in range(4):
        script.says("user", f"Number {number}")
    script.model("First", keep=False)
    del script.conversation[2]
    script.model("Second", keep=False)

    assert [finding.tier for finding in stranded(script)] == [Tier.C]


def test_a_conversation_that_only_grows_strands_nothing() -> None:
    script = Script()
    for _ in range(5):
        script.turn("get", "order 7", "shipped")

    assert stranded(script) == []


def test_text_that_is_said_twice_is_not_stranded() -> None:
    script = Script()
    for _ in range(3):
        script.says("user", "Yes.")
        script.model("Well.")

    assert stranded(script) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model": "claude-y"}, id="another model"),
        pytest.param({"usage": None}, id="unknown usage"),
        pytest.param({"usage": TokenUsage.from_inclusive(input_tokens=900, output_tokens=1)}, id="too short to cache"),
    ],
)
def test_nothing_is_stranded_where_no_cache_could_have_served_it(change: dict[str, Any]) -> None:
    script = Script()
    clock(script, 1)
    script.model("Hello")
    clock(script, 2)
    script.model("Hello again", **change)

    assert stranded(script) == []


def test_nothing_is_stranded_after_the_cache_has_expired() -> None:
    script = Script()
    clock(script, 1)
    script.model("Hello")
    script.wait(301)
    clock(script, 2)
    script.model("Hello again")

    assert stranded(script) == []


def test_a_prompt_that_goes_on_from_another_and_was_not_served_missed_the_cache() -> None:
    script = Script()
    script.model("One")
    earlier = script.model("Two")
    call = script.model("Three", cached=0)

    (finding,) = missed(script)

    assert finding.tier is Tier.A
    assert finding.is_price_gap
    assert finding.tokens == 5_400
    assert finding.blocks == (BlockRange(call=call.span_id, start=0, stop=3),)
    assert finding.evidence == (earlier.span_id,)


def test_the_very_same_prompt_can_miss_the_cache_too() -> None:
    script = Script()
    script.model("One", keep=False)
    call = script.model("Two", keep=False, cached=0, provider="openai")
    script.revise(script.trajectory().model_calls[0], provider="openai")

    assert [finding.blocks for finding in missed(script)] == [(BlockRange(call=call.span_id, start=0, stop=2),)]


def test_where_the_cache_was_never_used_it_may_not_have_been_asked_for() -> None:
    script = Script()
    for _ in range(3):
        script.model("Hello", cached=0)

    assert [finding.tier for finding in missed(script)] == [Tier.B, Tier.B]


def test_a_provider_that_caches_unasked_should_have_served() -> None:
    script = Script()
    for _ in range(2):
        script.model("Hello", cached=0, provider="openai")

    assert [finding.tier for finding in missed(script)] == [Tier.A]


def test_a_cache_reads_in_steps() -> None:
    script = Script()
    script.model("One", provider="openai")
    script.model("Two", provider="openai", cached=5_200 - 128)

    assert missed(script) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model": "claude-y"}, id="another model has another cache"),
        pytest.param({"provider": "bedrock"}, id="another provider has another cache"),
        pytest.param({"usage": None}, id="its usage is unknown"),
        pytest.param({"is_cache_hit": True}, id="the framework's cache answered"),
        pytest.param(
            {"usage": TokenUsage.from_inclusive(input_tokens=5, output_tokens=1, cache_read_tokens=9)},
            id="its counts contradict each other",
        ),
    ],
)
def test_nothing_was_missed_if(change: dict[str, Any]) -> None:
    script = Script()
    script.model("One")
    script.model("Two", cached=0, **change)

    assert missed(script) == []


def test_a_prompt_that_is_too_short_is_cached_nowhere() -> None:
    script = Script()
    script.conversation[0] = script.block("system", "Short.", tokens=3_000)
    script.model("One")
    script.model("Two", cached=0)

    assert missed(script) == []


def test_a_cache_forgets() -> None:
    script = Script()
    script.model("One")
    script.wait(301)
    script.model("Two", cached=0)

    assert missed(script) == []


def test_calls_that_run_side_by_side_cannot_serve_each_other() -> None:
    script = Script()
    for _ in range(3):
        script.model("Vote", keep=False, waits=False, cached=0, provider="openai")

    assert missed(script) == []


def test_blocks_of_unknown_size_leave_the_number_of_tokens_unknown() -> None:
    script = Script()
    script.conversation[1] = replace(script.conversation[1], size=None)
    for hour in (1, 2):
        clock(script, hour)
        script.model("Hello")

    assert [finding.tokens for finding in stranded(script)] == [None]
