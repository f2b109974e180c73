"""OTLP messages from plain values: what the importers write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue

from tokenomics_plugin.version import package_version

__all__ = ["TOOL_ERROR", "Attribute", "derived_id", "encodable", "key_values", "money", "plain", "scope"]

TOOL_ERROR: Final = "tool_error"
"""`error.type` of a tool that answered with an error message."""
_INT64: Final = range(-(2**63), 2**63)
_PICODOLLAR: Final = Decimal("1e-12")
_MONEY_DIGITS: Final = 36  # more than any amount of `as_money` has at that scale
Attribute = str | bool | int | float | tuple[str, ...]
"""The value of an attribute that an importer writes."""


def key_values(attributes: Mapping[str, Attribute | None]) -> list[KeyValue]:
    """Attributes of a span or a record; those of `None` are left out."""
    return [KeyValue(key=name, value=_any(value)) for name, value in attributes.items() if value is not None]


def money(amount: Decimal | None) -> str | None:
    """An amount of money as text, to the picodollar: what is below that is the noise of a log's doubles."""
    if amount is None:
        return None
    with localcontext(prec=_MONEY_DIGITS):
        return f"{amount.quantize(_PICODOLLAR).normalize():f}"


def plain(value: Any) -> Any:
    """An `AnyValue` as a plain value; `None` when it holds none."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def scope(name: str) -> InstrumentationScope:
    """The instrumentation scope of an importer."""
    return InstrumentationScope(name=f"tokenomics_plugin.importing.{name}", version=package_version() or "")


def encodable(text: str) -> str:
    """A text as protobuf can hold it: JSON may have half a surrogate pair, which becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def derived_id(size: int, *parts: str | bytes) -> bytes:
    """An id that is the same whenever the parts are: what makes a second import change nothing.

    Args:
        size: Bytes of the id.
        parts: What it stands for; framed by their lengths.
    """
    digest = blake2b(digest_size=size)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()


def _any(value: Attribute) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=encodable(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):  # a count that OTLP has no room for is some mistake, and is kept as it was said
        return AnyValue(int_value=value) if value in _INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return _array(value)


def _array(values: Iterable[str]) -> AnyValue:
    array = AnyValue()
    array.array_value.values.extend(AnyValue(string_value=encodable(value)) for value in values)
    return array
