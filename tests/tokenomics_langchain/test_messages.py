from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from tokenomics_langchain.messages import (
    documents_content,
    input_content,
    output_content,
    prompt_content,
    state_input_content,
    state_output_content,
    to_json,
    tools_content,
)

INPUT = "gen_ai.input.messages"
OUTPUT = "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"


def read(attributes: Any, name: str) -> Any:
    return json.loads(attributes[name])


def parts(message: BaseMessage) -> Any:
    (rendered,) = read(input_content([message]), INPUT)
    return rendered["parts"]


def test_roles_are_the_conventions() -> None:
    history = [
        HumanMessage("hi"),
        AIMessage("hello", name="calculator"),
        ToolMessage("3", tool_call_id="call-1"),
        ChatMessage(content="psst", role="critic"),
        SystemMessage("be brief"),
    ]

    assert read(input_content(history), INPUT) == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "hello"}], "name": "calculator"},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "3"}]},
        {"role": "critic", "parts": [{"type": "text", "content": "psst"}]},
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
    ]


def test_leading_system_messages_are_instructions() -> None:
    content = input_content([SystemMessage("be kind"), SystemMessage("be brief"), HumanMessage("hi")])

    assert read(content, SYSTEM) == [{"type": "text", "content": "be kind"}, {"type": "text", "content": "be brief"}]
    assert [message["role"] for message in read(content, INPUT)] == ["user"]


def test_tool_calls_keep_their_arguments_as_an_object() -> None:
    message = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call-1"}])

    assert parts(message) == [{"type": "tool_call", "id": "call-1", "name": "add", "arguments": {"a": 1}}]


def test_arguments_that_did_not_parse_are_kept_as_text() -> None:
    broken: Any = {"type": "invalid_tool_call", "name": "add", "args": '{"a": ', "id": "call-1", "error": "eof"}

    assert parts(AIMessage("", invalid_tool_calls=[broken]))[0]["arguments"] == '{"a": '


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "reasoning", "reasoning": "hm"}, {"type": "reasoning", "content": "hm"}),
        (
            {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
            {"type": "blob", "content": "aGk=", "modality": "image", "mime_type": "image/png"},
        ),
        (
            {"type": "audio", "url": "https://a.example/b.wav"},
            {"type": "uri", "uri": "https://a.example/b.wav", "modality": "audio", "mime_type": None},
        ),
        (
            {"type": "file", "file_id": "file-1", "mime_type": "application/pdf"},
            {"type": "file", "file_id": "file-1", "modality": "file", "mime_type": "application/pdf"},
        ),
    ],
    ids=["reasoning", "bytes", "address", "uploaded file"],
)
def test_content_blocks_become_parts(block: dict[str, Any], part: dict[str, Any]) -> None:
    assert parts(HumanMessage(content=[block])) == [part]


def test_a_block_that_the_schema_does_not_know_passes_as_it_is() -> None:
    block: Any = {"type": "non_standard", "value": {"hologram": 1}}
    assert parts(HumanMessage(content=[block]))[0]["type"] == "non_standard"


@pytest.mark.parametrize(
    ("provider", "conventions"),
    [("stop", "stop"), ("end_turn", "stop"), ("max_tokens", "length"), ("tool_use", "tool_call"), ("odd", "odd")],
)
def test_output_messages_have_the_conventions_finish_reason(provider: str, conventions: str) -> None:
    message = AIMessage("hi", response_metadata={"stop_reason": provider})

    (rendered,) = read(output_content(LLMResult(generations=[[ChatGeneration(message=message)]])), OUTPUT)

    assert rendered["finish_reason"] == conventions


def test_a_text_completion_is_one_message_each_way() -> None:
    result = LLMResult(generations=[[Generation(text="hi", generation_info={"finish_reason": "stop"})]])

    assert read(prompt_content(["say hi"]), INPUT) == [
        {"role": "user", "parts": [{"type": "text", "content": "say hi"}]}
    ]
    assert read(output_content(result), OUTPUT) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "stop"}
    ]


def test_a_call_that_brought_nothing_has_no_output() -> None:
    assert output_content(LLMResult(generations=[])) == {}


@pytest.mark.parametrize(
    "messages",
    [[("user", "hi")], [{"role": "user", "content": "hi"}], [HumanMessage("hi")], "hi", HumanMessage("hi")],
    ids=["tuples", "dicts", "messages", "text", "one message"],
)
def test_a_graphs_input_is_read_in_every_form_that_langgraph_takes(messages: Any) -> None:
    content = state_input_content({"messages": messages})

    assert read(content, INPUT) == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]


@pytest.mark.parametrize("state", [None, {}, {"messages": []}, {"question": "hi"}, "hi", 3], ids=str)
def test_a_graph_without_messages_has_no_content(state: Any) -> None:
    assert state_input_content(state) == {}
    assert state_output_content(state) == {}


def test_a_graphs_answer_is_its_last_message_only() -> None:
    state = {"messages": [HumanMessage("hi"), AIMessage("thinking"), AIMessage("hello")]}

    (answer,) = read(state_output_content(state), OUTPUT)

    assert answer["parts"] == [{"type": "text", "content": "hello"}]


def test_a_graph_that_does_not_end_with_an_answer_has_none() -> None:
    assert state_output_content({"messages": [AIMessage("hello"), HumanMessage("and?")]}) == {}


def test_documents_are_told_by_id_and_score_without_their_text() -> None:
    documents = [Document("text", id="doc-1", metadata={"score": 0.5}), Document("more")]

    assert read(documents_content(documents), "gen_ai.retrieval.documents") == [{"id": "doc-1", "score": 0.5}, {}]


@dataclass
class Opaque:
    number: int


def test_what_json_does_not_know_becomes_text() -> None:
    value = {"tool": ToolMessage("3", tool_call_id="call-1"), "opaque": Opaque(1), "text": "grüße"}

    assert to_json(value) == '{"tool":"3","opaque":"Opaque(number=1)","text":"grüße"}'


@given(st.text())
def test_any_text_survives(text: str) -> None:
    assert parts(HumanMessage(text)) == ([{"type": "text", "content": text}] if text else [])


PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("tool", "definition"),
    [
        (
            {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": PARAMETERS}},
            {"type": "function", "name": "add", "description": "Adds.", "parameters": PARAMETERS},
        ),
        (
            {"name": "add", "description": "Adds.", "input_schema": PARAMETERS},
            {"type": "function", "name": "add", "description": "Adds.", "parameters": PARAMETERS},
        ),
        ({"type": "web_search", "max_uses": 3}, {"type": "web_search", "name": "web_search"}),
    ],
    ids=["OpenAI", "Anthropic", "the provider's own"],
)
def test_tools_are_defined_as_the_conventions_say(tool: Any, definition: Any) -> None:
    assert read(tools_content([tool]), "gen_ai.tool.definitions") == [definition]


@pytest.mark.parametrize("tools", [None, (), "tools", [7]], ids=["absent", "none", "text", "a number"])
def test_what_defines_no_tool_is_left_out(tools: Any) -> None:
    assert tools_content(tools) == {}
