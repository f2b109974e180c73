"""What LangChain says about a call, as attributes of the GenAI conventions.

Pure functions from callback arguments to attribute tables; what LangChain does not say is left out.
LangChain has no schema for most of this: the names of a model's parameters differ by integration, and a
response's identity and usage may sit on the message, in `response_metadata`, in `generation_info` or in
`llm_output`. Each lookup tries its places in the order in which they are trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from tokenomics_plugin import semconv
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "Attributes",
    "estimated_usage",
    "finish_reason",
    "is_cache_hit",
    "known",
    "model_span_kind",
    "provider_name",
    "request_attributes",
    "response_attributes",
    "token_usage",
    "tool_attributes",
]

Attributes = dict[str, AttributeValue]

# LangChain's `ls_provider` -> the conventions' well-known value; the other providers' names agree.
_PROVIDERS: Final[Mapping[str, str]] = {
    "amazon_bedrock": "aws.bedrock",
    "anthropic-bedrock": "aws.bedrock",
    "anthropic-mantle": "aws.bedrock",
    "openai-mantle": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "openai-codex": "openai",
    "xai": "x_ai",
}
_IN_PROCESS_PROVIDERS: Final = frozenset({"local", "llamacpp", "mlx"})
_ADDRESSES: Final = ("base_url", "openai_api_base", "azure_endpoint", "anthropic_api_url", "endpoint_url")
_IDS: Final = ("id",)
_MODELS: Final = ("model_name", "model")
_FINISH_REASONS: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_CHARACTERS_A_TOKEN: Final = 4
# Ids that LangChain makes up when the provider gave none.
_GENERATED_ID_PREFIXES: Final = ("lc_", "run-")


def known(*pairs: tuple[str, AttributeValue | None]) -> Attributes:
    """An attribute table without the pairs whose value is unknown."""
    return {name: value for name, value in pairs if value is not None}


def model_span_kind(metadata: Mapping[str, Any]) -> SpanKind:
    """CLIENT, or INTERNAL for a model that runs inside this process."""
    return SpanKind.INTERNAL if metadata.get("ls_provider") in _IN_PROCESS_PROVIDERS else SpanKind.CLIENT


def request_attributes(
    operation: str,
    *,
    metadata: Mapping[str, Any],
    params: Mapping[str, Any],
    options: Mapping[str, Any],
    serialized: Mapping[str, Any],
) -> Attributes:
    """The request half of an inference span (conventions, inference, `gen_ai.request.*`).

    Args:
        operation: `gen_ai.operation.name`.
        metadata: The run's metadata, with LangChain's standard `ls_*` parameters.
        params: `invocation_params` of the start event, in the integration's own names.
        options: `options` of the start event.
        serialized: The serialized model.
    """
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: operation}
    attributes |= _converted(params, _PARAMETERS)
    attributes |= _converted(metadata, _STANDARD_PARAMETERS)  # last, for LangChain's standard parameters win
    if attributes.get(semconv.GEN_AI_REQUEST_CHOICE_COUNT) == 1:
        del attributes[semconv.GEN_AI_REQUEST_CHOICE_COUNT]
    if attributes.get(semconv.GEN_AI_REQUEST_STREAM) is False:
        del attributes[semconv.GEN_AI_REQUEST_STREAM]
    if (output_type := _output_type(params, options)) is not None:
        attributes[semconv.GEN_AI_OUTPUT_TYPE] = output_type
    if isinstance(settings := serialized.get("kwargs"), Mapping):
        attributes |= _server(settings)
    return attributes


def response_attributes(result: LLMResult) -> Attributes:
    """The response half of an inference span, but for the usage: id, model, finish reasons, a local model's cache."""
    generations = _generations(result)
    sources: list[Mapping[str, Any]] = []
    reasons: list[str] = []
    for generation in generations:
        told = _generation_sources(generation)
        sources += told
        if (reason := _first_text(told, _FINISH_REASONS)) is not None:
            reasons.append(reason)
    if result.llm_output:
        sources.append(result.llm_output)
    attributes: Attributes = {}
    if (response_id := _response_id(generations, sources)) is not None:
        attributes[semconv.GEN_AI_RESPONSE_ID] = response_id
    if (model := _first_text(sources, _MODELS)) is not None:
        attributes[semconv.GEN_AI_RESPONSE_MODEL] = model
    if reasons:
        attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = tuple(reasons)
    for source in reversed(sources):  # the first that says something wins
        attributes |= _converted(source, _LOCAL_CACHE)
    return attributes


