"""The part of JSON Schema that our own schema uses, with errors that a person can act on.

A validator from the registry would be one more dependency of the command, and its messages quote the schema. A
keyword that is not known here is an error when the schema is read, so that no rule of it goes unchecked.

Source: JSON Schema, draft 2020-12, "Validation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

__all__ = ["Checker"]

_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "x-way-out"})
_SHOWN: Final = 60

_Check = Callable[[Any, str], Iterator[str]]


class Checker:
    """Says what breaks a schema in a value.

    Args:
        schema: The schema, as JSON was read.

    Raises:
        ValueError: If it uses a keyword that is not known here.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._defined: dict[str, _Check] = {}
        self._check = self._compiled(schema)

    def problems(self, value: Any) -> Iterator[str]:
        """Each broken rule, as `field rule, got value; way out`."""
        return self._check(value, "")

    def _compiled(self, schema: Mapping[str, Any]) -> _Check:
        rules = [self._rule(keyword, schema) for keyword in schema if keyword not in _ANNOTATIONS]
        checks = [rule for rule in rules if rule is not None]
        way_out = f"; {schema['x-way-out']}" if "x-way-out" in schema else ""

        def check(value: Any, path: str) -> Iterator[str]:
            for rule in checks:
                for problem in rule(value, path):
                    yield problem + way_out

        return check

    def _rule(self, keyword: str, schema: Mapping[str, Any]) -> _Check | None:
        match keyword:
            case "type":
                return _typed(schema["type"])
            case "enum":
                return _one_of(schema["enum"])
            case "minLength":
                return _at_least(schema["minLength"], of=str, measure=len, what="have at least {} characters")
            case "minimum":
                return _at_least(schema["minimum"], of=(int, float), measure=_itself, what="be at least {}")
            case "required":
                return _required(schema["required"])
            case "properties":
                return self._properties(schema)
            case "items":
                return _items(self._compiled(schema["items"]))
            case "$ref":
                return self._reference(schema["$ref"])
            case "additionalProperties" if schema[keyword] is False:
                return _no_others(list(schema["properties"]))
        raise ValueError(f"the schema uses {keyword!r} in a way that this checker does not know: teach it, or leave it")

    def _properties(self, schema: Mapping[str, Any]) -> _Check:
        checks = {name: self._compiled(of_name) for name, of_name in schema["properties"].items()}

        def check(value: Any, path: str) -> Iterator[str]:
            if isinstance(value, dict):
                for name, check_value in checks.items():
                    if name in value:
                        yield from check_value(value[name], f"{path}.{name}" if path else name)

        return check

    def _reference(self, pointer: str) -> _Check:
        if pointer not in self._defined:
            target: Any = self._root
            for step in pointer.removeprefix("#/").split("/"):
                target = target[step]
            self._defined[pointer] = self._compiled(target)
        return self._defined[pointer]


def _typed(names: str | Sequence[str]) -> _Check:
    allowed = [names] if isinstance(names, str) else list(names)
    tests = [_TYPES[name] for name in allowed]
    wanted = " or ".join(_WORDS[name] for name in allowed)

    def check(value: Any, path: str) -> Iterator[str]:
        if not any(test(value) for test in tests):
            yield f"{path or 'the line'} must be {wanted}, got {_shown(value)}"

    return check


def _one_of(allowed: Sequence[Any]) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if value not in allowed:
            yield f"{path} must be one of {', '.join(allowed)}, got {_shown(value)}"

    return check


def _at_least(least: float, *, of: Any, measure: Callable[[Any], float], what: str) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, of) and not isinstance(value, bool) and measure(value) < least:
            yield f"{path} must {what.format(least)}, got {_shown(value)}"

    return check


def _required(names: Sequence[str]) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name in names:
                if name not in value:
                    yield f"{path + '.' if path else ''}{name} is missing"

    return check


def _items(of_item: _Check) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from of_item(item, f"{path}[{index}]")

    return check


def _no_others(known: Sequence[str]) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name in (name for name in value if name not in known):
                meant = get_close_matches(name, known, n=1)
                hint = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(known)}"
                yield f"{path + '.' if path else ''}{name[:_SHOWN]} is not known; {hint}"

    return check


def _itself(value: float) -> float:
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}
_WORDS: Final[Mapping[str, str]] = {
    "object": "an object",
    "array": "an array",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "number": "a number",
    "integer": "an integer",
}
