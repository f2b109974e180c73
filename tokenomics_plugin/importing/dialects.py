"""Which dialect a span speaks, and what it means in it.

Instrumentations that came before the GenAI conventions say the same in attributes of their own: which span is a
model call, what it was asked, what the provider counted. A dialect is known by its mark on the span and not by the
provider, because one trace may hold several. OpenLLMetry, LangSmith and OpenLIT are read as their spans of 2025 are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

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
from tokenomics_plugin.importing.openinference_spans import open_inference
from tokenomics_plugin.usage import TokenUsage

__all__ = ["meaning"]


def meaning(name: str, attributes: Attributes, *, is_root: bool) -> Meaning | None:
    """The meaning of a span; `None` for one that says nothing of models, tools or agents.

    Args:
        name: Name of the span.
        attributes: Its attributes, values plain.
        is_root: Whether it has no parent.
    """
    for has_mark, read in _DIALECTS:
        if has_mark(attributes):
            return read(name, attributes, is_root)
    return None


def _open_llmetry(name: str, attributes: Attributes, is_root: bool) -> Meaning:
    kind = text(attributes, "traceloop.span.kind", "span.kind")
    operation = _OPEN_LLMETRY_REQUESTS.get(text(attributes, "llm.request.type")) or _OPEN_LLMETRY_KINDS.get(kind)
    entity = text(attributes, "traceloop.entity.name", "entity.name")
    is_tool, is_agent = kind == "tool", kind == "agent"
    return Meaning(
        operation=operation,
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: provider(
                *(attributes.get(spelling) for spelling in semconv.spellings(semconv.GEN_AI_PROVIDER_NAME))
            ),
            semconv.GEN_AI_TOOL_NAME: (entity or name) if is_tool else None,
            semconv.GEN_AI_AGENT_NAME: (entity or name) if is_agent else None,
            semconv.GEN_AI_WORKFLOW_NAME: text(attributes, "traceloop.workflow.name", "workflow.name")
            if kind == "workflow"
            else None,
        },
        usage=_convention_usage(attributes),
        carried=[_turn(said) for said in indexed(attributes, "gen_ai.prompt.")] or None,
        answer=[_turn(said) for said in indexed(attributes, "gen_ai.completion.")],
        arguments=first(attributes, "traceloop.entity.input", "entity.input") if is_tool else None,
        result=tool_answer(text(attributes, "traceloop.entity.output", "entity.output")).text if is_tool else None,
    )


def _turn(said: Attributes) -> Said:
    """A flattened message of OpenLLMetry: `role`, `content`, `tool_calls.0.name`."""
    calls = tuple(
        ToolCall(id=call.get("id"), name=str(call.get("name", "")), arguments=parsed_json(call.get("arguments")))
        for call in indexed(said, "tool_calls.")
    )
    return Said(role=str(said.get("role", "user")), content=content(said.get("content")), calls=calls)


def _lang_smith(name: str, attributes: Attributes, is_root: bool) -> Meaning:
    kind = text(attributes, "langsmith.span.kind")
    operation = _LANG_SMITH_OPERATIONS.get(kind)
    if operation is None and kind == "chain" and is_root:
        operation = semconv.OPERATION_INVOKE_WORKFLOW
    details = parsed_json(attributes.get("langsmith.metadata.usage_metadata"))
    usage = TokenUsage.from_langchain(details) if isinstance(details, dict) else _convention_usage(attributes)
    return Meaning(
        operation=operation,
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: provider(
                attributes.get("langsmith.metadata.ls_provider"), attributes.get("gen_ai.system")
            ),
            semconv.GEN_AI_TOOL_NAME: name if kind == "tool" else None,
            semconv.GEN_AI_CONVERSATION_ID: text(
                attributes, "langsmith.trace.session_id", "langsmith.metadata.thread_id"
            ),
        },
        usage=usage,
        arguments=first(attributes, "gen_ai.prompt", "inputs") if kind == "tool" else None,
        result=tool_answer(text(attributes, "gen_ai.completion", "outputs")).text if kind == "tool" else None,
    )


def _conventions(name: str, attributes: Attributes, is_root: bool) -> Meaning:
    return Meaning(
        operation=text(attributes, semconv.GEN_AI_OPERATION_NAME),
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: provider(
                *(attributes.get(spelling) for spelling in semconv.spellings(semconv.GEN_AI_PROVIDER_NAME))
            )
        },
        usage=_convention_usage(attributes),
    )


def _convention_usage(attributes: Attributes) -> TokenUsage | None:
    usage = TokenUsage.from_opentelemetry(attributes)
    return None if usage.input_tokens is None and usage.output_tokens is None else usage


_OPEN_LLMETRY_REQUESTS: Final[Mapping[str | None, str]] = {
    "chat": semconv.OPERATION_CHAT,
    "completion": semconv.OPERATION_TEXT_COMPLETION,
    "embedding": semconv.OPERATION_EMBEDDINGS,
}
_OPEN_LLMETRY_KINDS: Final[Mapping[str | None, str]] = {
    "agent": semconv.OPERATION_INVOKE_AGENT,
    "tool": semconv.OPERATION_EXECUTE_TOOL,
    "workflow": semconv.OPERATION_INVOKE_WORKFLOW,
}
_LANG_SMITH_OPERATIONS: Final[Mapping[str | None, str]] = {
    "llm": semconv.OPERATION_CHAT,
    "tool": semconv.OPERATION_EXECUTE_TOOL,
    "retriever": semconv.OPERATION_RETRIEVAL,
    "embedding": semconv.OPERATION_EMBEDDINGS,
}
_DIALECTS: Final[Sequence[tuple[Callable[[Attributes], bool], Callable[[str, Attributes, bool], Meaning]]]] = (
    (lambda attributes: "langsmith.span.kind" in attributes, _lang_smith),
    (lambda attributes: "openinference.span.kind" in attributes, open_inference),
    (
        lambda attributes: (
            "traceloop.span.kind" in attributes
            or "llm.request.type" in attributes
            or ("span.kind" in attributes and "entity.name" in attributes)
        ),
        _open_llmetry,
    ),
    # OpenLIT writes the conventions' own names, as everyone does who came later.
    (lambda attributes: semconv.GEN_AI_OPERATION_NAME in attributes, _conventions),
)
