"""What a span of another instrumentation means, and the words to say it in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from tokenomics_plugin.importing.blocks import ToolCall, parsed_json
from tokenomics_plugin.importing.otlp import Attribute
from tokenomics_plugin.usage import TokenUsage

__all__ = [
    "Attributes",
    "Meaning",
    "Said",
    "ToolAnswer",
    "content",
    "first",
    "indexed",
    "provider",
    "text",
    "tool_answer",
]

Attributes = Mapping[str, Any]
"""The attributes of a span, values plain."""

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


def indexed(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """The objects of a flattened list, in the order of their indices: `prefix.0.name` and so on."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[len(prefix) :].partition(".")
            if index.isdecimal() and rest:
                found[int(index)][rest] = value
    return [found[index] for index in sorted(found)]


def text(attributes: Attributes, *names: str) -> str | None:
    """The first of several attributes that is a text and not empty."""
    return next((value for name in names if isinstance(value := attributes.get(name), str) and value), None)


def content(said: Any) -> Any:
    """What a message says: text, parts, or `None`; anything else as its text."""
    return said if said is None or isinstance(said, str | list) else str(said)


def first(attributes: Attributes, *names: str) -> Any:
    """The first of several attributes that is there; what its text says in JSON."""
    return next((parsed_json(value) for name in names if (value := attributes.get(name)) is not None), None)


def provider(*names: Any) -> str | None:
    """The first that names a provider and not a framework."""
    for name in names:
        if isinstance(name, str) and name and name.lower() not in _FRAMEWORKS:
            return _PROVIDERS.get(name.lower(), name.lower())
    return None


class ToolAnswer(NamedTuple):
    """What a tool answered."""

    text: str | None = None
    """Its words; `None` when the span does not say."""
    call_id: str | None = None
    """Id of the call that it answers."""
    is_error: bool = False
    """Whether it tells of an error."""


def tool_answer(output: Any) -> ToolAnswer:
    """What a tool answered, taken out of the message that LangChain wraps around it."""
    said = parsed_json(output)
    for wrapper in ("output", "data", "kwargs"):
        if isinstance(said, dict) and isinstance(said.get(wrapper), dict):
            said = said[wrapper]
    if isinstance(said, dict) and isinstance(said.get("content"), str):
        return ToolAnswer(str(said["content"]), text(said, "tool_call_id"), said.get("status") == "error")
    return ToolAnswer(output if isinstance(output, str) else None)
