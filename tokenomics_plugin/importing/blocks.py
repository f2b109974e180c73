"""Messages of a foreign log as context blocks: hashed, measured, and forgotten.

The hash of a message is made of the same parts as that of a traced one, so that under one key an imported
conversation and a traced one compare.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.fingerprint import Fingerprinter, FingerprintKeys, canonical

__all__ = ["ToolCall", "arguments_fingerprint", "message_block", "parsed_json", "process_keys"]

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Content parts whose size says something about their tokens.
_TEXTUAL: Final = frozenset(
    {"text", "input_text", "output_text", "reasoning", "thinking", "refusal", "tool_use", "tool_result"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """What a model asked for."""

    id: str | None
    """The provider's id of the call; `None` when the log gives none."""
    name: str
    """The tool."""
    arguments: Any
    """As values where they are JSON, else the text itself."""


@cache
def process_keys() -> FingerprintKeys:
    """The keys of the environment, and without a secret there those of this process: the same for all its files."""
    return FingerprintKeys.from_environment()


def message_block(
    fingerprinter: Fingerprinter,
    role: str,
    content: Any,
    calls: Sequence[ToolCall] = (),
    *,
    tokens: int | None = None,
    producer: str | None = None,
) -> ContextBlock:
    """The block of one message.

    Args:
        fingerprinter: The key.
        role: As the log says it.
        content: Text, a list of parts as they came, or `None` for none.
        calls: What it asks for.
        tokens: What the provider counted for this message.
        producer: Span id of what produced it, 16 hex digits.
    """
    known = _ROLES.get(role, "other")
    author = role if known == "other" else known
    text = "" if content is None else content
    body = _encoded(text)
    asked = _encoded([[call.name, call.arguments, call.id] for call in calls]) if calls else b""
    if body is None or asked is None:  # too deep to be written in one way
        return ContextBlock(hash=fingerprinter.unlike_any(), role=known, tokens=tokens, producer=producer)
    return ContextBlock(
        hash=fingerprinter.of(author, "text" if isinstance(text, str) else "blocks", body, asked),
        role=known,
        size=len(body) + len(asked) if _is_text(text) else None,
        tokens=tokens,
        producer=producer,
    )


def arguments_fingerprint(fingerprinter: Fingerprinter, arguments: Any) -> str | None:
    """The fingerprint of a tool's arguments, as tracing makes it; `None` when they are too many to compare."""
    text = canonical(arguments)
    return None if text is None else fingerprinter.of("value", text)


def parsed_json(text: Any) -> Any:
    """What a text says in JSON, else the text; anything but a text as it is."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _encoded(content: Any) -> bytes | None:
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return canonical(content, max_leaves=sys.maxsize, max_characters=sys.maxsize)


def _is_text(content: Any) -> bool:
    parts = [content] if isinstance(content, str) else content
    return all(isinstance(part, str) or _kind(part) in _TEXTUAL for part in parts)


def _kind(part: Any) -> str | None:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else None
