"""OTLP as JSON: protobuf messages to one line of text and back.

The OTLP specification departs from protobuf's JSON mapping in two places, which is why
`google.protobuf.json_format` alone is wrong: trace and span ids are hex (protobuf says base64), and
enums are numbers. 64-bit integers stay decimal strings. This is also the format of the OpenTelemetry
Collector's file exporter, one request a line.

Source: opentelemetry-proto, `docs/specification.md`, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.errors import MalformedOtlpError

__all__ = ["Signal", "parse_json", "parse_line", "parse_protobuf", "to_json"]

# What the JSON reader of protobuf lets through besides its own error: lone surrogates raise SystemError,
# numbers beyond a double OverflowError, values of a wrong type the rest.
_LEAKS_OF_PROTOBUF = (
    json_format.ParseError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SystemError,
)
_ID_BYTES = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


class Signal(StrEnum):
    """What a request carries; the value is the path's last component in OTLP/HTTP."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"

    @property
    def request_type(self) -> type[Message]:
        """The protobuf message that exports this signal."""
        return _REQUEST_TYPES[self]

    @property
    def json_key(self) -> str:
        """The one key of a request in JSON."""
        return _JSON_KEYS[self]


_REQUEST_TYPES: Mapping[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
}
_JSON_KEYS: Mapping[Signal, str] = {
    Signal.TRACES: "resourceSpans",
    Signal.LOGS: "resourceLogs",
    Signal.METRICS: "resourceMetrics",
}


def to_json(request: Message) -> str:
    """One export request as one line of OTLP JSON, without the newline."""
    document = json_format.MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(_with_ids(document, _base64_to_hex), ensure_ascii=False, separators=(",", ":"))


def parse_json(body: str | bytes, signal: Signal) -> Message:
    """Read a request from OTLP JSON; unknown fields are ignored, as the specification asks.

    Raises:
        MalformedOtlpError: If the text is not JSON, or not a request of this signal.
    """
    return _from_document(_load(body), signal)


def parse_line(line: str | bytes) -> tuple[Signal, Message]:
    """Read one line of an OTLP JSON file; its key says which signal it carries.

    Raises:
        MalformedOtlpError: If the line is not JSON, or carries no signal or more than one.
    """
    document = _load(line)
    keys = document.keys() if isinstance(document, dict) else ()
    signals = [signal for signal in Signal if signal.json_key in keys]
    if len(signals) != 1:
        expected = ", ".join(signal.json_key for signal in Signal)
        raise MalformedOtlpError(f"expected an object with exactly one of {expected}, got {_excerpt(line)}")
    return signals[0], _from_document(document, signals[0])


def parse_protobuf(body: bytes, signal: Signal) -> Message:
    """Read a request from its binary encoding.

    Raises:
        MalformedOtlpError: If the bytes are not a request of this signal.
    """
    request = signal.request_type()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise MalformedOtlpError(f"not a protobuf {request.DESCRIPTOR.full_name}: {error}") from error
    return request


def _load(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedOtlpError(f"not JSON: {error}") from error


def _from_document(document: Any, signal: Signal) -> Message:
    request = signal.request_type()
    if not isinstance(document, dict):
        raise MalformedOtlpError(f"expected an object with {signal.json_key}, got {type(document).__name__}")
    try:
        json_format.ParseDict(_with_ids(document, _hex_to_base64), request, ignore_unknown_fields=True)
    except _LEAKS_OF_PROTOBUF as error:
        raise MalformedOtlpError(f"not a {request.DESCRIPTOR.full_name}: {error}") from error
    return request


def _with_ids(node: Any, convert: Callable[[str, Any], Any]) -> Any:
    """A copy with every trace and span id converted.

    Keys of a user's attributes are values here (`{"key": ..., "value": ...}`), so a field's name is
    enough to know an id.
    """
    if isinstance(node, dict):
        return {
            key: convert(key, value) if key in _ID_BYTES else _with_ids(value, convert) for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_ids(item, convert) for item in node]
    return node


def _base64_to_hex(_name: str, value: str) -> str:
    return base64.b64decode(value).hex()


def _hex_to_base64(name: str, value: Any) -> str:
    if value is None:  # in protobuf's JSON, null is the default
        return ""
    raw = bytes.fromhex(value) if isinstance(value, str) else None
    if raw is None or len(raw) not in (0, _ID_BYTES[name]):
        raise ValueError(f"{name} must be {2 * _ID_BYTES[name]} hex digits, got {value!r}")
    return base64.b64encode(raw).decode()


def _excerpt(line: str | bytes) -> str:
    return repr(line[:60]) + ("…" if len(line) > 60 else "")