def token_usage(result: LLMResult) -> TokenUsage | None:
    """What a call consumed; `None` when the integration does not say.

    Several choices of one call repeat the call's usage, so the first that carries it speaks for all.
    """
    for generation in _generations(result):
        if isinstance(generation, ChatGeneration) and (usage := getattr(generation.message, "usage_metadata", None)):
            return TokenUsage.from_langchain(usage)
    for raw in _lookup(_sources(result), "token_usage", "usage"):
        if isinstance(raw, Mapping) and (usage := _provider_usage(raw)) is not None:
            return usage
    return None


def is_cache_hit(result: LLMResult) -> bool:
    """Whether LangChain's own cache answered: it repeats the usage of the call that it remembers, at no cost."""
    for generation in _generations(result):
        usage = getattr(generation.message, "usage_metadata", None) if isinstance(generation, ChatGeneration) else None
        if usage and usage.get("total_cost") == 0:
            return True
    return False


def estimated_usage(reported: TokenUsage | None, streamed: Mapping[str, Any] | None, *, characters: int) -> TokenUsage:
    """The usage of a stream that broke off: what was reported of its input, and an estimate of its output.

    Args:
        reported: Usage of the partial response, if there is any.
        streamed: LangChain's usage of the first chunk that had one.
        characters: Length of the text that streamed out, at four characters a token.
    """
    if reported is None and streamed:
        reported = TokenUsage.from_langchain(streamed)
    input_tokens = None if reported is None else reported.input_tokens
    return TokenUsage.from_inclusive(
        input_tokens=input_tokens or None, output_tokens=-(-characters // _CHARACTERS_A_TOKEN)
    )


def finish_reason(generation: Generation) -> str | None:
    """Why the model stopped, in the provider's own word."""
    return _first_text(_generation_sources(generation), _FINISH_REASONS)


def tool_attributes(name: str | None, *, description: str | None, call_id: str | None) -> Attributes:
    """The attributes of a tool span that need no content (conventions, execute_tool)."""
    attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL}
    if name is not None:
        attributes[semconv.GEN_AI_TOOL_NAME] = name
    attributes[semconv.GEN_AI_TOOL_TYPE] = "function"
    if description and isinstance(description, str):
        attributes[semconv.GEN_AI_TOOL_DESCRIPTION] = description
    if call_id and isinstance(call_id, str):
        attributes[semconv.GEN_AI_TOOL_CALL_ID] = call_id
    return attributes


