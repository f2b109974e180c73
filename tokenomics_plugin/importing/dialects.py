"""What spans of other instrumentations mean, in the words of the GenAI conventions.

Instrumentations that came before the conventions say the same in attributes of their own: which span is a model
call, what it was asked, what the provider counted. A dialect is known by its mark on the span and not by the
provider, because one trace may hold several.

Sources: OpenInference, `spec/semantic_conventions.md`, `spec/tool_calling.md`; OpenLLMetry 0.40, LangSmith and OpenLIT
as their spans say it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

from tokenomics_plugin import semconv
from tokenomics_plugin.importing.blocks import ToolCall, parsed_json
from tokenomics_plugin.importing.otlp import Attribute
from tokenomics_plugin.outcome import as_money
from tokenomics_plugin.usage import TokenUsage

__all__ = ["Meaning", "Said", "is_content", "meaning"]

_Attributes = Mapping[str, Any]

_CONTENT: Final = frozenset(
    {
        "input.value",
        "output.value",
        "metadata",
        "llm.function_call",
        "llm.invocation_parameters",
        "tool.parameters",
        "tool_call.function.arguments",
        "inputs",
        "outputs",
        "exception.message",
        "exception.stacktrace",
        "gen_ai.prompt",
        "gen_ai.completion",
        "entity.input",
        "entity.output",
        "traceloop.entity.input",
        "traceloop.entity.output",
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_TOOL_CALL_ARGUMENTS,
        semconv.GEN_AI_TOOL_CALL_RESULT,
        semconv.GEN_AI_TOOL_DEFINITIONS,
        semconv.GEN_AI_RETRIEVAL_QUERY_TEXT,
        semconv.GEN_AI_RETRIEVAL_DOCUMENTS,
    }
)
_CONTENT_BELOW: Final = (
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts.",
    "llm.choices.",
    "llm.tools.",
    "llm.prompt_template.",
    "llm.request.functions.",
    "retrieval.documents.",
    "reranker.",
    "embedding.embeddings.",
    "embedding.text",
    "embedding.vector",
    "input.images.",
    "input.documents.",
    "output.images.",
    "gen_ai.prompt.",
    "gen_ai.completion.",
)
# Instrumentations of a framework name it where the provider belongs.
_FRAMEWORKS: Final = frozenset({"langchain", "langgraph", "llamaindex", "llama_index", "haystack", "crewai"})
# Names of OpenInference and of LangChain for what the conventions have well-known values for.
_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gen_ai",
    "google_vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
}
_PARAMETERS: Final = {
    "temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, float),
    "top_p": (semconv.GEN_AI_REQUEST_TOP_P, float),
    "top_k": (semconv.GEN_AI_REQUEST_TOP_K, float),
    "max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, int),
    "max_completion_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, int),
    "seed": (semconv.GEN_AI_REQUEST_SEED, int),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A message, as far as a dialect says it."""

    role: str
    """Who speaks."""
    content: Any = None
    """Text, parts, or `None`."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls that it asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What a span is, without regard to how it was said."""

    operation: str | None = None
    """`gen_ai.operation.name`; `None` for glue code and what nobody bills."""
    attributes: Mapping[str, Attribute | None] = field(default_factory=dict)
    """Attributes of the conventions; `None` where the dialect says nothing."""
    usage: TokenUsage | None = None
    """Tokens that the span names, its own or its children's."""
    cost: Decimal | None = None
    """USD that the span names."""
    carried: Sequence[Said] | None = None
    """Messages that a call sent; `None` when it does not say."""
    answer: Sequence[Said] = ()
    """Messages that it got."""
    arguments: Any = None
    """What a tool was given; `None` when it does not say."""
    result: str | None = None
    """What a tool answered."""
    is_error: bool = False
    """Whether that tells of an error."""


def meaning(name: str, attributes: _Attributes, *, is_root: bool) -> Meaning | None:
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


def is_content(name: str) -> bool:
    """Whether an attribute holds what users, models or tools said, in any of the dialects."""
    return name in _CONTENT or name.startswith(_CONTENT_BELOW)


