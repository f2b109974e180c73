from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import (
    BlockRun,
    ContextBlock,
    ContextDelta,
    common_prefix,
    decode_blocks,
    encode_blocks,
    resolve,
)

_HEX = "0123456789abcdef"
_HASHES = st.builds("{}:{}".format, st.sampled_from(["0a1b2c3d", "ffff0000"]), st.text(_HEX, min_size=16, max_size=16))
_COUNTS = st.none() | st.integers(0, 10**9)
_BLOCKS = st.builds(
    ContextBlock,
    hash=_HASHES,
    role=st.sampled_from(["system", "user", "assistant", "tool", "other"]),
    size=_COUNTS,
    tokens=_COUNTS,
    producer=st.none() | st.text(_HEX, min_size=16, max_size=16),
)
_RUNS = st.builds(BlockRun, start=st.integers(0, 1_000), count=st.integers(0, 1_000))


def _block(number: int) -> ContextBlock:
    return ContextBlock(hash=f"0a1b2c3d:{number:016x}", role="user", size=number)


def _blocks(*numbers: int) -> tuple[ContextBlock, ...]:
    return tuple(map(_block, numbers))


def _attributes(contexts: Sequence[Sequence[ContextBlock]]) -> dict[str, dict[str, str | int]]:
    """Each context as the difference from the one before it."""
    calls: dict[str, dict[str, str | int]] = {}
    previous: str | None = None
    before: Sequence[ContextBlock] = ()
    for number, blocks in enumerate(contexts):
        calls[f"{number:016x}"] = ContextDelta.between(blocks, previous=previous, before=before).to_attributes()
        previous, before = f"{number:016x}", blocks
    return calls


@st.composite
def _edited_contexts(draw: st.DrawFn) -> list[list[ContextBlock]]:
    """What an agent carries from turn to turn, edited as programs edit it. Few different blocks, so many repeats."""
    small = st.lists(st.integers(0, 6).map(_block), max_size=4)
    context: list[ContextBlock] = []
    contexts = []
    for edit in draw(st.lists(st.sampled_from(["append", "truncate", "replace", "summarise", "front", "shuffle"]))):
        new = draw(small)
        start, end = sorted((draw(st.integers(0, len(context))), draw(st.integers(0, len(context)))))
        context = {
            "append": [*context, *new],
            "truncate": context[:start],
            "replace": [*context[:start], *new, *context[end:]],
            "summarise": [*context[:1], *new, *context[end:]],
            "front": [*new, *context[1:]],
            "shuffle": draw(st.permutations(context)),
        }[edit]
        contexts.append(context)
    return contexts


# Text


@given(st.lists(_BLOCKS | _RUNS))
def test_entries_survive_the_text(entries: list[ContextBlock | BlockRun]) -> None:
    assert decode_blocks(encode_blocks(entries)) == tuple(entries)


