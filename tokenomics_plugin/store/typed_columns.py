"""The columns that reports read, taken out of the spans' attributes once, on loading.

An attribute's value is already text here, so a number may have been sent as any type. What cannot be read
as the column's type counts as not sent, and the next earlier spelling of the name is tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from tokenomics_plugin import semconv
from tokenomics_plugin.store.columns import Column, bigints, doubles, texts

__all__ = ["TypedColumns"]

T = TypeVar("T")

_BIGINT: Final = range(-(2**63), 2**63)


def _count(text: str) -> int | None:
    """A count of tokens, also one that was sent as a double."""
    try:
        count = int(text)
    except ValueError:
        number = _number(text)
        if number is None or not number.is_integer():
            return None
        count = int(number)
    return count if count in _BIGINT else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class _Source(NamedTuple):
    attribute: str
    read: Callable[[str], Any]
    make: Column

    @property
    def spellings(self) -> tuple[str, ...]:
        return semconv.spellings(self.attribute)


_SOURCES: Final[Mapping[str, _Source]] = {
    "TaskId": _Source(semconv.TASK_ID, str, texts),
    "TaskGroup": _Source(semconv.TASK_GROUP, str, texts),
    "OperationName": _Source(semconv.GEN_AI_OPERATION_NAME, str, texts),
    "ProviderName": _Source(semconv.GEN_AI_PROVIDER_NAME, str, texts),
    "RequestModel": _Source(semconv.GEN_AI_REQUEST_MODEL, str, texts),
    "ResponseModel": _Source(semconv.GEN_AI_RESPONSE_MODEL, str, texts),
    "AgentName": _Source(semconv.GEN_AI_AGENT_NAME, str, texts),
    "ToolName": _Source(semconv.GEN_AI_TOOL_NAME, str, texts),
    "ConversationId": _Source(semconv.GEN_AI_CONVERSATION_ID, str, texts),
    "ErrorType": _Source(semconv.ERROR_TYPE, str, texts),
    "InputTokens": _Source(semconv.GEN_AI_USAGE_INPUT_TOKENS, _count, bigints),
    "OutputTokens": _Source(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, _count, bigints),
    "CacheReadInputTokens": _Source(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, _count, bigints),
    "CacheWriteInputTokens": _Source(semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, _count, bigints),
    "ReasoningOutputTokens": _Source(semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, _count, bigints),
    "TimeToFirstChunk": _Source(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, _number, doubles),
}
_NAMES: Final = [spelling for source in _SOURCES.values() for spelling in source.spellings]


class TypedColumns:
    """Collects the attributes of span after span, and makes columns of what reports read."""

    def __init__(self) -> None:
        self._rows: list[tuple[str | None, ...]] = []

    def add(self, attributes: Mapping[str, str]) -> None:
        """Take the attributes of the next span."""
        # Here and not by column: a moment later they have left the processor's cache, which costs twice as much.
        self._rows.append(tuple(map(attributes.get, _NAMES)))

    def columns(self) -> dict[str, pa.Array]:
        """A column for each name in `otel_traces`."""
        sent = dict(zip(_NAMES, zip(*self._rows, strict=True), strict=True))
        return {
            column: source.make(_first_readable([sent[name] for name in source.spellings], source.read))
            for column, source in _SOURCES.items()
        }


def _first_readable(spellings: Sequence[Sequence[str | None]], read: Callable[[str], T | None]) -> list[T | None]:
    today, *earlier = spellings
    values = [read(text) if text else None for text in today]
    for texts_sent in earlier:
        if any(texts_sent):
            values = [
                read(text) if value is None and text else value for value, text in zip(values, texts_sent, strict=True)
            ]
    return values