def _open_inference(name: str, attributes: _Attributes, is_root: bool) -> Meaning:
    kind = str(attributes["openinference.span.kind"]).upper()
    known = parsed_json(attributes.get("metadata"))
    about: dict[str, Any] = known if isinstance(known, dict) else {}
    node = _text(attributes, "graph.node.id") or _text(about, "langgraph_node")
    operation = _OPEN_INFERENCE_OPERATIONS.get(kind)
    if kind == "CHAIN":
        is_node = node is not None and node == name
        operation = _chain_operation(is_root, is_node)
    read = _OPEN_INFERENCE_READERS.get(kind)
    said = Meaning() if read is None else read(name, attributes)
    common = {
        semconv.GEN_AI_CONVERSATION_ID: _text(attributes, "session.id") or _text(about, "session_id", "thread_id"),
        semconv.NODE_NAME: node if operation == semconv.OPERATION_RUN_NODE else None,
    }
    return replace(
        said,
        operation=operation,
        attributes={**said.attributes, **common},
        usage=_open_inference_usage(attributes),
    )


def _chain_operation(is_root: bool, is_node: bool) -> str | None:
    if is_node:
        return semconv.OPERATION_RUN_NODE
    return semconv.OPERATION_INVOKE_WORKFLOW if is_root else None


def _open_inference_call(name: str, attributes: _Attributes) -> Meaning:
    return Meaning(
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: _provider(attributes.get("llm.provider"), attributes.get("llm.system")),
            semconv.GEN_AI_REQUEST_MODEL: _text(attributes, "llm.request.model_name"),
            semconv.GEN_AI_RESPONSE_MODEL: _text(
                attributes, "llm.response.model_name", "llm.model_name", "embedding.model_name"
            ),
            semconv.GEN_AI_RESPONSE_FINISH_REASONS: _listed(attributes.get("llm.finish_reason")),
            **_parameters(attributes.get("llm.invocation_parameters")),
        },
        cost=_money(attributes.get("llm.cost.total")),
        carried=_open_inference_input(attributes),
        answer=[_message(said) for said in _indexed(attributes, "llm.output_messages.")],
    )


def _open_inference_agent(name: str, attributes: _Attributes) -> Meaning:
    return Meaning(attributes={semconv.GEN_AI_AGENT_NAME: _text(attributes, "agent.name") or name})


def _open_inference_tool(name: str, attributes: _Attributes) -> Meaning:
    answer = _tool_answer(attributes.get("output.value"))
    return Meaning(
        attributes={
            semconv.GEN_AI_TOOL_NAME: _text(attributes, "tool.name", "tool_call.function.name") or name,
            semconv.GEN_AI_TOOL_CALL_ID: _text(attributes, "tool_call.id", "tool.id") or answer.call_id,
        },
        arguments=_first(attributes, "tool_call.function.arguments", "tool.parameters", "input.value"),
        result=answer.text,
        is_error=answer.is_error,
    )


def _open_inference_usage(attributes: _Attributes) -> TokenUsage | None:
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


def _count(attributes: _Attributes, name: str) -> int | None:
    value = attributes.get(f"llm.token_count.{name}")
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    return int(value) if is_whole else None  # type: ignore[arg-type]  # a number, as was asked


def _open_inference_input(attributes: _Attributes) -> list[Said] | None:
    messages = [_message(said) for said in _indexed(attributes, "llm.input_messages.")]
    prompts = [Said(role="user", content=said.get("prompt.text")) for said in _indexed(attributes, "llm.prompts.")]
    definitions = [said.get("tool.json_schema") for said in _indexed(attributes, "llm.tools.")]
    tools = [Said(role="tool definitions", content=list(filter(None, definitions)))] if definitions else []
    return [*tools, *messages, *prompts] or None


def _message(said: _Attributes) -> Said:
    """A flattened message: `message.role`, `message.contents.0.message_content.text`, ..."""
    parts = [_part(part) for part in _indexed(said, "message.contents.")]
    calls = tuple(
        ToolCall(
            id=call.get("tool_call.id"),
            name=str(call.get("tool_call.function.name", "")),
            arguments=parsed_json(call.get("tool_call.function.arguments")),
        )
        for call in _indexed(said, "message.tool_calls.")
    )
    content = said.get("message.content")
    return Said(role=str(said.get("message.role", "user")), content=parts or content, calls=calls)


