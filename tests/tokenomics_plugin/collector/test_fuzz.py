"""Whatever arrives, it is answered as the protocol says, and the collector goes on."""

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig
from tokenomics_plugin.otlp_json import Signal

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HEADERS = {"Content-Type": "application/x-protobuf"}
ANSWERS = {200, 400, 403, 413, 415}
CODES = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    config = CollectorConfig(db=folder / "traces.duckdb", http_port=0, grpc_port=0, load_interval_s=0.05)
    with Collector(config) as bound:
        yield bound
    assert not list(folder.rglob("*.unreadable"))


@pytest.fixture(scope="module")
def connection(addresses: Addresses) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(addresses.host, addresses.http_port, timeout=30)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def export(addresses: Addresses) -> Iterator[grpc.UnaryUnaryMultiCallable]:
    with closing(grpc.insecure_channel(addresses.grpc)) as channel:
        yield channel.unary_unary(EXPORT)


def spans() -> st.SearchStrategy[bytes]:
    """Well-formed requests whose ids, times and text are of any length and value."""
    return st.builds(_request, st.binary(max_size=17), st.binary(max_size=9), st.integers(0, 2**64 - 1), st.text())


def _request(trace_id: bytes, span_id: bytes, time_unix_nano: int, name: str) -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.start_time_unix_nano, span.name = trace_id, span_id, time_unix_nano, name
    return request.SerializeToString()


def cut_and_changed(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda body, start, length, piece: body[:start] + piece + body[start + length :],
        bodies,
        st.integers(0, 80),
        st.integers(0, 8),
        st.binary(max_size=8),
    )


KEYS = st.sampled_from(["resourceSpans", "scopeSpans", "spans", "traceId", "attributes", "value", "stringValue"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3)
)
PROTOBUF = st.binary(max_size=200) | spans() | cut_and_changed(spans())
JSON = st.builds(lambda document: json.dumps(document).encode(), DOCUMENTS) | st.binary(max_size=50)


@settings(max_examples=300, deadline=None)
@given(
    signal=st.sampled_from(Signal),
    content=st.tuples(st.just("application/x-protobuf"), PROTOBUF) | st.tuples(st.just("application/json"), JSON),
    compressed=st.booleans(),
    encoding=st.sampled_from(["identity", "gzip", "deflate", "br"]),
)
def test_any_body_over_http_is_answered_by_the_rules(
    connection: http.client.HTTPConnection, signal: Signal, content: tuple[str, bytes], compressed: bool, encoding: str
) -> None:
    content_type, body = content
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    connection.request("POST", f"/v1/{signal}", gzip.compress(body) if compressed else body, headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status in ANSWERS


@settings(max_examples=100, deadline=None)
@given(name=st.binary(max_size=9), value=st.binary(max_size=40))
def test_any_header_is_answered_by_the_rules(addresses: Addresses, name: bytes, value: bytes) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n"
    with socket.create_connection((addresses.host, addresses.http_port), timeout=30) as connection:
        connection.sendall(head + name + b": " + value + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        status = connection.makefile("rb").readline().split()[1]
    assert int(status) in ANSWERS


@settings(max_examples=150, deadline=None)
@given(body=PROTOBUF | st.builds(gzip.compress, PROTOBUF))
def test_any_body_over_grpc_is_answered_by_the_rules(export: grpc.UnaryUnaryMultiCallable, body: bytes) -> None:
    assert export.future(body, timeout=30).code() in CODES


def test_afterwards_a_valid_request_is_acknowledged(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/v1/traces", _request(b"t" * 16, b"s" * 8, 1, "valid"), HEADERS)
    assert connection.getresponse().read() == b""
