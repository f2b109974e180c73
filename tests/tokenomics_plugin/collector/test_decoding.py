import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.collector import decoding
from tokenomics_plugin.collector.decoding import Encoding, MediaType, decode, decompress
from tokenomics_plugin.collector.refusal import Refusal, RefusedError
from tokenomics_plugin.otlp_json import Signal

COMPRESS: dict[Encoding, Callable[[bytes], bytes]] = {
    Encoding.IDENTITY: bytes,
    Encoding.GZIP: gzip.compress,
    Encoding.DEFLATE: zlib.compress,
}
MIB = 2**20


def length_delimited(number: int, content: bytes) -> bytes:
    size, varint = len(content), bytearray()
    while size >= 0x80:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*varint, size]) + content


def in_one_scope(spans: bytes) -> bytes:
    return length_delimited(1, length_delimited(2, spans))


def in_one_span(fields: bytes) -> bytes:
    return in_one_scope(length_delimited(2, fields))


@pytest.mark.parametrize("encoding", Encoding)
@given(plain=st.binary(max_size=2_000))
def test_decompression_undoes_compression(encoding: Encoding, plain: bytes) -> None:
    assert decompress(COMPRESS[encoding](plain), encoding, limit=2_000) == plain


@pytest.mark.parametrize("encoding", [Encoding.GZIP, Encoding.DEFLATE])
def test_a_bomb_stops_at_the_limit(encoding: Encoding) -> None:
    bomb = COMPRESS[encoding](bytes(200 * MIB))
    tracemalloc.start()
    with pytest.raises(RefusedError, match="more than 1048576 bytes") as refused:
        decompress(bomb, encoding, limit=MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.refusal is Refusal.TOO_LARGE
    assert peak < 4 * MIB  # zlib doubles its buffer, so twice the limit at most, and some slack


@pytest.mark.parametrize(
    "body",
    [b"", b"not gzip", gzip.compress(b"cut off")[:-4], gzip.compress(b"one") + b"trailing", gzip.compress(b"a") * 2],
    ids=["empty", "foreign", "truncated", "trailing bytes", "two members"],
)
def test_a_broken_stream_is_malformed(body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        decompress(body, Encoding.GZIP, limit=MIB)
    assert refused.value.refusal is Refusal.MALFORMED


def count_messages(message: Message) -> int:
    children = (
        child
        for descriptor, value in message.ListFields()
        if descriptor.message_type is not None
        for child in (value if descriptor.is_repeated else [value])
    )
    return 1 + sum(map(count_messages, children))


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=4))
def test_messages_are_counted_without_parsing_them(spans: list[list[str]]) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for keys in spans:
        span = scope.spans.add(trace_id=b"x" * 16, kind=3, start_time_unix_nano=2**63, flags=1)
        for key in keys:
            span.attributes.add(key=key).value.double_value = 0.5
    body = request.SerializeToString()
    assert decoding._count_messages(body, request.DESCRIPTOR, 1_000) == count_messages(request)


@pytest.mark.parametrize(
    "body",
    [
        in_one_scope(b"\x12\x00" * MIB),
        b"\x0a\x00" * MIB,
        in_one_span(b"\x6a\x00" * MIB),
        in_one_span(b"\x4a\x00" * MIB),
        # An unknown group in front does not hide what follows.
        length_delimited(1, length_delimited(2, b"\xa3\x06\xa4\x06" + b"\x12\x00" * MIB)),
    ],
    ids=["spans", "resources", "links", "attributes", "behind a group"],
)
def test_a_body_of_empty_messages_is_refused_before_it_is_parsed(body: bytes) -> None:
    with pytest.raises(RefusedError, match="more than 1000 messages") as refused:
        decode(body, Signal.TRACES, MediaType.PROTOBUF, max_nodes=1_000)
    assert refused.value.refusal is Refusal.TOO_LARGE


@pytest.mark.parametrize("nodes", [b"[],", b"{},"], ids=["arrays", "objects"])
def test_a_json_body_of_empty_containers_is_refused_before_it_is_parsed(nodes: bytes) -> None:
    body = b'{"resourceSpans": [' + nodes * MIB + b"{}]}"
    with pytest.raises(RefusedError, match="more than 1000 messages"):
        decode(body, Signal.TRACES, MediaType.JSON, max_nodes=1_000)


def test_a_large_body_of_few_messages_is_read() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="x" * 2 * MIB)
    body = request.SerializeToString()
    assert decode(body, Signal.TRACES, MediaType.PROTOBUF, max_nodes=10) == request


@pytest.mark.parametrize(
    "tail",
    [b"\x0a\xff\xff\xff\xff\x7f", b"\x0a", b"\xff" * 20, b"\x0e"],
    ids=["length beyond the end", "cut off", "endless varint", "undefined wire type"],
)
def test_a_large_malformed_body_is_malformed(tail: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        decode(length_delimited(9, bytes(MIB)) + tail, Signal.TRACES, MediaType.PROTOBUF, max_nodes=1_000)
    assert refused.value.refusal is Refusal.MALFORMED


# A lone surrogate is legal in JSON and not in UTF-8; 1e999 is a number, and infinite in Python.
@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}',
        b'{"resourceSpans": [{"schemaUrl": "\\ud800"}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": 1e999}]}]}]}',
        b'{"resourceSpans": ' + b"[" * 5_000,
    ],
    ids=["surrogate in a key", "surrogate in a value", "infinite integer", "deep nesting"],
)
def test_json_that_protobuf_chokes_on_is_malformed(body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        decode(body, Signal.TRACES, MediaType.JSON, max_nodes=10)
    assert refused.value.refusal is Refusal.MALFORMED
