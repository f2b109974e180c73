from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext

from tokenomics_langchain.loops import LoopDetector, Repetition

# Few keys, so that short histories repeat themselves; some are written as rounds to reach long cycles.
few_keys = st.text("abcd", max_size=40)
rounds = st.builds(
    lambda before, block, times: before + block * times, few_keys, st.text("abcd", max_size=5), st.integers(1, 5)
)
histories = few_keys | rounds | st.builds(lambda one, other: one + other, rounds, rounds)


def span(number: int) -> SpanContext:
    return SpanContext(trace_id=1, span_id=number + 1, is_remote=False)


def visits(keys: str, *, key_limit: int = 10_000) -> list[Repetition | None]:
    detector = LoopDetector(key_limit=key_limit)
    return [detector.visit(key, span(number)) for number, key in enumerate(keys)]


def kinds(keys: str) -> list[str | None]:
    return [None if repetition is None else repetition.kind for repetition in visits(keys)]


def revisit(repeats: int, first: int) -> Repetition:
    return Repetition(kind="revisit", repeats=repeats, period=None, first=span(first))


def alternation(repeats: int, period: int, first: int) -> Repetition:
    return Repetition(kind="alternation", repeats=repeats, period=period, first=span(first))


def by_definition(keys: str) -> Repetition | None:
    """What the last of these visits repeats, told from the whole history."""
    last = len(keys) - 1
    if keys[last] not in keys[:last]:
        return None
    for period in (2, 3, 4):
        block = keys[-period:]
        if keys.endswith(block * 2) and len(set(block)) > 1:
            start = last + 1 - 2 * period
            while start > 0 and keys[start - 1] == keys[start - 1 + period]:
                start -= 1
            repeats, place = divmod(last - start, period)
            return alternation(repeats, period, start + place)
    return revisit(keys.count(keys[last]) - 1, keys.index(keys[last]))


def test_a_b_a_b_is_an_alternation_from_its_second_round_on() -> None:
    assert visits("ababa") == [None, None, revisit(1, 0), alternation(1, 2, 1), alternation(2, 2, 0)]


def test_a_revisit_counts_from_one_and_points_to_the_first_visit() -> None:
    assert visits("abcadea") == [None, None, None, revisit(1, 0), None, None, revisit(2, 0)]


def test_one_action_over_and_over_is_no_alternation() -> None:
    assert kinds("aaaaaaaaaaaa") == [None, *["revisit"] * 11]


@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_cycle_is_found_at_each_period(period: int) -> None:
    block = "abcd"[:period]

    assert visits(block * 2)[-1] == alternation(1, period, period - 1)


def test_a_cycle_of_five_is_too_long() -> None:
    assert "alternation" not in kinds("abcde" * 3)


def test_the_shortest_period_counts() -> None:
    assert {repetition.period for repetition in visits("ab" * 8)[3:] if repetition} == {2}


def test_the_same_action_twice_in_a_cycle_points_to_its_own_place() -> None:
    assert [repetition and repetition.first for repetition in visits("aabaab" + "aa")[-3:]] == [
        span(2),
        span(0),
        span(1),
    ]


def test_something_new_ends_a_cycle() -> None:
    assert kinds("ababxab")[-2:] == ["revisit", "revisit"]


@given(histories)
def test_every_visit_agrees_with_the_definition(keys: str) -> None:
    assert visits(keys) == [by_definition(keys[: end + 1]) for end in range(len(keys))]


@given(st.lists(st.text(), unique=True))
def test_nothing_repeats_without_a_repeated_key(keys: list[str]) -> None:
    detector = LoopDetector()

    assert [detector.visit(key, span(number)) for number, key in enumerate(keys)] == [None] * len(keys)


@given(histories)
def test_no_more_keys_than_the_limit_are_remembered(keys: str) -> None:
    for earlier, last in pairwise([keys[: end + 1] for end in range(len(keys))]):
        is_recent = last[-1] in list(dict.fromkeys(reversed(earlier)))[:2]
        assert (visits(last, key_limit=2)[-1] is not None) == is_recent


@pytest.mark.parametrize(
    ("repetition", "attributes"),
    [
        pytest.param(revisit(3, 0), {"tokenomics.loop.kind": "revisit", "tokenomics.loop.repeats": 3}, id="revisit"),
        pytest.param(
            alternation(1, 2, 0),
            {"tokenomics.loop.kind": "alternation", "tokenomics.loop.repeats": 1, "tokenomics.loop.period": 2},
            id="alternation",
        ),
    ],
)
def test_a_repetition_says_what_it_is(repetition: Repetition, attributes: dict[str, object]) -> None:
    assert repetition.attributes() == attributes
