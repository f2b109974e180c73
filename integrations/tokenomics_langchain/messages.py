"""Messages, tool arguments and documents as the GenAI conventions write them: JSON in one attribute.

Only used when the user asked for content. Messages are a list of `{role, parts}`, each part typed
(`text`, `tool_call`, `reasoning`, ...), as in the conventions' `gen-ai-input-messages.json` and
`gen-ai-output-messages.json`; a part that the schema does not know passes as it is, which the schema
allows. LangChain's own `content_blocks` do the work of reading the providers' formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.utils.function_calling import convert_to_openai_tool

from tokenomics_langchain.attributes import Attributes, finish_reason
from tokenomics_plugin import semconv

__all__ = [
    "documents_content",
    "input_content",
    "output_content",
    "prompt_content",
    "state_input_content",
    "state_output_content",
    "to_json",
    "tools_content",
]

Json = dict[str, Any]

_ROLES: Final[Mapping[str, str]] = {"human": "user", "ai": "assistant", "function": "tool"}
# The providers' words -> the conventions' enumeration; its other members are spelled the same.
_OUTPUT_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
}
_OF_FUNCTIONS: Final = ("name", "description", "parameters")
_TOOL_CALLS: Final = frozenset({"tool_call", "tool_call_chunk", "invalid_tool_call"})
# The schema requires a reason; LangChain does not always have one.
_UNKNOWN_FINISH_REASON: Final = "unknown"


def input_content(messages: Sequence[BaseMessage]) -> Attributes:
    """What was sent to a model: leading system messages are its instructions, the rest its input."""
    system = list(takewhile(lambda message: isinstance(message, SystemMessage), messages))
    content: Attributes = {semconv.GEN_AI_INPUT_MESSAGES: to_json([_message(m) for m in messages[len(system) :]])}
    if system:
        content[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = to_json([part for message in system for part in _parts(message)])
    return content


def prompt_content(prompts: Iterable[str]) -> Attributes:
    """What was sent to a text completion model."""
    messages = [{"role": "user", "parts": [_text_part(prompt)]} for prompt in prompts]
    return {semconv.GEN_AI_INPUT_MESSAGES: to_json(messages)}


def tools_content(tools: Any) -> Attributes:
    """The tools that a model was offered, in any provider's form; empty when there were none."""
    definitions = [_definition(tool) for tool in tools] if isinstance(tools, list | tuple) else []
    known_definitions = [definition for definition in definitions if definition is not None]
    return {semconv.GEN_AI_TOOL_DEFINITIONS: to_json(known_definitions)} if known_definitions else {}


def output_content(result: LLMResult) -> Attributes:
    """What a model answered, one message a choice; empty when a call failed before its first word."""
    choices = [_choice(choice) for choices in result.generations[:1] for choice in choices]
    return {semconv.GEN_AI_OUTPUT_MESSAGES: to_json(choices)} if choices else {}


def state_input_content(state: Any) -> Attributes:
    """The messages that a graph was given; empty for a graph without a `messages` channel."""
    messages = _state_messages(state)
    return input_content(messages) if messages else {}


def state_output_content(state: Any) -> Attributes:
    """A graph's answer: the last message, when the model wrote it.

    The state repeats the whole conversation, which the model calls below already carry.
    """
    messages = _state_messages(state)
    if not messages or not isinstance(messages[-1], AIMessage):
        return {}
    answer = ChatGeneration(message=messages[-1])
    return {semconv.GEN_AI_OUTPUT_MESSAGES: to_json([_choice(answer)])}


def documents_content(documents: Iterable[Document]) -> Attributes:
    """The retrieved documents, by id and score where they have them."""
    rows = [{"id": document.id, "score": document.metadata.get("score")} for document in documents]
    known_rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {semconv.GEN_AI_RETRIEVAL_DOCUMENTS: to_json(known_rows)}


def to_json(value: Any) -> str:
    """Any value as JSON; a message becomes its content, and what JSON does not know its `str`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_fallback)


def _definition(tool: Any) -> Json | None:
    """A tool as the conventions have it: `type` and `name`, of a function also what it is for and takes."""
    try:
        converted = convert_to_openai_tool(tool)
    except (AttributeError, KeyError, TypeError, ValueError):
        converted = dict(tool) if isinstance(tool, Mapping) else {}
    function = converted.get("function")
    if isinstance(function, Mapping) and "name" in function:
        return {"type": "function", **{key: function[key] for key in _OF_FUNCTIONS if key in function}}
    kind, name = converted.get("type"), converted.get("name")
    # A provider's own tool is known by its type; what else it is set to is none of its definition.
    return {"type": kind, "name": name or kind} if isinstance(kind, str) else None


def _fallback(value: Any) -> Any:
    return value.content if isinstance(value, BaseMessage) else str(value)


def _state_messages(state: Any) -> list[BaseMessage]:
    messages = state.get("messages") if isinstance(state, Mapping) else None
    return convert_to_messages(messages if isinstance(messages, list) else [messages]) if messages else []


def _choice(generation: Any) -> Json:
    reason = finish_reason(generation) or _UNKNOWN_FINISH_REASON
    message = _message(generation.message) if isinstance(generation, ChatGeneration) else _completion(generation.text)
    return message | {"finish_reason": _OUTPUT_FINISH_REASONS.get(reason, reason)}


def _completion(text: str) -> Json:
    return {"role": "assistant", "parts": [_text_part(text)]}


def _message(message: BaseMessage) -> Json:
    role = getattr(message, "role", None) or _ROLES.get(message.type, message.type)
    rendered: Json = {"role": role, "parts": _parts(message)}
    return rendered | {"name": message.name} if message.name else rendered


def _parts(message: BaseMessage) -> list[Json]:
    if isinstance(message, ToolMessage):
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
    blocks = [dict(block) for block in message.content_blocks]
    if isinstance(message, AIMessage):
        # The blocks leave out calls without an id and calls whose arguments did not parse.
        blocks = [block for block in blocks if block.get("type") not in _TOOL_CALLS]
        blocks += [{**call, "type": "tool_call"} for call in (*message.tool_calls, *message.invalid_tool_calls)]
    return [_part(block) for block in blocks]


def _part(block: Json) -> Json:
    convert = _PARTS.get(block.get("type", ""))
    return block if convert is None else convert(block)


def _text_part(text: str) -> Json:
    return {"type": "text", "content": text}


def _tool_call_part(block: Json) -> Json:
    return {"type": "tool_call", "id": block.get("id"), "name": block.get("name"), "arguments": block.get("args")}


def _media_part(block: Json) -> Json:
    about = {"modality": block["type"], "mime_type": block.get("mime_type")}
    if data := block.get("base64"):
        return {"type": "blob", "content": data} | about
    if url := block.get("url"):
        return {"type": "uri", "uri": url} | about
    return {"type": "file", "file_id": block.get("file_id")} | about


_PARTS: Final[Mapping[str, Callable[[Json], Json]]] = {
    "text": lambda block: _text_part(block.get("text", "")),
    "text-plain": lambda block: _text_part(block.get("text", "")),
    "reasoning": lambda block: {"type": "reasoning", "content": block.get("reasoning", "")},
    "tool_call": _tool_call_part,
    "image": _media_part,
    "audio": _media_part,
    "video": _media_part,
    "file": _media_part,
}
