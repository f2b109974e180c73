"""Attributes of OTLP as the tables hold them: text by name.

The ClickHouse exporter keeps every value as text, and so does this store. Structured values become JSON
and bytes become base64, which is how the Collector prints them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["attribute_texts", "value_text"]


def attribute_texts(attributes: Iterable[Any]) -> dict[str, str]:
    """`KeyValue`s as a mapping; of a name that is given twice, which OTLP forbids, the last value counts."""
    # Most values are text: asking for that first saves a call on each. An empty text takes the long way.
    return {item.key: value.string_value or value_text(value) for item in attributes for value in (item.value,)}


def value_text(value: Any) -> str:
    """One `AnyValue` as text; empty when it holds nothing."""
    if number := value.int_value:  # the next most frequent kind, asked for first as well
        return str(number)
    kind = value.WhichOneof("value")
    return _TEXT[kind](value) if kind in _TEXT else ""


def _plain(value: Any) -> Any:
    """An `AnyValue` as what JSON can hold. Protobuf's parser bounds the depth."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _plain(item.value) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return None if kind is None else getattr(value, kind)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


_TEXT: Final[Mapping[str, Callable[[Any], str]]] = {
    "string_value": lambda value: str(value.string_value),
    "int_value": lambda value: str(value.int_value),
    "double_value": lambda value: repr(value.double_value),
    "bool_value": lambda value: "true" if value.bool_value else "false",
    "bytes_value": lambda value: base64.b64encode(value.bytes_value).decode(),
    "array_value": _json,
    "kvlist_value": _json,
}
