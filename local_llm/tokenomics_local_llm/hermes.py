"""Tool calls as text, in the Hermes format that most open chat models are trained on.

    <tool_call>
    {"name": "add", "arguments": {"a": 1, "b": 2}}
    </tool_call>

Everything about the format is here: the instructions for models whose chat template has none, the grammar
that forces a call, and the parser that finds calls in a text (https://github.com/NousResearch/Hermes-Function-Calling).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ToolCall", "ToolCallParser", "grammar", "render_call", "render_response", "system_text"]

Json = Mapping[str, Any]

_OPEN: Final = "<tool_call>"
_CLOSE: Final = "</tool_call>"
# As `json.dumps` writes it, which is what models saw most; free white space would let a small model dwell in it.
_LAYOUT: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

# Text in which every double quote has its partner; atomic, so that it cannot backtrack.
_COMPLETE_STRINGS: Final = re.compile(r'(?>[^"]|"(?>[^"\\]|\\.)*+")*+', re.DOTALL)

_INSTRUCTIONS: Final = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call that the model wrote, or what began like one."""

    text: str
    """As the model wrote it, from the opening tag on."""
    name: str | None = None
    arguments: dict[str, Any] | None = None
    """`None` when the text is no call: not JSON, without a name, or cut off."""

    @property
    def is_valid(self) -> bool:
        """Whether there is a name and arguments to call it with."""
        return self.arguments is not None


def system_text(tools: Sequence[Json]) -> str:
    """The instructions for these tools, which are in OpenAI's format."""
    return _INSTRUCTIONS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def render_call(name: str, arguments: Json) -> str:
    """A call as the model writes it."""
    return f"{_OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{_CLOSE}"


def render_response(content: str) -> str:
    """A tool's result as the model reads it."""
    return f"<tool_response>\n{content}\n</tool_response>"


def grammar(tools: Sequence[Json] = (), *, answer: Json | None = None, parallel: bool = False) -> str:
    """A grammar under which nothing but a valid call, or a valid answer, can be written.

    Args:
        tools: In OpenAI's format; a call names one of them, with arguments valid against its parameters.
        answer: JSON schema of an answer that is no call; `None` allows calls only.
        parallel: Whether several calls may follow one another.

    Raises:
        ValueError: If there is neither a tool nor an answer.
    """
    if not tools and answer is None:
        raise ValueError("a grammar needs a tool to call or the schema of an answer, got neither")
    calls = [f"call_{i}" for i in range(len(tools))]
    choices = ['call (("\\n" call)*)' if parallel else "call"] * bool(tools) + ["answer"] * (answer is not None)
    rules = ["%llguidance {}", f"start: {' | '.join(choices)}"]
    rules += [f"call: {' | '.join(calls)}"] * bool(tools)
    for call, tool in zip(calls, tools, strict=True):
        rules += _call_rules(call, tool["function"])
    rules += [f"answer: %json {_schema(answer)}"] if answer is not None else []
    return "\n".join(rules)


class ToolCallParser:
    """Finds the calls in a text that comes in pieces.

    Text that may be the beginning of a call is held back until that is certain, and a call until it is
    complete, so that nobody acts on half of one.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> Iterator[str | ToolCall]:
        """What is certain after this piece: plain text and whole calls, in order."""
        self._held += text
        yield from self._certain(_end_outside_strings)

    def close(self) -> Iterator[str | ToolCall]:
        """What is left when no more text comes."""
        yield from self._certain(_first_end)
        if self._held:
            yield ToolCall(text=self._held) if self._held.startswith(_OPEN) else self._held
            self._held = ""

    def _certain(self, end_of: Callable[[str], int | None]) -> Iterator[str | ToolCall]:
        while True:
            if plain := self._take(_length_of_plain(self._held)):
                yield plain
            end = end_of(self._held) if self._held.startswith(_OPEN) else None
            if end is None:
                return
            yield from _parse(self._take(end))

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def _call_rules(rule: str, function: Json) -> Iterator[str]:
    parameters = {"type": "object", "properties": {}} | dict(function.get("parameters") or {})
    head = f'{_OPEN}\n{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "arguments": '
    tail = f"}}\n{_CLOSE}"
    yield f"{rule}: {json.dumps(head)} {rule}_arguments {json.dumps(tail)}"
    yield f"{rule}_arguments: %json {_schema(parameters)}"


def _schema(schema: Json) -> str:
    return json.dumps({**_closed(schema), "x-guidance": _LAYOUT})


def _closed(schema: Any) -> Any:
    """The schema with objects limited to the properties it names, where it does not say otherwise.

    JSON Schema lets unnamed properties in by default; no caller wants a small model to invent some.
    Parts of an `allOf` stay open, because each would forbid what the others name.
    """
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _closed_part(key, value) for key, value in schema.items()}
    return {"additionalProperties": False, **closed} if "properties" in schema and "allOf" not in schema else closed


def _closed_part(keyword: str, value: Any) -> Any:
    if keyword in {"properties", "$defs", "definitions"} and isinstance(value, Mapping):
        return {name: _closed(part) for name, part in value.items()}
    if keyword in {"anyOf", "oneOf", "prefixItems"} and isinstance(value, Sequence):
        return [_closed(part) for part in value]
    return _closed(value) if keyword == "items" else value


def _length_of_plain(text: str) -> int:
    """How much of the text comes before a call, or before what may become one."""
    start = text.find(_OPEN)
    if start >= 0:
        return start
    begun = (n for n in range(min(len(_OPEN) - 1, len(text)), 0, -1) if _OPEN.startswith(text[-n:]))
    return len(text) - next(begun, 0)


def _end_outside_strings(text: str) -> int | None:
    """Where the call ends; a closing tag inside a JSON string does not count."""
    for tag in re.finditer(_CLOSE, text):
        if _COMPLETE_STRINGS.fullmatch(text, 0, tag.start()):
            return tag.end()
    return None


def _first_end(text: str) -> int | None:
    start = text.find(_CLOSE)
    return start + len(_CLOSE) if start >= 0 else None


def _parse(text: str) -> list[ToolCall]:
    try:
        body = json.loads(text.removeprefix(_OPEN).removesuffix(_CLOSE))
    except (ValueError, RecursionError):  # a model can write a thousand brackets
        return [ToolCall(text=text)]
    calls = body if isinstance(body, list) else [body]
    return [_tool_call(call, text) for call in calls]


def _tool_call(call: Any, text: str) -> ToolCall:
    match call:
        case {"name": str(name), "arguments": dict(arguments)}:
            return ToolCall(text=text, name=name, arguments=arguments)
    return ToolCall(text=text)
