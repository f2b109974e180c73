"""Captured JSON as chat messages: what is read, and what makes a call unreadable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_runs import asks, said, text, tool_result
from tokenomics_plugin.dataset.chat import UnreadableContentError, read_exchange
from tokenomics_plugin.store import CallContent

PRICE = {"type": "function", "name": "price"}


def content(answer: Any = None, *, sent: Any = None, system: Any = None, tools: Any = (PRICE,)) -> CallContent:
    sent, answer = [text("user", "?")] if sent is None else sent, [said("3")] if answer is None else [answer]
    texts = (None if value is None else json.dumps(value) for value in (system, sent, answer, tools))
    return CallContent("1" * 32, "2" * 16, *texts)


def test_parts_become_text_and_calls_and_results_messages_of_their_own() -> None:
    parallel = [*asks("a", {"n": 1})["parts"], *asks("b", '{"n": 2}')["parts"]]
    thinks = {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, *said("look")["parts"], *parallel]}
    results = {"role": "tool", "parts": [*tool_result("a", "one")["parts"], *tool_result("b", {"n": 2})["parts"]]}

    exchange = read_exchange(content(sent=[text("developer", "Be"), text("user", "?"), thinks, results]))

    assert exchange.sent == [
        {"role": "system", "content": "Be"},
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "look",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "price", "arguments": '{"n": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "price", "arguments": '{"n": 2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b", "content": '{"n": 2}'},
    ]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}},
        {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}},
    ],
    ids=["conventions", "OpenAI"],
)
def test_tools_are_in_the_form_of_openai(tool: Any) -> None:
    function = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    assert read_exchange(content(tools=[tool])).tools == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("answer", "is_whole"),
    [
        (said("3"), True),
        (asks("a", {}), True),
        (said("3", finish_reason="length"), False),
        (said("3", finish_reason="content_filter"), False),
        (asks("a", '{"item": "p'), False),
        (asks("a", "[1]"), False),
    ],
    ids=["text", "call", "cut off", "filtered", "half a call", "no arguments"],
)
def test_an_answer_is_whole_when_it_ended_by_itself(answer: Any, is_whole: bool) -> None:
    assert read_exchange(content(answer)).is_whole is is_whole


@pytest.mark.parametrize(
    "broken",
    [
        content(sent=[{"role": "user", "parts": [{"type": "blob", "content": "..."}]}]),
        content(sent=[text("critic", "?")]),
        content(sent=[]),
        content(text("user", "3")),
        content({"role": "assistant", "parts": []}),
        content(tools=[{"type": "web_search", "name": "web_search"}]),
        content(asks("a", {}), tools=None),
        CallContent("1" * 32, "2" * 16, None, "[REDACTED]", "[]", None),
        CallContent("1" * 32, "2" * 16, None, None, json.dumps([said("3"), said("4")]), None),
    ],
    ids=[
        "image",
        "role",
        "nothing sent",
        "user answers",
        "silence",
        "their tool",
        "no tools",
        "redacted",
        "two choices",
    ],
)
def test_half_a_conversation_is_unreadable(broken: CallContent) -> None:
    with pytest.raises(UnreadableContentError, match="span 2222222222222222 is no conversation"):
        read_exchange(broken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "parts", "type", "content", "id", "name"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON, JSON)
def test_anything_else_is_read_or_refused(system: Any, sent: Any, answer: Any, tools: Any) -> None:
    try:
        exchange = read_exchange(content(answer, sent=sent, system=system, tools=tools))
    except UnreadableContentError:
        return
    assert exchange.answer["role"] == "assistant"