def _part(part: _Attributes) -> dict[str, Any]:
    said = {name.removeprefix("message_content."): value for name, value in part.items()}
    return {"type": "text", **said}


def _open_llmetry(name: str, attributes: _Attributes, is_root: bool) -> Meaning:
    kind = attributes.get("traceloop.span.kind") or attributes.get("span.kind")
    operation = _OPEN_LLMETRY_REQUESTS.get(attributes.get("llm.request.type")) or _OPEN_LLMETRY_KINDS.get(kind)
    entity = _text(attributes, "traceloop.entity.name", "entity.name")
    is_tool, is_agent = kind == "tool", kind == "agent"
    return Meaning(
        operation=operation,
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: _provider(
                *(attributes.get(spelling) for spelling in semconv.spellings(semconv.GEN_AI_PROVIDER_NAME))
            ),
            semconv.GEN_AI_TOOL_NAME: (entity or name) if is_tool else None,
            semconv.GEN_AI_AGENT_NAME: (entity or name) if is_agent else None,
            semconv.GEN_AI_WORKFLOW_NAME: _text(attributes, "traceloop.workflow.name", "workflow.name")
            if kind == "workflow"
            else None,
        },
        usage=_convention_usage(attributes),
        carried=[_turn(said) for said in _indexed(attributes, "gen_ai.prompt.")] or None,
        answer=[_turn(said) for said in _indexed(attributes, "gen_ai.completion.")],
        arguments=_first(attributes, "traceloop.entity.input", "entity.input") if is_tool else None,
        result=_tool_answer(_text(attributes, "traceloop.entity.output", "entity.output")).text if is_tool else None,
    )


def _turn(said: _Attributes) -> Said:
    """A flattened message of OpenLLMetry: `role`, `content`, `tool_calls.0.name`."""
    calls = tuple(
        ToolCall(id=call.get("id"), name=str(call.get("name", "")), arguments=parsed_json(call.get("arguments")))
        for call in _indexed(said, "tool_calls.")
    )
    return Said(role=str(said.get("role", "user")), content=said.get("content"), calls=calls)


def _lang_smith(name: str, attributes: _Attributes, is_root: bool) -> Meaning:
    kind = attributes["langsmith.span.kind"]
    operation = _LANG_SMITH_OPERATIONS.get(kind)
    if operation is None and kind == "chain" and is_root:
        operation = semconv.OPERATION_INVOKE_WORKFLOW
    details = parsed_json(attributes.get("langsmith.metadata.usage_metadata"))
    usage = TokenUsage.from_langchain(details) if isinstance(details, dict) else _convention_usage(attributes)
    return Meaning(
        operation=operation,
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: _provider(
                attributes.get("langsmith.metadata.ls_provider"), attributes.get("gen_ai.system")
            ),
            semconv.GEN_AI_TOOL_NAME: name if kind == "tool" else None,
            semconv.GEN_AI_CONVERSATION_ID: _text(
                attributes, "langsmith.trace.session_id", "langsmith.metadata.thread_id"
            ),
        },
        usage=usage,
        arguments=_first(attributes, "gen_ai.prompt", "inputs") if kind == "tool" else None,
        result=_tool_answer(_text(attributes, "gen_ai.completion", "outputs")).text if kind == "tool" else None,
    )


def _conventions(name: str, attributes: _Attributes, is_root: bool) -> Meaning:
    return Meaning(
        operation=attributes[semconv.GEN_AI_OPERATION_NAME],
        attributes={
            semconv.GEN_AI_PROVIDER_NAME: _provider(
                *(attributes.get(spelling) for spelling in semconv.spellings(semconv.GEN_AI_PROVIDER_NAME))
            )
        },
        usage=_convention_usage(attributes),
    )


