import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import grpc
import psutil
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

MakeRequest = Callable[..., ExportTraceServiceRequest]
Start = Callable[..., Addresses]
StoredNumbers = Callable[[], list[int]]


def call(addresses: Addresses, body: bytes, *, method: str = EXPORT, **options: Any) -> bytes:
    with closing(grpc.insecure_channel(addresses.grpc, options=[("grpc.max_send_message_length", -1)])) as channel:
        answer: bytes = channel.unary_unary(method)(body, timeout=30, **options)
        return answer


def refusal(addresses: Addresses, body: bytes, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call(addresses, body, **options)
    return error.value


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_a_request_is_stored_and_answered(
    start: Start,
    make_request: MakeRequest,
    running: ExitStack,
    stored_numbers: StoredNumbers,
    compression: grpc.Compression,
) -> None:
    # Repetition makes it worthwhile to compress: gRPC sends it plain otherwise.
    body = make_request(7, name="a" * 1_000).SerializeToString()
    answer = call(start(), body, compression=compression)
    assert ExportTraceServiceResponse.FromString(answer) == ExportTraceServiceResponse()
    running.close()
    assert stored_numbers() == [7]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """One collector for all the requests that it refuses; it takes 1000 bytes."""
    db = tmp_path_factory.mktemp("small") / "traces.duckdb"
    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0, max_body_bytes=1_000)) as addresses:
        yield addresses


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"body": b"\xff" * 9}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"body": b"\x1f\x8b, but not gzip"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"body": gzip.compress(bytes(2_000))}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"body": bytes(2_000)}, grpc.StatusCode.RESOURCE_EXHAUSTED),  # gRPC's own answer
        ({"body": b"", "method": "/opentelemetry.proto.Unknown/Export"}, grpc.StatusCode.UNIMPLEMENTED),
    ],
    ids=["malformed", "broken gzip", "bomb", "too large", "unknown service"],
)
def test_a_bad_request_gets_its_code(small: Addresses, arguments: dict[str, Any], code: grpc.StatusCode) -> None:
    error = refusal(small, **arguments)
    assert error.code() is code
    assert "google.rpc.retryinfo-bin" not in dict(error.trailing_metadata())


def test_a_bad_request_costs_no_other_request(
    start: Start, make_request: MakeRequest, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    for number in (1, 2):
        refusal(addresses, b"\xff")
        call(addresses, make_request(number).SerializeToString())
    running.close()
    assert stored_numbers() == [1, 2]


def test_an_error_carries_its_status_in_detail(small: Addresses) -> None:
    error = refusal(small, b"\xff")
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (3, error.details())


def test_a_gzip_bomb_takes_no_memory(start: Start) -> None:
    addresses = start()
    bomb = gzip.compress(bytes(400 * 2**20))
    before = psutil.Process().memory_info().rss
    assert refusal(addresses, bomb).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert psutil.Process().memory_info().rss - before < 100 * 2**20  # the limit is 16 MiB, held twice while it grows


def test_only_the_token_opens(start: Start, make_request: MakeRequest) -> None:
    addresses, body = start(token="secret"), make_request(1).SerializeToString()
    for metadata in (None, [("authorization", "Bearer wrong")], [("authorization", "secret")]):
        assert refusal(addresses, body, metadata=metadata).code() is grpc.StatusCode.UNAUTHENTICATED
    assert call(addresses, body, metadata=[("authorization", "Bearer secret")]) == b""


def test_a_call_without_a_message_is_refused(small: Addresses) -> None:
    with closing(grpc.insecure_channel(small.grpc)) as channel, pytest.raises(grpc.RpcError) as error:
        channel.stream_unary(EXPORT)(iter(()), timeout=30)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_stalls_is_let_go(start: Start) -> None:
    addresses = start(request_timeout_s=0.1)
    answered = threading.Event()

    def never() -> Iterator[bytes]:
        answered.wait(30)
        yield b""

    with closing(grpc.insecure_channel(addresses.grpc)) as channel:
        stalled = channel.stream_unary(EXPORT).future(never(), timeout=30)
        assert stalled.code() is grpc.StatusCode.CANCELLED  # waits for the answer
        answered.set()
