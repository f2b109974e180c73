"""Spans of OpenInference: kinds, models, messages and token counts.

Source: OpenInference, `spec/semantic_conventions.md` and `spec/tool_calling.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from tokenomics_plugin import semconv
from tokenomics_plugin.importing.blocks import ToolCall, parsed_json
from tokenomics_plugin.importing.meaning import (
    Attributes,
    Meaning,
    Said,
    content,
    first,
    indexed,
    provider,
    text,
    tool_answer,
)
from tokenomics_plugin.importing.otlp import Attribute
from tokenomics_plugin.outcome import as_money
from tokenomics_plugin.usage import TokenUsage

__all__ = ["open_inference"]

_PARAMETERS: Final = {
    "temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, float),
    "top_p": (semconv.GEN_AI_REQUEST_TOP_P, float),
    "top_k": (semconv.GEN_AI_REQUEST_TOP_K, float),
    "max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, int),
    "max_completion_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, int),
    "seed": (semconv.GEN_AI_REQUEST_SEED, int),
}


def open_inference(name: str, attributes: Attributes, is_root: bool) -> Meaning:
    """The meaning of a span that names its `openinference.span.kind`."""
    kind = str(attributes["openinference.span.kind"]).upper()
    known = parsed_json(attributes.get("metadata"))
    about: dict[str, Any] = known if isinstance(known, dict) else {}
    node = text(attributes, "graph.node.id") or text(about, "langgraph_node")
    operation = _OPERATIONS.get(kind)
    if kind == "CHAIN":
        is_node = node is not None and node == name
        operation = _chain_operation(is_root, is_node)
    read = _READERS.get(kind)
    said = Meaning() if read is None else read(name, attributes)
    common = {
        semconv.GEN_AI_CONVERSATION_ID: text(attributes, "session.id") or text(about, "session_id", "thread_id"),
        semconv.NODE_NAME: node if operation == semconv.OPERATION_RUN_NODE else None,
    }
    return replace(
        said,
        operation=operation,
        attributes={**said.attributes, **common},
        usage=_usage(attributes),
    )


def _chain_operation(is_root: bool, is_node: bool) -> str | None:
    if is_node:
        return semconv.OPERATION_RUN_NODE
    return semconv.OPERATION_INVOKE_WORKFLOW if is_root else None


def _call(name: str, attributes: Attributes) -> Meaning:
    return Meaning(
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: provider(attributes.get("llm.provider"), attributes.get("llm.system")),
            semconv.GEN_AI_REQUEST_MODEL: text(attributes, "llm.request.model_name"),
            semconv.GEN_AI_RESPONSE_MODEL: text(
                attributes, "llm.response.model_name", "llm.model_name", "embedding.model_name"
            ),
            semconv.GEN_AI_RESPONSE_FINISH_REASONS: _listed(attributes.get("llm.finish_reason")),
            **_parameters(attributes.get("llm.invocation_parameters")),
        },
        cost=_money(attributes.get("llm.cost.total")),
        carried=_input(attributes),
        answer=[_message(said) for said in indexed(attributes, "llm.output_messages.")],
    )


def _agent(name: str, attributes: Attributes) -> Meaning:
    return Meaning(attributes={semconv.GEN_AI_AGENT_NAME: text(attributes, "agent.name") or name})


def _tool(name: str, attributes: Attributes) -> Meaning:
    answer = tool_answer(attributes.get("output.value"))
    return Meaning(
        attributes={
            semconv.GEN_AI_TOOL_NAME: text(attributes, "tool.name", "tool_call.function.name") or name,
            semconv.GEN_AI_TOOL_CALL_ID: text(attributes, "tool_call.id", "tool.id") or answer.call_id,
        },
        arguments=first(attributes, "tool_call.function.arguments", "tool.parameters", "input.value"),
        result=answer.text,
        is_error=answer.is_error,
    )


def _usage(attributes: Attributes) -> TokenUsage | None:
    """Its prompt count includes both cache counts, its completion count the reasoning.

    Versions differ: some left Anthropic's cached tokens out of the prompt (openinference #1429, #2414, #3734). Where
    the total tells that they were left out, they are added; where it does not, and they cannot be inside, the counts
    contradict each other.
    """
    names = ("prompt", "completion", "total", *map("prompt_details.{}".format, ("cache_read", "cache_input")))
    prompt, completion, total, read, cached = (_count(attributes, name) for name in names)
    read = cached if read is None else read
    written = _count(attributes, "prompt_details.cache_write")
    if prompt is None and completion is None:
        return None
    aside = (read or 0) + (written or 0)
    if prompt is not None and completion is not None and aside and total == prompt + completion + aside:
        prompt += aside
    return TokenUsage.from_inclusive(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count(attributes, "completion_details.reasoning"),
    )


def _count(attributes: Attributes, name: str) -> int | None:
    value = attributes.get(f"llm.token_count.{name}")
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    return int(value) if is_whole else None  # type: ignore[arg-type]  # a number, as was asked


def _input(attributes: Attributes) -> list[Said] | None:
    messages = [_message(said) for said in indexed(attributes, "llm.input_messages.")]
    prompts = [
        Said(role="user", content=content(said.get("prompt.text"))) for said in indexed(attributes, "llm.prompts.")
    ]
    definitions = [said.get("tool.json_schema") for said in indexed(attributes, "llm.tools.")]
    tools = [Said(role="tool definitions", content=list(filter(None, definitions)))] if definitions else []
    return [*tools, *messages, *prompts] or None


def _message(said: Attributes) -> Said:
    """A flattened message: `message.role`, `message.contents.0.message_content.text`, ..."""
    parts = [_part(part) for part in indexed(said, "message.contents.")]
    calls = tuple(
        ToolCall(
            id=call.get("tool_call.id"),
            name=str(call.get("tool_call.function.name", "")),
            arguments=parsed_json(call.get("tool_call.function.arguments")),
        )
        for call in indexed(said, "message.tool_calls.")
    )
    words = parts or content(said.get("message.content"))
    return Said(role=str(said.get("message.role", "user")), content=words, calls=calls)


def _part(part: Attributes) -> dict[str, Any]:
    said = {name.removeprefix("message_content."): value for name, value in part.items()}
    return {"type": "text", **said}


def _parameters(text: Any) -> dict[str, Attribute | None]:
    asked = parsed_json(text)
    if not isinstance(asked, dict):
        return {}
    return {
        attribute: kind(value)
        for name, (attribute, kind) in _PARAMETERS.items()
        if isinstance(value := asked.get(name), int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _listed(reason: Any) -> tuple[str, ...] | None:
    return (reason,) if isinstance(reason, str) and reason else None


def _money(amount: Any) -> Decimal | None:
    try:
        return as_money("cost", amount)
    except ValueError:
        return None


_OPERATIONS: Final = {
    "LLM": semconv.OPERATION_CHAT,
    "EMBEDDING": semconv.OPERATION_EMBEDDINGS,
    "TOOL": semconv.OPERATION_EXECUTE_TOOL,
    "AGENT": semconv.OPERATION_INVOKE_AGENT,
    "RETRIEVER": semconv.OPERATION_RETRIEVAL,
}
_READERS: Final[Mapping[str, Callable[[str, Attributes], Meaning]]] = {
    "LLM": _call,
    "EMBEDDING": _call,
    "TOOL": _tool,
    "AGENT": _agent,
}
