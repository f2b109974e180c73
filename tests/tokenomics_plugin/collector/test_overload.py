import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tokenomics_plugin.collector import Addresses

SDK_VERSION = tuple(int(part) for part in version("opentelemetry-sdk").split(".")[:2])
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

MakeRequest = Callable[..., ExportTraceServiceRequest]
Post = Callable[..., tuple[int, dict[str, str], bytes]]
Start = Callable[..., Addresses]
StoredNumbers = Callable[[], list[int]]


@pytest.fixture
def full(start: Start, db: Path, post: Post, make_request: MakeRequest) -> tuple[Addresses, duckdb.DuckDBPyConnection]:
    """A collector whose journal is full, because a reader holds the store; with that reader."""
    addresses = start(max_backlog_bytes=3_000)
    reader = duckdb.connect(str(db), read_only=True)
    big = make_request(1, name="x" * 4_000).SerializeToString()
    assert post(addresses, big)[0] == 200
    return addresses, reader


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_a_full_journal_asks_http_clients_to_come_back_and_recovers(
    full: tuple[Addresses, duckdb.DuckDBPyConnection],
    post: Post,
    make_request: MakeRequest,
    running: ExitStack,
    stored_numbers: StoredNumbers,
) -> None:
    addresses, reader = full
    body = make_request(2).SerializeToString()
    status, headers, answer = post(addresses, body)
    assert (status, headers["retry-after"]) == (429, "1")
    assert Status.FromString(answer).code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    reader.close()
    wait_until(lambda: post(addresses, body)[0] == 200)
    running.close()
    assert stored_numbers() == [1, 2]


def test_a_full_journal_asks_grpc_clients_to_come_back(
    full: tuple[Addresses, duckdb.DuckDBPyConnection], make_request: MakeRequest
) -> None:
    addresses, reader = full
    with closing(grpc.insecure_channel(addresses.grpc)) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(EXPORT)(make_request(2).SerializeToString(), timeout=30)
    reader.close()
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.value.trailing_metadata())["grpc-status-details-bin"])
    retry_info = RetryInfo()
    assert status.details[0].Unpack(retry_info)
    assert retry_info.retry_delay.seconds == 1


@pytest.mark.parametrize(
    "make_exporter",
    [
        pytest.param(
            lambda addresses: HttpSpanExporter(f"http://{addresses.http}/v1/traces", timeout=20),
            id="http",
            marks=pytest.mark.xfail(SDK_VERSION < (1, 45), reason="the SDK's HTTP exporter retries 429 since 1.45"),
        ),
        pytest.param(lambda addresses: GrpcSpanExporter(addresses.grpc, insecure=True, timeout=20), id="grpc"),
    ],
)
def test_the_sdk_comes_back_by_itself(
    full: tuple[Addresses, duckdb.DuckDBPyConnection], make_exporter: Callable[[Addresses], SpanExporter]
) -> None:
    addresses, reader = full
    exporter = make_exporter(addresses)
    span: Any = TracerProvider().get_tracer("test").start_span("late")
    span.end()
    with ThreadPoolExecutor(max_workers=1) as pool:
        exported = pool.submit(exporter.export, [span])
        time.sleep(0.3)
        assert not exported.done()
        reader.close()
        assert exported.result(timeout=20) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_memory_for_requests_is_shared_out_and_given_back(start: Start, post: Post, make_request: MakeRequest) -> None:
    addresses = start(max_body_bytes=1_000, max_in_flight_bytes=2_000)
    body = make_request(1, name="x" * 300).SerializeToString()
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n"
    )
    with (
        socket.create_connection((addresses.host, addresses.http_port), timeout=30) as one,
        socket.create_connection((addresses.host, addresses.http_port), timeout=30) as other,
    ):
        for connection in (one, other):
            connection.sendall(head + bytes(900))
        wait_until(lambda: post(addresses, body)[0] == 429)
    wait_until(lambda: post(addresses, body)[0] == 200)


def test_a_full_disk_asks_clients_to_come_back(
    start: Start,
    post: Post,
    make_request: MakeRequest,
    file_size_limit: Callable[[int], AbstractContextManager[None]],
    running: ExitStack,
    stored_numbers: StoredNumbers,
) -> None:
    addresses = start(load_interval_s=60)
    assert post(addresses, make_request(1).SerializeToString())[0] == 200
    with file_size_limit(500):
        status, headers, _ = post(addresses, make_request(2, name="x" * 500).SerializeToString())
    assert (status, headers["retry-after"]) == (503, "1")
    assert post(addresses, make_request(3).SerializeToString())[0] == 200
    running.close()
    assert stored_numbers() == [1, 3]