def _output_type(params: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    requested = params.get("response_format")
    if requested is None:
        requested = options.get("ls_structured_output_format")
    if requested is None:
        return None
    return "text" if isinstance(requested, Mapping) and requested.get("type") == "text" else "json"


def _server(settings: Mapping[str, Any]) -> Attributes:
    if (url := _first_text([settings], _ADDRESSES)) is None:
        return {}
    try:
        parts = urlsplit(url)
        return known((semconv.SERVER_ADDRESS, parts.hostname), (semconv.SERVER_PORT, parts.port))
    except ValueError:  # a port that is no number
        return {}


def _generations(result: LLMResult) -> Sequence[Any]:
    # One run is one prompt, so the outer list has one entry; a failed call may have none.
    return result.generations[0] if result.generations else ()


def _sources(result: LLMResult) -> list[Mapping[str, Any]]:
    sources = [source for generation in _generations(result) for source in _generation_sources(generation)]
    if result.llm_output:
        sources.append(result.llm_output)
    return sources


def _generation_sources(generation: Generation) -> list[Mapping[str, Any]]:
    sources: list[Mapping[str, Any]] = []
    if isinstance(generation, ChatGeneration) and (metadata := generation.message.response_metadata):
        sources.append(metadata)
    if info := generation.generation_info:
        sources.append(info)
    return sources


def _lookup(sources: Iterable[Mapping[str, Any]], *names: str) -> Iterable[Any]:
    return (source[name] for source in sources for name in names if name in source)


def _first_text(sources: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    for source in sources:
        for name in names:
            if isinstance(value := source.get(name), str) and value:
                return value
    return None


def _response_id(generations: Sequence[Any], sources: Iterable[Mapping[str, Any]]) -> str | None:
    if (given := _first_text(sources, _IDS)) is not None:
        return given
    for generation in generations:
        id_ = generation.message.id if isinstance(generation, ChatGeneration) else None
        if id_ and not id_.startswith(_GENERATED_ID_PREFIXES):
            return str(id_)
    return None


def _provider_usage(raw: Mapping[str, Any]) -> TokenUsage | None:
    if "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw:
        return TokenUsage.from_anthropic(raw)
    if "prompt_tokens" in raw or "input_tokens" in raw:
        return TokenUsage.from_openai(raw)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) or None if isinstance(value, list | tuple) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _double(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def provider_name(value: object) -> str | None:
    """LangChain's name of a provider as `gen_ai.provider.name`; `None` for what is no name."""
    name = _text(value)
    return None if name is None else _PROVIDERS.get(name, name)


def _converted(source: Mapping[str, Any], rules: _Rules) -> Attributes:
    """What a source says by the names of the rules, in their order."""
    attributes: Attributes = {}
    for name in filter(source.__contains__, rules):
        attribute, convert = rules[name]
        if (value := convert(source[name])) is not None:
            attributes[attribute] = value
    return attributes


_Rules = Mapping[str, tuple[str, Callable[[object], AttributeValue | None]]]

# The integrations' own names; where several mean the same, the later one wins.
_PARAMETERS: Final[_Rules] = {
    "model_id": (semconv.GEN_AI_REQUEST_MODEL, _text),
    "model_name": (semconv.GEN_AI_REQUEST_MODEL, _text),
    "model": (semconv.GEN_AI_REQUEST_MODEL, _text),
    "stream": (semconv.GEN_AI_REQUEST_STREAM, _flag),
    "n": (semconv.GEN_AI_REQUEST_CHOICE_COUNT, _integer),
    "seed": (semconv.GEN_AI_REQUEST_SEED, _integer),
    "max_new_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer),
    "max_output_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer),
    "max_completion_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer),
    "max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer),
    "temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, _double),
    "top_p": (semconv.GEN_AI_REQUEST_TOP_P, _double),
    "top_k": (semconv.GEN_AI_REQUEST_TOP_K, _integer),
    "frequency_penalty": (semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY, _double),
    "presence_penalty": (semconv.GEN_AI_REQUEST_PRESENCE_PENALTY, _double),
    "stop": (semconv.GEN_AI_REQUEST_STOP_SEQUENCES, _texts),
}
# What ChatLocalLLM says of its key-value cache.
_LOCAL_CACHE: Final[_Rules] = {
    "kv_cache": (semconv.KV_CACHE_KIND, _text),
    "kv_cache_bits_per_element": (semconv.KV_CACHE_BITS, _double),
    "kv_cache_bytes": (semconv.KV_CACHE_BYTES, _integer),
}
_STANDARD_PARAMETERS: Final[_Rules] = {
    "ls_provider": (semconv.GEN_AI_PROVIDER_NAME, provider_name),
    "ls_model_name": (semconv.GEN_AI_REQUEST_MODEL, _text),
    "ls_max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer),
    "ls_temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, _double),
    "ls_stop": (semconv.GEN_AI_REQUEST_STOP_SEQUENCES, _texts),
}