def test_the_text_is_compact_and_says_a_key_once() -> None:
    entries: list[ContextBlock | BlockRun] = [
        ContextBlock(hash="0a1b2c3d:00000000000000aa", role="system", size=120),
        BlockRun(start=3, count=12),
        ContextBlock(
            hash="0a1b2c3d:00000000000000bb", role="assistant", size=40, tokens=17, producer="00000000000000cc"
        ),
        ContextBlock(hash="ffff0000:00000000000000dd", role="user"),
    ]
    assert encode_blocks(entries) == (
        '[["0a1b2c3d:00000000000000aa","system",120],[3,12],'
        '["00000000000000bb","assistant",40,17,"00000000000000cc"],["ffff0000:00000000000000dd","user"]]'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[["0a:0b","user",1],["0', "must be JSON, got 23 characters", id="cut by a length limit"),
        pytest.param("[" * 100_000, "must be JSON", id="nested too deep"),
        pytest.param(None, "must be JSON", id="nothing"),
        pytest.param('{"a":1}', "must be a JSON array, got dict", id="object"),
        pytest.param("[7]", "array of 2 to 5", id="number in a block's place"),
        pytest.param("[[1]]", "array of 2 to 5", id="too short"),
        pytest.param('[["0a:0b","user",1,2,"0c",3]]', "array of 2 to 5", id="too long"),
        pytest.param('[["0b","user"]]', "first one's with a key id, got '0b'", id="no key"),
        pytest.param('[["0a:secret","user"]]', "must be hex digits", id="hash of other letters"),
        pytest.param("[[-1,2]]", "must be hex digits", id="negative start"),
        pytest.param('[["0a:0b",1]]', "role and producer must be text", id="role that is no text"),
        pytest.param('[["0a:0b","user",1,2,3]]', "role and producer must be text", id="producer that is no text"),
        pytest.param('[["0a:0b","user",-1]]', "must not be negative, got -1", id="negative size"),
        pytest.param('[["0a:0b","user",true]]', "must not be negative, got True", id="size that is no number"),
        pytest.param("[[0,600000],[0,600000]]", "at most 1000000 blocks, got 1200000", id="forged count"),
    ],
)
def test_other_text_is_refused_with_a_reason(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_blocks(text)


def test_a_hash_without_its_key_is_not_written() -> None:
    with pytest.raises(ValueError, match="must name its key"):
        encode_blocks([ContextBlock(hash="0b", role="user")])


# Differences


@given(_edited_contexts(), st.randoms())
def test_what_was_carried_is_read_back_from_any_edits_in_any_order(
    contexts: list[list[ContextBlock]], order: random.Random
) -> None:
    calls = list(_attributes(contexts).items())
    order.shuffle(calls)
    resolved = resolve(dict(calls))
    assert [resolved[f"{number:016x}"] for number in range(len(contexts))] == [tuple(context) for context in contexts]


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_beginning_is_as_long_as_it_can_be(left: list[int], right: list[int]) -> None:
    length = common_prefix(left, right)
    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or length == len(left) == len(right)


@pytest.mark.parametrize(
    ("blocks", "delta"),
    [
        pytest.param(
            _blocks(0, 1, 2, 3, 9), ContextDelta(previous="p", kept=4, entries=_blocks(9)), id="append: the new one"
        ),
        pytest.param(_blocks(0, 1), ContextDelta(previous="p", kept=2), id="truncate: nothing new"),
        pytest.param(_blocks(0, 1, 2, 3), ContextDelta(previous="p", kept=4), id="retry: nothing new"),
        pytest.param(
            _blocks(9, 1, 2, 3),
            ContextDelta(previous="p", entries=(_block(9), BlockRun(start=1, count=3))),
            id="another system prompt: the rest is copied",
        ),
        pytest.param(
            _blocks(0, 9, 2, 3),
            ContextDelta(previous="p", kept=1, entries=(_block(9), BlockRun(start=2, count=2))),
            id="summary: what follows it is copied",
        ),
        pytest.param(
            _blocks(0, 2, 3, 9),
            ContextDelta(previous="p", kept=1, entries=(BlockRun(start=2, count=2), _block(9))),
            id="sliding window: what stays in it is copied",
        ),
        pytest.param(_blocks(8, 9), ContextDelta(entries=_blocks(8, 9)), id="another conversation: no reference"),
        pytest.param((), ContextDelta(), id="empty: no reference"),
    ],
)
def test_a_difference_says_what_is_new_once(blocks: tuple[ContextBlock, ...], delta: ContextDelta) -> None:
    assert ContextDelta.between(blocks, previous="p", before=_blocks(0, 1, 2, 3)) == delta


def test_blocks_of_one_hash_and_two_producers_are_not_mistaken_for_each_other() -> None:
    mine, theirs = (ContextBlock(hash="0a:0b", role="tool", producer=span) for span in ("a" * 16, "b" * 16))
    contexts = [[_block(1), mine], [_block(1), theirs], [_block(2), theirs, mine]]
    assert list(resolve(_attributes(contexts)).values()) == [tuple(context) for context in contexts]


@pytest.mark.parametrize(
    "carried",
    [
        pytest.param(lambda turn: _blocks(*range(turn)), id="appended to"),
        pytest.param(lambda turn: _blocks(10_000 + turn, *range(turn)), id="behind a system prompt with the time"),
        pytest.param(lambda turn: _blocks(0, *range(1, turn)[-20:]), id="in a sliding window"),
    ],
)
def test_bytes_of_a_call_do_not_grow_with_its_context(carried: Any) -> None:
    calls = _attributes([carried(turn) for turn in range(1, 301)])
    sizes = [sum(len(str(value)) for value in attributes.values()) for attributes in calls.values()]
    assert max(sizes[-100:]) <= max(sizes[40:60]) + 4  # a few more digits in the counts


# What is missing


@pytest.fixture
def calls() -> dict[str, dict[str, str | int]]:
    return {
        "first": ContextDelta(entries=_blocks(0, 1)).to_attributes(),
        "second": ContextDelta(previous="first", kept=2, entries=_blocks(2)).to_attributes(),
        "third": ContextDelta(
            previous="second", kept=3, entries=(_block(3), BlockRun(start=2, count=1))
        ).to_attributes(),
    }


def test_a_call_that_is_missing_leaves_its_blocks_unknown_and_the_later_ones_known(
    calls: dict[str, dict[str, str | int]],
) -> None:
    del calls["first"]
    assert resolve(calls) == {
        "second": (None, None, _block(2)),
        "third": (None, None, _block(2), _block(3), _block(2)),
    }
    del calls["second"]
    assert resolve(calls) == {"third": (None, None, None, _block(3), None)}


def test_a_call_that_says_nothing_or_something_malformed_is_unknown_and_so_is_what_it_gives_to_others(
    calls: dict[str, dict[str, str | int]],
) -> None:
    calls["first"] = {"gen_ai.operation.name": "chat"}
    calls["second"][semconv.CONTEXT_BLOCKS] = '[["0a'
    assert resolve(calls) == {"first": None, "second": None, "third": (None, None, None, _block(3), None)}


def test_blocks_beyond_those_of_the_earlier_call_are_unknown(calls: dict[str, dict[str, str | int]]) -> None:
    calls["second"][semconv.CONTEXT_KEPT] = 4
    assert resolve(calls)["second"] == (*_blocks(0, 1), None, None, _block(2))


def test_calls_that_refer_to_each_other_are_unknown_and_end(calls: dict[str, dict[str, str | int]]) -> None:
    calls["first"] = ContextDelta(previous="third", kept=1, entries=_blocks(9)).to_attributes()
    resolved = resolve(calls)
    assert [context[0] for context in resolved.values() if context] == [None, None, None]


def test_thousands_of_calls_that_each_refer_to_the_one_before_are_resolved() -> None:
    calls = {
        str(turn): {
            semconv.CONTEXT_PREVIOUS: str(turn - 1),
            semconv.CONTEXT_KEPT: 1,
            semconv.CONTEXT_BLOCKS: encode_blocks(_blocks(turn)),
        }
        for turn in range(3_000, 0, -1)
    }
    calls["0"] = {semconv.CONTEXT_BLOCKS: encode_blocks(_blocks(7))}
    assert resolve(calls)["3000"] == _blocks(7, 3_000)


def test_stored_text_reads_as_the_attributes_did_and_empty_text_is_absent(
    calls: dict[str, dict[str, str | int]],
) -> None:
    empty = dict.fromkeys((semconv.CONTEXT_PREVIOUS, semconv.CONTEXT_KEPT, semconv.CONTEXT_BLOCKS), "")
    texts = {
        span: empty | {name: str(value) for name, value in attributes.items()} for span, attributes in calls.items()
    }
    assert resolve(texts) == resolve(calls)
    assert resolve({"other": empty}) == {"other": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({semconv.CONTEXT_KEPT: -1}, "integer from 0 to 1000000, got -1", id="negative"),
        pytest.param({semconv.CONTEXT_KEPT: 10**12}, "integer from 0 to 1000000", id="forged count"),
        pytest.param({semconv.CONTEXT_KEPT: "many"}, "got 'many'", id="text"),
        pytest.param({semconv.CONTEXT_PREVIOUS: 7}, "must be a span id, got 7", id="previous that is no text"),
        pytest.param({semconv.CONTEXT_PREVIOUS: None}, "must name the call", id="kept of nothing"),
        pytest.param(
            {semconv.CONTEXT_PREVIOUS: None, semconv.CONTEXT_KEPT: 0, semconv.CONTEXT_BLOCKS: json.dumps([[0, 1]])},
            "must name the call",
            id="copied from nothing",
        ),
    ],
)
def test_attributes_that_contradict_themselves_are_refused(
    calls: dict[str, dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ContextDelta.from_attributes(calls["second"] | change)
