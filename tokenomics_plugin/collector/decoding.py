"""From the bytes of a request to the OTLP message in them, without trusting their size.

Three things make a small body large: gzip (1:1000), empty messages in protobuf (an empty span takes two
bytes on the wire and 170 in memory) and empty containers in JSON. Each is bounded before the memory is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from google.protobuf.message import Message

from tokenomics_plugin.collector.refusal import Refusal, RefusedError
from tokenomics_plugin.errors import MalformedOtlpError
from tokenomics_plugin.otlp_json import Signal, parse_json, parse_protobuf

__all__ = ["Encoding", "MediaType", "decode", "decompress"]

# At 80 times its size, parsing this much takes less than 100 MiB. Counting takes 30 times as long as parsing.
_TOO_SMALL_TO_COUNT = 2**20
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


class MediaType(StrEnum):
    """How a request is written. Only these two: a browser may send neither to another origin unasked."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class Encoding(StrEnum):
    """How a request is compressed."""

    IDENTITY = "identity"
    GZIP = "gzip"
    DEFLATE = "deflate"


_WBITS = {Encoding.GZIP: 16 + zlib.MAX_WBITS, Encoding.DEFLATE: zlib.MAX_WBITS}


def decompress(body: bytes, encoding: Encoding, *, limit: int) -> bytes:
    """Undo the compression, stopping at `limit` bytes.

    Raises:
        RefusedError: If the result is larger than `limit`, or the stream is broken or cut off.
    """
    if encoding is Encoding.IDENTITY:
        return body
    stream = zlib.decompressobj(wbits=_WBITS[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise RefusedError(Refusal.MALFORMED, f"not {encoding}: {error}") from error
    if len(plain) > limit:
        raise RefusedError(Refusal.TOO_LARGE, f"the request decompresses to more than {limit} bytes; send smaller ones")
    if not stream.eof or stream.unused_data:
        raise RefusedError(Refusal.MALFORMED, f"not one whole {encoding} stream")
    return plain


def decode(body: bytes, signal: Signal, media_type: MediaType, *, max_nodes: int) -> Message:
    """Read a request.

    Raises:
        RefusedError: If it is malformed, or holds more than `max_nodes` messages.
    """
    if len(body) > _TOO_SMALL_TO_COUNT and _count_nodes(body, signal, media_type, max_nodes) > max_nodes:
        raise RefusedError(Refusal.TOO_LARGE, f"the request holds more than {max_nodes} messages; send smaller ones")
    parse = parse_json if media_type is MediaType.JSON else parse_protobuf
    try:
        return parse(body, signal)
    except MalformedOtlpError as error:
        raise RefusedError(Refusal.MALFORMED, str(error)) from error


def _count_nodes(body: bytes, signal: Signal, media_type: MediaType, limit: int) -> int:
    if media_type is MediaType.JSON:
        return body.count(b"{") + body.count(b"[")
    return _count_messages(body, signal.request_type.DESCRIPTOR, limit)


def _count_messages(body: bytes, root: Any, limit: int) -> int:
    """How many messages a protobuf holds at any depth; may stop above `limit`, or where it is malformed."""
    pending = [(0, len(body), root)]
    count = 1
    try:
        while pending and count <= limit:
            for child in _submessages(body, *pending.pop()):
                pending.append(child)
                count += 1
                if count > limit:
                    break
    except (IndexError, ValueError):
        pass  # cut off or malformed: the parser says so better
    return count


def _submessages(body: bytes, position: int, end: int, descriptor: Any) -> Iterator[tuple[int, int, Any]]:
    """Where the messages directly inside one message are (https://protobuf.dev/programming-guides/encoding)."""
    types = _message_fields(descriptor)
    while position < end:
        tag, position = _varint(body, position)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(body, position)
            if (child := types.get(tag >> 3)) is not None:
                yield position, position + length, child
            position += length
        elif wire_type == _VARINT:
            _, position = _varint(body, position)
        else:
            # What is inside a group is counted as if it were outside: too many rather than too few.
            position += _FIXED_BYTES.get(wire_type, 0)


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint has at most 10 bytes")


@cache
def _message_fields(descriptor: Any) -> Mapping[int, Any]:
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
