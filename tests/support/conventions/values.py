"""Whether a value is of an attribute's type, and whether content has the structure of the conventions' JSON schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from conventions import tables

__all__ = ["problems_of_value"]

_SIMPLE: Final[Mapping[str, type]] = {
    tables.STRING: str,
    tables.INT: int,
    tables.DOUBLE: float,
    tables.BOOLEAN: bool,
}
# Part type -> keys that must be there, and their types; `None` for any.
_PARTS: Final[Mapping[str, Mapping[str, type | None]]] = {
    "text": {"content": str},
    "reasoning": {"content": str},
    "tool_call": {"name": str},
    "tool_call_response": {"response": None},
    "blob": {"modality": str, "content": str},
    "uri": {"modality": str, "uri": str},
    "file": {"modality": str, "file_id": str},
}
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


def problems_of_value(kind: str, value: object) -> Iterator[str]:
    """What keeps a value from being of a kind of `tables`; nothing, if it is."""
    if kind in _SIMPLE:
        if type(value) is not _SIMPLE[kind]:
            yield f"is a {type(value).__name__} and not a {kind}"
    elif kind == tables.STRINGS:
        if not isinstance(value, list | tuple) or not all(type(item) is str for item in value):
            yield "is not an array of strings"
    elif kind in _STRUCTURES:
        yield from _problems_of_json(kind, value)


def _problems_of_json(kind: str, value: object) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"is a {type(value).__name__} and not JSON text"
        return
    try:
        content = json.loads(value)
    except ValueError:
        yield "is not JSON"
        return
    if not isinstance(content, list):
        yield "is not a list"
        return
    for item in content:
        if isinstance(item, dict):
            yield from _STRUCTURES[kind](item)
        else:
            yield f"holds a {type(item).__name__} and not an object"


def _input_message(message: dict[str, Any]) -> Iterator[str]:
    if message.get("role") not in _ROLES:
        yield f"has a message with the role {message.get('role')!r}"
    if not isinstance(message.get("parts"), list):
        yield "has a message without parts"
    else:
        for part in message["parts"]:
            yield from _part(part)


def _output_message(message: dict[str, Any]) -> Iterator[str]:
    yield from _input_message(message)
    if not isinstance(message.get("finish_reason"), str):
        yield "has a choice without a finish_reason"


def _part(part: Any) -> Iterator[str]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        yield "has a part without a type"
        return
    for key, kind in _PARTS.get(part["type"], {}).items():
        if key not in part or (kind is not None and not isinstance(part[key], kind)):
            yield f"has a {part['type']} part whose {key} is missing or of another type"


def _tool(tool: dict[str, Any]) -> Iterator[str]:
    if not all(isinstance(tool.get(key), str) for key in ("type", "name")):
        yield "has a tool without type or name"


def _document(document: dict[str, Any]) -> Iterator[str]:
    if not set(document) <= {"id", "score", "content", "metadata"}:
        yield f"has a document with {', '.join(sorted(document))}"


_STRUCTURES: Final[Mapping[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    tables.INPUT: _input_message,
    tables.OUTPUT: _output_message,
    tables.PARTS: _part,
    tables.TOOLS: _tool,
    tables.DOCUMENTS: _document,
}
