"""What LangChain says about a call, as attributes of the GenAI conventions.

Pure functions from callback arguments to attribute tables; what LangChain does not say is left out.
LangChain has no schema for most of this: the names of a model's parameters differ by integration, and a
response's identity and usage may sit on the message, in `response_metadata`, in `generation_info` or in
`llm_output`. Each lookup tries its places in the order in which they are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
_MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
_ADDRESSES: Final = ("base_url", "openai_api_base", "azure_endpoint", "anthropic_api_url", "endpoint_url")
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
    address, port = _server(serialized)
    choices = _integer(params.get("n"))
    return known(
        (semconv.GEN_AI_OPERATION_NAME, operation),
        (semconv.GEN_AI_PROVIDER_NAME, _provider(metadata)),
        (semconv.GEN_AI_REQUEST_MODEL, _request_model(metadata, params)),
        (semconv.GEN_AI_REQUEST_STREAM, True if params.get("stream") is True else None),
        (semconv.GEN_AI_REQUEST_CHOICE_COUNT, None if choices == 1 else choices),
        (semconv.GEN_AI_REQUEST_SEED, _integer(params.get("seed"))),
        (semconv.GEN_AI_REQUEST_MAX_TOKENS, _integer(metadata.get("ls_max_tokens"), *map(params.get, _MAX_TOKENS))),
        (semconv.GEN_AI_REQUEST_TEMPERATURE, _double(metadata.get("ls_temperature"), params.get("temperature"))),
        (semconv.GEN_AI_REQUEST_TOP_P, _double(params.get("top_p"))),
        (semconv.GEN_AI_REQUEST_TOP_K, _integer(params.get("top_k"))),
        (semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY, _double(params.get("frequency_penalty"))),
        (semconv.GEN_AI_REQUEST_PRESENCE_PENALTY, _double(params.get("presence_penalty"))),
        (semconv.GEN_AI_REQUEST_STOP_SEQUENCES, _texts(metadata.get("ls_stop"), params.get("stop"))),
        (semconv.GEN_AI_OUTPUT_TYPE, _output_type(params, options)),
        (semconv.SERVER_ADDRESS, address),
        (semconv.SERVER_PORT, port),
    )


def response_attributes(result: LLMResult) -> Attributes:
    """The response half of an inference span, but for the usage: id, model and finish reasons."""
    generations = _generations(result)
    sources = list(_sources(result))
    reasons = tuple(reason for reason in map(finish_reason, generations) if reason is not None)
    return known(
        (semconv.GEN_AI_RESPONSE_ID, _response_id(generations, sources)),
        (semconv.GEN_AI_RESPONSE_MODEL, _text(*_lookup(sources, "model_name", "model"))),
        (semconv.GEN_AI_RESPONSE_FINISH_REASONS, reasons or None),
    )


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
    messages = (g.message for g in _generations(result) if isinstance(g, ChatGeneration))
    usages = (getattr(message, "usage_metadata", None) or {} for message in messages)
    return any(usage.get("total_cost") == 0 for usage in usages)


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
    return _text(*_lookup(_generation_sources(generation), *_FINISH_REASONS))


def tool_attributes(name: str | None, *, description: str | None, call_id: str | None) -> Attributes:
    """The attributes of a tool span that need no content (conventions, execute_tool)."""
    return known(
        (semconv.GEN_AI_OPERATION_NAME, semconv.OPERATION_EXECUTE_TOOL),
        (semconv.GEN_AI_TOOL_NAME, name),
        (semconv.GEN_AI_TOOL_TYPE, "function"),
        (semconv.GEN_AI_TOOL_DESCRIPTION, _text(description)),
        (semconv.GEN_AI_TOOL_CALL_ID, _text(call_id)),
    )


def _request_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    return _text(metadata.get("ls_model_name"), params.get("model"), params.get("model_name"), params.get("model_id"))


def _provider(metadata: Mapping[str, Any]) -> str | None:
    provider = _text(metadata.get("ls_provider"))
    return None if provider is None else _PROVIDERS.get(provider, provider)


def _output_type(params: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    requested = _first_known(params.get("response_format"), options.get("ls_structured_output_format"))
    if requested is None:
        return None
    return "text" if isinstance(requested, Mapping) and requested.get("type") == "text" else "json"


def _server(serialized: Mapping[str, Any]) -> tuple[str | None, int | None]:
    settings = serialized.get("kwargs")
    url = _text(*map(settings.get, _ADDRESSES)) if isinstance(settings, Mapping) else None
    if url is None:
        return None, None
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port
    except ValueError:  # a port that is no number
        return None, None


def _generations(result: LLMResult) -> list[Any]:
    # One run is one prompt, so the outer list has one entry; a failed call may have none.
    return list(result.generations[0]) if result.generations else []


def _sources(result: LLMResult) -> Iterable[Mapping[str, Any]]:
    for generation in _generations(result):
        yield from _generation_sources(generation)
    yield result.llm_output or {}


def _generation_sources(generation: Generation) -> Iterable[Mapping[str, Any]]:
    if isinstance(generation, ChatGeneration):
        yield generation.message.response_metadata
    yield generation.generation_info or {}


def _lookup(sources: Iterable[Mapping[str, Any]], *names: str) -> Iterable[Any]:
    return (source[name] for source in sources for name in names if name in source)


def _response_id(generations: list[Any], sources: Iterable[Mapping[str, Any]]) -> str | None:
    messages = (generation.message.id for generation in generations if isinstance(generation, ChatGeneration))
    given = (id_ for id_ in messages if id_ and not id_.startswith(_GENERATED_ID_PREFIXES))
    return _text(*_lookup(sources, "id"), *given)


def _provider_usage(raw: Mapping[str, Any]) -> TokenUsage | None:
    if "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw:
        return TokenUsage.from_anthropic(raw)
    if "prompt_tokens" in raw or "input_tokens" in raw:
        return TokenUsage.from_openai(raw)
    return None


def _first_known(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _text(*candidates: Any) -> str | None:
    return next((value for value in candidates if isinstance(value, str) and value), None)


def _texts(*candidates: Any) -> tuple[str, ...] | None:
    value = _first_known(*candidates)
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) or None if isinstance(value, list | tuple) else None


def _integer(*candidates: Any) -> int | None:
    return next((value for value in candidates if isinstance(value, int) and not isinstance(value, bool)), None)


def _double(*candidates: Any) -> float | None:
    numbers = (value for value in candidates if isinstance(value, int | float) and not isinstance(value, bool))
    return next(map(float, numbers), None)
