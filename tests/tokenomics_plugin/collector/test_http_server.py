import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig
from tokenomics_plugin.otlp_json import to_json

MakeRequest = Callable[[int], ExportTraceServiceRequest]
Post = Callable[..., tuple[int, dict[str, str], bytes]]
Start = Callable[..., Addresses]
StoredNumbers = Callable[[], list[int]]


def test_protobuf_is_stored_and_answered_in_protobuf(
    start: Start, post: Post, make_request: MakeRequest, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    encodings: list[tuple[str, Callable[[bytes], bytes]]]
    encodings = [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("GZip", gzip.compress)]
    for number, (encoding, compress) in enumerate(encodings, start=1):
        body = compress(make_request(number).SerializeToString())
        status, headers, answer = post(addresses, body, headers={"Content-Encoding": encoding})
        assert (status, headers["content-type"]) == (200, "application/x-protobuf")
        assert ExportTraceServiceResponse.FromString(answer) == ExportTraceServiceResponse()
    running.close()
    assert stored_numbers() == [1, 2, 3, 4]


def test_json_is_stored_and_answered_in_json(
    start: Start, post: Post, make_request: MakeRequest, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    content_types = ["application/json", "application/json; charset=utf-8", "Application/JSON"]
    for number, content_type in enumerate(content_types, start=1):
        body = to_json(make_request(number)).encode()
        status, headers, answer = post(addresses, body, content_type=content_type)
        assert (status, headers["content-type"], json.loads(answer)) == (200, "application/json", {})
    running.close()
    assert stored_numbers() == [1, 2, 3]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """One collector for all the requests that it refuses; it takes 1000 bytes."""
    db = tmp_path_factory.mktemp("small") / "traces.duckdb"
    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0, max_body_bytes=1_000)) as addresses:
        yield addresses


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"body": b"\xff" * 9}, 400),
        ({"body": b"{", "content_type": "application/json"}, 400),
        ({"body": b'{"resourceSpans": "\\ud800"}', "content_type": "application/json"}, 400),
        ({"body": b"plain", "headers": {"Content-Encoding": "gzip"}}, 400),
        ({"headers": {"Origin": "http://evil.example"}}, 403),
        ({"path": "/v1/profiles"}, 404),
        ({"path": "/nothing"}, 404),
        ({"path": "/"}, 405),
        ({"method": "GET"}, 405),
        ({"method": "OPTIONS"}, 405),
        ({"body": bytes(2_000)}, 413),
        ({"body": gzip.compress(bytes(2_000)), "headers": {"Content-Encoding": "gzip"}}, 413),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": None}, 415),
        ({"headers": {"Content-Encoding": "br"}}, 415),
    ],
    ids=lambda value: None if isinstance(value, int) else "-".join(map(str, value.values()))[:40],
)
def test_a_bad_request_gets_its_status_with_a_reason(
    small: Addresses, post: Post, make_request: MakeRequest, arguments: dict[str, object], status: int
) -> None:
    answer = post(small, **({"body": b""} | arguments))
    assert answer[0] == status
    assert _error(answer).message
    assert "access-control-allow-origin" not in answer[1]
    assert post(small, make_request(1).SerializeToString())[0] == 200


def test_a_bad_request_costs_no_other_request(
    start: Start, post: Post, make_request: MakeRequest, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    for number in (1, 2):
        assert post(addresses, b"\xff")[0] == 400
        assert post(addresses, make_request(number).SerializeToString())[0] == 200
    running.close()
    assert stored_numbers() == [1, 2]


def _error(answer: tuple[int, dict[str, str], bytes]) -> Status:
    _, headers, body = answer
    if headers["content-type"] == "application/x-protobuf":
        return Status.FromString(body)
    document = json.loads(body)
    return Status(code=document["code"], message=document["message"])


def test_an_error_is_written_as_the_request_was(small: Addresses, post: Post) -> None:
    _, as_protobuf, _ = post(small, b"\xff")
    _, as_json, _ = post(small, b"{", content_type="application/json; charset=utf-8")
    assert (as_protobuf["content-type"], as_json["content-type"]) == ("application/x-protobuf", "application/json")


HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"


def test_a_body_without_a_length_is_refused_at_the_limit(small: Addresses) -> None:
    with socket.create_connection((small.host, small.http_port), timeout=30) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"258\r\n" + bytes(600) + b"\r\n258\r\n" + bytes(600) + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_stalls_is_let_go(start: Start) -> None:
    addresses = start(request_timeout_s=0.1)
    with socket.create_connection((addresses.host, addresses.http_port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 9\r\n\r\nfour")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_hangs_up_harms_nobody(
    start: Start, post: Post, make_request: MakeRequest, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    with socket.create_connection((addresses.host, addresses.http_port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 9\r\n\r\nfour")
    assert post(addresses, make_request(1).SerializeToString())[0] == 200
    running.close()
    assert stored_numbers() == [1]


def test_healthz_tells_that_requests_are_accepted(small: Addresses, post: Post) -> None:
    assert post(small, b"", path="/healthz", method="GET")[0] == 200


def test_an_empty_request_is_accepted(small: Addresses, post: Post) -> None:
    assert post(small, b"")[0] == 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    db = tmp_path_factory.mktemp("guarded") / "traces.duckdb"
    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0, token="secret")) as addresses:
        yield addresses


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer wrong", "Bearer secret2", "Bearer", "Basic secret", "secret", "Bearer s\xe9cret"],
)
def test_without_the_token_nothing_is_accepted(
    guarded: Addresses, post: Post, make_request: MakeRequest, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    status, answer_headers, _ = post(guarded, make_request(1).SerializeToString(), headers=headers)
    assert (status, answer_headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_it_is_accepted(guarded: Addresses, post: Post, make_request: MakeRequest, scheme: str) -> None:
    body = make_request(1).SerializeToString()
    assert post(guarded, body, headers={"Authorization": f"{scheme} secret"})[0] == 200


def test_a_refusal_is_logged_without_content(small: Addresses, post: Post, caplog: pytest.LogCaptureFixture) -> None:
    post(small, b'{"resourceSpans": "private"}', content_type="application/json")
    assert "refused traces over HTTP: MALFORMED" in caplog.messages
    assert "private" not in caplog.text