_OPEN_INFERENCE_OPERATIONS: Final = {
    "LLM": semconv.OPERATION_CHAT,
    "EMBEDDING": semconv.OPERATION_EMBEDDINGS,
    "TOOL": semconv.OPERATION_EXECUTE_TOOL,
    "AGENT": semconv.OPERATION_INVOKE_AGENT,
    "RETRIEVER": semconv.OPERATION_RETRIEVAL,
}
_OPEN_INFERENCE_READERS: Final[Mapping[str, Callable[[str, _Attributes], Meaning]]] = {
    "LLM": _open_inference_call,
    "EMBEDDING": _open_inference_call,
    "TOOL": _open_inference_tool,
    "AGENT": _open_inference_agent,
}
_OPEN_LLMETRY_REQUESTS: Final[Mapping[Any, str]] = {
    "chat": semconv.OPERATION_CHAT,
    "completion": semconv.OPERATION_TEXT_COMPLETION,
    "embedding": semconv.OPERATION_EMBEDDINGS,
}
_OPEN_LLMETRY_KINDS: Final[Mapping[Any, str]] = {
    "agent": semconv.OPERATION_INVOKE_AGENT,
    "tool": semconv.OPERATION_EXECUTE_TOOL,
    "workflow": semconv.OPERATION_INVOKE_WORKFLOW,
}
_LANG_SMITH_OPERATIONS: Final[Mapping[Any, str]] = {
    "llm": semconv.OPERATION_CHAT,
    "tool": semconv.OPERATION_EXECUTE_TOOL,
    "retriever": semconv.OPERATION_RETRIEVAL,
    "embedding": semconv.OPERATION_EMBEDDINGS,
}
_DIALECTS: Final[Sequence[tuple[Callable[[_Attributes], bool], Callable[[str, _Attributes, bool], Meaning]]]] = (
    (lambda attributes: "langsmith.span.kind" in attributes, _lang_smith),
    (lambda attributes: "openinference.span.kind" in attributes, _open_inference),
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


def _indexed(attributes: _Attributes, prefix: str) -> list[dict[str, Any]]:
    """The objects of a flattened list, in the order of their indices: `prefix.0.name` and so on."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[len(prefix) :].partition(".")
            if index.isdecimal() and rest:
                found[int(index)][rest] = value
    return [found[index] for index in sorted(found)]


def _text(attributes: _Attributes, *names: str) -> str | None:
    return next((value for name in names if isinstance(value := attributes.get(name), str) and value), None)


def _first(attributes: _Attributes, *names: str) -> Any:
    return next((parsed_json(value) for name in names if (value := attributes.get(name)) is not None), None)


def _provider(*names: Any) -> str | None:
    """The first that names a provider and not a framework."""
    for name in names:
        if isinstance(name, str) and name and name.lower() not in _FRAMEWORKS:
            return _PROVIDERS.get(name.lower(), name.lower())
    return None


def _parameters(text: Any) -> dict[str, Attribute | None]:
    asked = parsed_json(text)
    if not isinstance(asked, dict):
        return {}
    return {
        attribute: kind(value)
        for name, (attribute, kind) in _PARAMETERS.items()
        if isinstance(value := asked.get(name), int | float) and not isinstance(value, bool)
    }


def _listed(reason: Any) -> tuple[str, ...] | None:
    return (reason,) if isinstance(reason, str) and reason else None


def _money(amount: Any) -> Decimal | None:
    try:
        return as_money("cost", amount)
    except ValueError:
        return None


def _convention_usage(attributes: _Attributes) -> TokenUsage | None:
    usage = TokenUsage.from_opentelemetry(attributes)
    return None if usage.input_tokens is None and usage.output_tokens is None else usage


class _ToolAnswer(NamedTuple):
    text: str | None = None
    call_id: str | None = None
    is_error: bool = False


def _tool_answer(output: Any) -> _ToolAnswer:
    """What a tool answered, taken out of the message that LangChain wraps around it."""
    said = parsed_json(output)
    for wrapper in ("output", "data", "kwargs"):
        if isinstance(said, dict) and isinstance(said.get(wrapper), dict):
            said = said[wrapper]
    if isinstance(said, dict) and isinstance(said.get("content"), str):
        return _ToolAnswer(str(said["content"]), _text(said, "tool_call_id"), said.get("status") == "error")
    return _ToolAnswer(output if isinstance(output, str) else None)
