from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_local_llm import ToolCall, ToolCallParser
from tokenomics_local_llm.hermes import render_call, system_text

UNTIMED = settings(deadline=None)  # a busy machine is no failure
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.text(), JSON, max_size=3)
FRAGMENTS = st.sampled_from(
    ["<tool_call>", "</tool_call>", "<tool", "_call>", "<", '{"name": "f", "arguments": {}}', '"', "text ", "\n"]
)


def parse(*pieces: str) -> list[str | ToolCall]:
    parser = ToolCallParser()
    return [part for piece in pieces for part in parser.feed(piece)] + list(parser.close())


def joined(parts: list[str | ToolCall]) -> list[str | ToolCall]:
    """The parts with neighbouring texts put together, as they may be cut anywhere."""
    result: list[str | ToolCall] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        else:
            result.append(part)
    return result


@UNTIMED
@given(name=st.text(), arguments=ARGUMENTS)
def test_rendered_call_is_read_back(name: str, arguments: dict[str, Any]) -> None:
    text = render_call(name, arguments)

    assert parse(text) == [ToolCall(text=text, name=name, arguments=arguments)]


@UNTIMED
@given(pieces=st.lists(FRAGMENTS, max_size=12), data=st.data())
def test_it_does_not_matter_where_the_text_is_cut(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cut = data.draw(st.integers(0, len(text)))

    assert joined(parse(*pieces)) == joined(parse(text[:cut], text[cut:])) == joined(parse(*text))


@UNTIMED
@given(pieces=st.lists(FRAGMENTS, max_size=12))
def test_nothing_that_the_model_wrote_gets_lost(pieces: list[str]) -> None:
    parts = parse(*pieces)

    assert "".join(part if isinstance(part, str) else part.text for part in parts) == "".join(pieces)


def test_text_around_calls_comes_out_as_text() -> None:
    call = render_call("f", {"x": 1})

    first, one, second, two, third = joined(parse(f"before {call} between {call} after"))

    assert (first, second, third) == ("before ", " between ", " after")
    assert one == two == ToolCall(text=call, name="f", arguments={"x": 1})


def test_closing_tag_inside_a_string_does_not_end_the_call() -> None:
    arguments = {"html": 'a \\" </tool_call> "quoted" b'}

    (call,) = parse(*render_call("f", arguments))

    assert isinstance(call, ToolCall)
    assert call.arguments == arguments


def test_several_calls_in_one_list_are_several_calls() -> None:
    calls: list[dict[str, Any]] = [{"name": name, "arguments": {}} for name in ("f", "g")]

    parts = parse(f"<tool_call>{json.dumps(calls)}</tool_call>")

    assert [part.name for part in parts if isinstance(part, ToolCall)] == ["f", "g"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "{",
        "[1]",
        "[" * 10_000,
        '{"name": "f"}',
        '{"name": 1, "arguments": {}}',
        '{"name": "f", "arguments": "x"}',
    ],
)
def test_what_only_begins_like_a_call_is_invalid(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>"

    assert parse(text) == [ToolCall(text=text)]


def test_broken_call_does_not_hide_the_one_after_it() -> None:
    good = render_call("f", {})

    assert parse("<tool_call>broken</tool_call>", good) == [
        ToolCall(text="<tool_call>broken</tool_call>"),
        ToolCall(text=good, name="f", arguments={}),
    ]


def test_call_that_is_cut_off_is_invalid() -> None:
    text = render_call("f", {"a": 1, "b": 2})[:-20]

    assert parse(text) == [ToolCall(text=text)]


def test_text_that_cannot_become_a_call_is_not_held_back() -> None:
    parser = ToolCallParser()

    assert [list(parser.feed(piece)) for piece in ("a < b", " <tool", " kit")] == [["a < b"], [" "], ["<tool kit"]]


def test_instructions_name_every_tool() -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("sum", "größe")]

    text = system_text(tools)

    assert all(json.dumps(tool, ensure_ascii=False) in text for tool in tools)
