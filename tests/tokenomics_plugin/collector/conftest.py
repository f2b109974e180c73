"""Collectors on free ports, and what their stores hold."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig

StartCollector = Callable[..., Addresses]


class HttpAnswer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "traces.duckdb"


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Collectors that a test has started; closing it stops them, so that the store can be looked at."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(db: Path, running: ExitStack) -> StartCollector:
    """Start a collector with some settings changed."""

    def start(**settings: Any) -> Addresses:
        defaults: dict[str, Any] = {"db": db, "http_port": 0, "grpc_port": 0, "load_interval_s": 0.05}
        return running.enter_context(Collector(CollectorConfig(**(defaults | settings))))

    return start


@pytest.fixture
def post() -> Callable[..., HttpAnswer]:
    """Send one HTTP request."""

    def post(
        addresses: Addresses,
        body: bytes,
        *,
        path: str = "/v1/traces",
        method: str = "POST",
        content_type: str | None = "application/x-protobuf",
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        sent = dict(headers or {}) | ({"Content-Type": content_type} if content_type is not None else {})
        with closing(http.client.HTTPConnection(addresses.host, addresses.http_port, timeout=30)) as connection:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return HttpAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    return post


@pytest.fixture
def make_request() -> Callable[[int], ExportTraceServiceRequest]:
    """A request with one span, told apart by its number."""

    def make_request(number: int = 1, *, name: str = "span") -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=1_790_000_000_000_000_000,
            end_time_unix_nano=1_790_000_001_000_000_000,
        )
        return request

    return make_request


@pytest.fixture
def stored_numbers(db: Path) -> Callable[[], list[int]]:
    """The numbers of the requests whose span is in the store, in order, as often as it is there."""

    def stored_numbers() -> list[int]:
        with duckdb.connect(str(db), read_only=True) as store:
            rows = store.execute("SELECT SpanId FROM otel_traces ORDER BY SpanId").fetchall()
        return [int(span_id, 16) for (span_id,) in rows]

    return stored_numbers


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """The nearest thing to a full disk that needs no privileges: writing past the limit fails."""

    @contextmanager
    def file_size_limit(size_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return file_size_limit


class CollectorProcess:
    """A collector in a process of its own, which can be killed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ports = self.process.stdout.readline().split()
        assert ports, self.process.communicate()[1]
        self.addresses = Addresses(host="127.0.0.1", http_port=int(ports[0]), grpc_port=int(ports[1]))

    def signal(self, number: signal.Signals) -> int:
        """Send a signal, and return the status that the process ends with."""
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


_PROGRAM = """
import json, pathlib, sys
from tokenomics_plugin.collector import CollectorConfig, run
settings = json.loads(sys.argv[1])
config = CollectorConfig(**settings | {"db": pathlib.Path(settings["db"])})
run(config, on_ready=lambda addresses: print(addresses.http_port, addresses.grpc_port, flush=True))
"""


@pytest.fixture
def spawn(db: Path) -> Iterator[Callable[..., CollectorProcess]]:
    """Start a collector process with some settings changed."""
    spawned: list[CollectorProcess] = []

    def spawn(**settings: Any) -> CollectorProcess:
        defaults = {"db": str(db), "http_port": 0, "grpc_port": 0, "load_interval_s": 0.05}
        spawned.append(CollectorProcess(defaults | settings))
        return spawned[-1]

    yield spawn
    for collector in spawned:
        collector.process.kill()
        collector.process.communicate()
