"""Captured messages in the form in which models are fine-tuned and served: OpenAI's chat messages and tools.

The GenAI conventions write a message as a role and typed parts. What has no place in a conversation of text and tool
calls (an image, a provider's own tool, whatever a redaction left that is no message) makes the call unreadable: half of
what a model saw would teach it to guess the other half. So does a call of a tool where no tools are told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenomics_plugin import semconv
from tokenomics_plugin.store import CallContent

__all__ = ["Exchange", "Json", "Message", "UnreadableContentError", "read_exchange"]

Json = dict[str, Any]
Message = Json
"""`role`, `content`, and where they apply `tool_calls` or `tool_call_id`."""

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CUT_OFF: Final = frozenset({"length", "content_filter", "error"})


class UnreadableContentError(ValueError):
    """What was captured is no conversation of text and tool calls."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a model was sent, and what it answered."""

    sent: Sequence[Message]
    """The conversation so far."""
    answer: Message
    """The assistant's message."""
    tools: Sequence[Json]
    """The tools that it was offered, in OpenAI's form."""
    is_whole: bool
    """Whether the answer ended by itself, with calls that can be made: nothing that is cut off should be learned."""


def read_exchange(content: CallContent) -> Exchange:
    """A call's content as chat messages.

    Raises:
        UnreadableContentError: If it is no conversation of text and tool calls with one answer.
    """
    try:
        answers = _list(content.output_messages)
        sent = [*_instructions(content.system_instructions), *_messages(_list(content.input_messages))]
        if len(answers) != 1 or not sent:
            raise ValueError(f"it has {len(sent)} messages and {len(answers)} answers")  # which one was used?
        (answer,) = _messages(answers)
        if answer["role"] != "assistant":
            raise ValueError(f"the {answer['role']} answers")
        tools = [_tool(tool) for tool in _list(content.tool_definitions)]
        if not tools and "tool_calls" in answer:
            raise ValueError(f"it calls a tool, and {semconv.GEN_AI_TOOL_DEFINITIONS} does not say what was offered")
        return Exchange(
            sent=sent,
            answer=answer,
            tools=tools,
            is_whole=answers[0].get("finish_reason") not in _CUT_OFF and _is_whole(answer),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableContentError(f"the content of span {content.span_id} is no conversation: {error!r}") from error


def _list(text: str | None) -> list[Any]:
    read = [] if text is None else json.loads(text)
    if not isinstance(read, list):
        raise ValueError(f"a list was expected, got {type(read).__name__}")
    return read


def _instructions(text: str | None) -> Iterator[Message]:
    parts = _list(text)
    if parts:
        yield {"role": "system", "content": "\n\n".join(_text(part) for part in parts)}


def _messages(messages: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    for message in messages:
        role, parts = _ROLES[message["role"]], message["parts"]
        if role == "tool":
            yield from map(_tool_result, parts)
        elif role == "assistant":
            yield _assistant(parts)
        else:
            yield {"role": role, "content": "".join(map(_text, parts))}


def _assistant(parts: Sequence[Mapping[str, Any]]) -> Message:
    # Reasoning is left out: providers show summaries of it only, and chat templates drop it from what went before.
    calls = [_call(part) for part in parts if part["type"] == "tool_call"]
    text = "".join(_text(part) for part in parts if part["type"] not in ("tool_call", "reasoning"))
    if not text and not calls:
        raise ValueError("the assistant says nothing")
    return {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})


def _text(part: Mapping[str, Any]) -> str:
    if part["type"] != "text" or not isinstance(part["content"], str):
        raise ValueError(f"a part of type {part['type']} is no text")
    return part["content"]


def _call(part: Mapping[str, Any]) -> Json:
    arguments = part.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": part.get("id"), "type": "function", "function": {"name": part["name"], "arguments": written}}


def _tool_result(part: Mapping[str, Any]) -> Message:
    if part["type"] != "tool_call_response":
        raise ValueError(f"a tool answers with a part of type {part['type']}")
    response = part.get("response", part.get("result"))
    text = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": part.get("id"), "content": text}


def _tool(definition: Mapping[str, Any]) -> Json:
    if definition["type"] != "function":
        raise ValueError(f"a tool of type {definition['type']} is the provider's own")
    function = definition.get("function", definition)
    kept = {key: function[key] for key in ("name", "description", "parameters") if key in function}
    return {"type": "function", "function": kept}


def _is_whole(answer: Message) -> bool:
    """Whether each call has a name and an object of arguments."""
    try:
        calls = [call["function"] for call in answer.get("tool_calls", ())]
        return all(call["name"] and isinstance(json.loads(call["arguments"]), dict) for call in calls)
    except ValueError:
        return False
