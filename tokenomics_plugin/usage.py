"""Token counts in disjoint classes, from the conventions that providers and frameworks use.

Providers disagree on what `input_tokens` means: OpenAI, OpenTelemetry and LangChain include cached
tokens, Anthropic's own API leaves them out. Adding the fields blindly misprices the same request by up
to several hundred percent, so each convention has its own constructor and the result has one meaning.

Unknown is `None`, which is not 0. Counts that contradict each other are kept as they came and flagged in
`TokenUsage.inconsistencies`; nothing is repaired silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenomics_plugin import semconv

__all__ = ["TokenUsage"]

_CLASSES = (
    "fresh_input_tokens",
    "cache_write_tokens",
    "cache_read_tokens",
    "visible_output_tokens",
    "reasoning_tokens",
)
_TOTALS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
# LangChain's OpenAI package puts the service tier before the names of the parts; its Anthropic package sets the
# count of cache writes to 0 where it also gives them by their time to live.
_SERVICE_TIERS = ("", "flex_", "priority_")
_LANGCHAIN_CACHE_READS = tuple(f"{tier}cache_read" for tier in _SERVICE_TIERS)
_LANGCHAIN_CACHE_WRITES = (
    *(f"{tier}cache_creation" for tier in _SERVICE_TIERS),
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
_LANGCHAIN_REASONING = tuple(f"{tier}reasoning" for tier in _SERVICE_TIERS)


@dataclass(frozen=True, kw_only=True)
class TokenUsage:
    """What one model call consumed, in classes that do not overlap: their sum is the whole."""

    fresh_input_tokens: int | None = None
    """Input read at the full price: neither written to nor read from the provider's cache."""
    cache_write_tokens: int | None = None
    """Input that was also stored in the provider's prompt cache."""
    cache_read_tokens: int | None = None
    """Input served from the provider's prompt cache."""
    visible_output_tokens: int | None = None
    """Output that the caller sees."""
    reasoning_tokens: int | None = None
    """Output spent on hidden reasoning."""
    inconsistencies: tuple[str, ...] = ()
    """Contradictions in the source's counts, one sentence each; empty when they add up."""

    def __post_init__(self) -> None:
        # Nearly always nothing is wrong, and reports make millions of these.
        for value in (
            self.fresh_input_tokens,
            self.cache_write_tokens,
            self.cache_read_tokens,
            self.visible_output_tokens,
            self.reasoning_tokens,
        ):
            if value is not None and (type(value) is not int or value < 0):
                self._check()

    def _check(self) -> None:
        for name in _CLASSES:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int or None (unknown), got {value!r}")
            if value < 0 and not self.inconsistencies:
                raise ValueError(f"{name} must not be negative, got {value}; use None when the count is unknown")

    @classmethod
    def from_inclusive(
        cls,
        *,
        input_tokens: int | None,
        output_tokens: int | None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> TokenUsage:
        """Split totals that include their parts (OpenTelemetry GenAI, OpenAI, Gemini, LangChain).

        An absent part of a present total counts as 0: these conventions omit a class that did not occur.
        """
        problems = _contradictions(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
        fresh, visible = input_tokens, output_tokens
        if input_tokens is not None:
            cache_read_tokens, cache_write_tokens = cache_read_tokens or 0, cache_write_tokens or 0
            fresh = input_tokens - cache_read_tokens - cache_write_tokens
        if output_tokens is not None:
            reasoning_tokens = reasoning_tokens or 0
            visible = output_tokens - reasoning_tokens
        return cls(
            fresh_input_tokens=fresh,
            cache_write_tokens=cache_write_tokens,
            cache_read_tokens=cache_read_tokens,
            visible_output_tokens=visible,
            reasoning_tokens=reasoning_tokens,
            inconsistencies=problems,
        )

    @classmethod
    def from_opentelemetry(cls, attributes: Mapping[str, Any]) -> TokenUsage:
        """Read `gen_ai.usage.*` of a span, in today's spelling or an earlier one (semconv-genai, usage)."""
        return cls.from_inclusive(
            input_tokens=_attribute(attributes, semconv.GEN_AI_USAGE_INPUT_TOKENS),
            output_tokens=_attribute(attributes, semconv.GEN_AI_USAGE_OUTPUT_TOKENS),
            cache_read_tokens=_attribute(attributes, semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
            cache_write_tokens=_attribute(attributes, semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS),
            reasoning_tokens=_attribute(attributes, semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS),
        )

    @classmethod
    def from_langchain(cls, usage_metadata: Mapping[str, Any]) -> TokenUsage:
        """Read `AIMessage.usage_metadata`: totals, with `input_token_details` and `output_token_details`."""
        inputs = usage_metadata.get("input_token_details") or {}
        outputs = usage_metadata.get("output_token_details") or {}
        return cls.from_inclusive(
            input_tokens=_count(usage_metadata, "input_tokens"),
            output_tokens=_count(usage_metadata, "output_tokens"),
            cache_read_tokens=_total(inputs, _LANGCHAIN_CACHE_READS) if inputs else None,
            cache_write_tokens=_total(inputs, _LANGCHAIN_CACHE_WRITES) if inputs else None,
            reasoning_tokens=_total(outputs, _LANGCHAIN_REASONING) if outputs else None,
        )

    @classmethod
    def from_openai(cls, usage: Mapping[str, Any]) -> TokenUsage:
        """Read OpenAI's `usage`, of Chat Completions (`prompt_tokens`) or of Responses (`input_tokens`)."""
        responses_api = "input_tokens" in usage
        prefix_in, prefix_out = ("input", "output") if responses_api else ("prompt", "completion")
        inputs = usage.get(f"{prefix_in}_tokens_details") or {}
        outputs = usage.get(f"{prefix_out}_tokens_details") or {}
        return cls.from_inclusive(
            input_tokens=_count(usage, f"{prefix_in}_tokens"),
            output_tokens=_count(usage, f"{prefix_out}_tokens"),
            cache_read_tokens=_count(inputs, "cached_tokens"),
            cache_write_tokens=_count(inputs, "cache_write_tokens"),
            reasoning_tokens=_count(outputs, "reasoning_tokens"),
        )

    @classmethod
    def from_anthropic(cls, usage: Mapping[str, Any]) -> TokenUsage:
        """Read the raw Anthropic API's `usage`: `input_tokens` already leaves out both cache fields."""
        fresh = _count(usage, "input_tokens")
        read, write = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
        total = None if fresh is None else fresh + (read or 0) + (write or 0)
        return cls.from_inclusive(
            input_tokens=total,
            output_tokens=_count(usage, "output_tokens"),
            cache_read_tokens=read,
            cache_write_tokens=write,
            reasoning_tokens=_count(usage.get("output_tokens_details") or {}, "thinking_tokens"),
        )

    @property
    def input_tokens(self) -> int | None:
        """All input, cached or not, as OpenTelemetry counts it; `None` when any of it is unknown."""
        fresh, written, read = self.fresh_input_tokens, self.cache_write_tokens, self.cache_read_tokens
        return None if fresh is None or written is None or read is None else fresh + written + read

    @property
    def output_tokens(self) -> int | None:
        """All output, reasoning included, as OpenTelemetry counts it; `None` when any of it is unknown."""
        visible, reasoning = self.visible_output_tokens, self.reasoning_tokens
        return None if visible is None or reasoning is None else visible + reasoning

    @property
    def total_tokens(self) -> int | None:
        """Input and output together; `None` when any of it is unknown."""
        return _sum(self.input_tokens, self.output_tokens)

    @property
    def is_consistent(self) -> bool:
        """Whether the source's counts add up: only then may ratios be built on them."""
        return not self.inconsistencies

    def __add__(self, other: TokenUsage) -> TokenUsage:
        """Add class by class; a class unknown on either side is unknown in the sum."""
        return TokenUsage(
            **{name: _sum(getattr(self, name), getattr(other, name)) for name in _CLASSES},
            inconsistencies=tuple(dict.fromkeys(self.inconsistencies + other.inconsistencies)),
        )

    def to_attributes(self) -> dict[str, int | str]:
        """The `gen_ai.usage.*` attributes of an inference span; unknown counts are left out.

        So are parts of 0: the conventions omit a class that did not occur, and `from_opentelemetry` reads it as 0.
        """
        attributes: dict[str, int | str] = {}
        if (input_tokens := self.input_tokens) is not None:
            attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] = input_tokens
        if (output_tokens := self.output_tokens) is not None:
            attributes[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] = output_tokens
        if self.cache_read_tokens:
            attributes[semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = self.cache_read_tokens
        if self.cache_write_tokens:
            attributes[semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS] = self.cache_write_tokens
        if self.reasoning_tokens:
            attributes[semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] = self.reasoning_tokens
        if self.inconsistencies:
            attributes[semconv.USAGE_INCONSISTENT] = "; ".join(self.inconsistencies)
        return attributes


ZERO = TokenUsage(**dict.fromkeys(_CLASSES, 0))  # type: ignore[arg-type]  # the names are checked by __init__
"""No tokens at all: the start of a sum."""


def _sum(*counts: int | None) -> int | None:
    return None if None in counts else sum(counts)  # type: ignore[arg-type]  # none of them is None


def _count(source: Mapping[str, Any], name: str) -> int | None:
    value = source.get(name)
    if type(value) is int:
        return value
    if value is None or isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _total(source: Mapping[str, Any], names: Sequence[str]) -> int | None:
    counts = [count for name in names if (count := _count(source, name)) is not None]
    return sum(counts) if counts else None


def _attribute(attributes: Mapping[str, Any], name: str) -> int | None:
    for spelling in semconv.spellings(name):
        if (count := _count(attributes, spelling)) is not None:
            return count
    return None


def _contradictions(
    input_tokens: int | None,
    output_tokens: int | None,
    cache_read_tokens: int | None,
    cache_write_tokens: int | None,
    reasoning_tokens: int | None,
) -> tuple[str, ...]:
    parts = cache_read_tokens or cache_write_tokens or reasoning_tokens
    if not parts and (input_tokens or 0) >= 0 and (output_tokens or 0) >= 0:
        return ()
    counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
    problems = [
        f"{name}={count} is negative"
        for name, count in zip(_TOTALS, counts, strict=True)
        if count is not None and count < 0
    ]
    cached = (cache_read_tokens or 0) + (cache_write_tokens or 0)
    if input_tokens is not None and cached > input_tokens:
        problems.append(f"cached tokens ({cached}) exceed input_tokens ({input_tokens})")
    if output_tokens is not None and (reasoning_tokens or 0) > output_tokens:
        problems.append(f"reasoning_tokens ({reasoning_tokens}) exceed output_tokens ({output_tokens})")
    return tuple(problems)
