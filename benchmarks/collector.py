"""How fast the collector acknowledges spans, and whether it keeps every one that it acknowledged.

Load: many clients send spans over OTLP/HTTP (protobuf and JSON) and OTLP/gRPC, each waiting for the
acknowledgement of a request before it sends the next, and sending again what was not acknowledged. Meanwhile
processes of the collector are killed with SIGKILL at random moments, and the collector is started again. In
the end the store must hold each acknowledged span exactly once, by the clients' own ledger.

Fuzzing: mutated and random bodies and headers over both protocols. None may get a 5xx (over gRPC: UNKNOWN or
INTERNAL), and a valid request sent afterwards must be stored.

What limits: one core of Python for HTTP and protobuf on the way to the journal, and another one for the
loading process; here the clients use those cores too. `fsync` is as fast as the disk says it is.

The table is for people; the last line of stdout is one JSON document with the same figures and the checks.
The exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import grpc
import grpc.aio
import psutil
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tqdm import tqdm

from closing import Check, close
from tokenomics_plugin.otlp_json import to_json

SPANS_PER_REQUEST = 100
GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RETRYABLE_GRPC = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
RETRY_PAUSE_S = 0.1
RSS_GOAL_BYTES = 2**30
# Stands in a prebuilt request for the id of its trace: the same first half, and the request's number.
TRACE_ID_PREFIX, PLACEHOLDER = b"benchmrk", b"benchmrk" + b"\xa5\x5a" * 4


# The same for the valid requests among fuzzed ones.
VALID_PREFIX = b"validone"
FUZZ_CLIENTS = 8
FUZZ_TIMEOUT_S = 60
FAILURES = (
    "http 5",
    "http timeout",
    "http no answer",
    "grpc UNKNOWN",
    "grpc INTERNAL",
    "grpc DEADLINE_EXCEEDED",
    "grpc UNAVAILABLE",
)
BAD_PATHS = (
    "/",
    "/v1",
    "/v1/traces/",
    "/v1/%00",
    "/v1/profiles",
    "//v1/traces",
    "/v1/traces?x=%ff",
    "*",
    "http://x/v1/traces",
)
JSON_TOKENS = (
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'""',
    b"9" * 400,
    b'"\\ud800"',
    b"true",
    b'"0x"',
    b"1.5",
    b'"\xff"',
)


class Protocol(StrEnum):
    """What a client speaks."""

    HTTP_PROTOBUF = "http/protobuf"
    HTTP_GZIP = "http/protobuf+gzip"
    HTTP_JSON = "http/json"
    GRPC = "grpc"


# What ten clients speak. JSON is the dearest to parse, and the rarest in the field.
MIX = (*[Protocol.HTTP_PROTOBUF] * 6, Protocol.HTTP_GZIP, Protocol.GRPC, Protocol.GRPC, Protocol.HTTP_JSON)


class Victim(StrEnum):
    """Which process is killed."""

    COLLECTOR = "collector"
    LOADER = "loader"
    BOTH = "both"


def main() -> None:
    options = parse_options()
    print(__doc__.partition("\n\n")[0], end="\n\n")
    with tempfile.TemporaryDirectory(prefix="tokenomics-bench-") as folder:
        collector = CollectorProcess(Path(folder))
        figures = run_load(collector, options) | run_fuzz(collector, options)
    print_table(figures)
    packages = ("duckdb", "pyarrow", "protobuf", "grpcio", "starlette", "uvicorn")
    checks = make_checks(figures, options)
    close("collector", packages=packages, options=vars(options), figures=figures, checks=checks)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--spans", type=int, default=1_000_000, help="spans in all (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=200, help="concurrent clients (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=4, help="SIGKILLs during the load (default: %(default)s)")
    parser.add_argument("--fuzz", type=int, default=10_000, help="fuzzed requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="repeats a run (default: random)")
    return parser.parse_args()


# The collector under test


class CollectorProcess:
    """`tokenomics collect` in a process of its own, on the same ports and database over all its lives."""

    def __init__(self, folder: Path) -> None:
        self.db = folder / "bench.duckdb"
        self.log = folder / "collector.log"
        self.http_port = self.grpc_port = 0
        self.rss = RssSampler()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start, and wait until it listens; returns how long that took."""
        started = time.perf_counter()
        command = [sys.executable, "-m", "tokenomics_plugin.cli", "collect", "--db", str(self.db)]
        ports = ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        match = re.match(r"listening http=\S+:(\d+) grpc=\S+:(\d+) ", line)
        if match is None:
            sys.exit(f"the collector did not start: {line!r}\n{self.log.read_text(encoding='utf-8')[-2000:]}")
        self.http_port, self.grpc_port = map(int, match.groups())
        self.rss.pid = self._process.pid
        return time.perf_counter() - started

    def kill(self, victim: Victim) -> None:
        """SIGKILL; the loader alone is the collector's to replace, else `start` is called for."""
        assert self._process is not None
        collector = psutil.Process(self._process.pid)
        victims = collector.children() if victim is not Victim.COLLECTOR else []
        if victim is not Victim.LOADER:
            victims.append(collector)
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if victim is not Victim.LOADER:
            self._process.communicate()

    def stop(self) -> int:
        """SIGTERM, and wait until everything is in the store; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate()
        return self._process.returncode


class RssSampler:
    """Peak memory of a process and its children, looked at 20 times a second.

    Shared pages count once for each process, so this is rather too much than too little.
    """

    def __init__(self) -> None:
        self.peak_bytes = self.peak_collector_bytes = self.peak_loader_bytes = 0
        self.pid: int | None = None
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            if self.pid is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._look(psutil.Process(self.pid))
            time.sleep(0.05)

    def _look(self, process: psutil.Process) -> None:
        collector = process.memory_info().rss
        loader = sum(child.memory_info().rss for child in process.children(recursive=True))
        self.peak_bytes = max(self.peak_bytes, collector + loader)
        self.peak_collector_bytes = max(self.peak_collector_bytes, collector)
        self.peak_loader_bytes = max(self.peak_loader_bytes, loader)


# Load


@dataclass
class Ledger:
    """What clients know for certain."""

    acknowledged: dict[Protocol, list[int]] = field(default_factory=lambda: {protocol: [] for protocol in Protocol})
    """Numbers of acknowledged requests."""
    latencies_s: dict[Protocol, list[float]] = field(default_factory=lambda: {protocol: [] for protocol in Protocol})
    """From sending to acknowledgement, of the attempts that succeeded."""
    retries: Counter[str] = field(default_factory=Counter)
    """Attempts that did not succeed, by reason."""

    @property
    def count(self) -> int:
        """How many requests were acknowledged."""
        return sum(map(len, self.acknowledged.values()))


def run_load(collector: CollectorProcess, options: argparse.Namespace) -> dict[str, Any]:
    """Send all spans, killing meanwhile; then compare the store with the ledger."""
    requests = -(-options.spans // SPANS_PER_REQUEST)
    ledger = Ledger()
    start_s = collector.start()
    began = time.perf_counter()
    kills = asyncio.run(send_all(collector, ledger, requests, options))
    acknowledged_s = time.perf_counter() - began
    status = collector.stop()
    stored_s = time.perf_counter() - began
    return {
        "clients": options.clients,
        "spans_acknowledged": ledger.count * SPANS_PER_REQUEST,
        "requests_by_protocol": {protocol: len(numbers) for protocol, numbers in ledger.acknowledged.items()},
        "kills": kills,
        "retries": dict(ledger.retries),
        "first_start_s": start_s,
        "spans_per_second_acknowledged": ledger.count * SPANS_PER_REQUEST / acknowledged_s,
        "spans_per_second_stored": ledger.count * SPANS_PER_REQUEST / stored_s,
        "ack_latency_ms": {protocol: percentiles_ms(latencies) for protocol, latencies in ledger.latencies_s.items()},
        "rss_peak_bytes": collector.rss.peak_bytes,
        "rss_peak_bytes_collector": collector.rss.peak_collector_bytes,
        "rss_peak_bytes_loader": collector.rss.peak_loader_bytes,
        "exit_status": status,
        "db_bytes": collector.db.stat().st_size,
        **compare_with_store(ledger, collector.db),
    }


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {f"p{share}": round(1e3 * cuts[share - 1], 1) for share in (50, 95, 99)} | {"max": 1e3 * max(seconds)}


async def send_all(
    collector: CollectorProcess, ledger: Ledger, requests: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    numbers = iter(range(requests))
    with tqdm(total=requests * SPANS_PER_REQUEST, unit="span", unit_scale=True, desc="load", mininterval=1) as progress:
        killing = asyncio.create_task(kill_at_random(collector, ledger, requests, options))
        await asyncio.gather(
            *(send(MIX[client % len(MIX)], collector, numbers, ledger, progress) for client in range(options.clients))
        )
        return await killing


async def kill_at_random(
    collector: CollectorProcess, ledger: Ledger, requests: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Kill at random shares of the load, each victim in turn, and start again what needs it."""
    rng = random.Random(options.seed)
    victims = [*Victim] * options.kills
    kills = []
    for moment, victim in zip(sorted(rng.uniform(0.05, 0.95) for _ in range(options.kills)), victims, strict=False):
        while ledger.count < moment * requests:
            await asyncio.sleep(0.01)
        collector.kill(victim)
        restart_s = await asyncio.to_thread(collector.start) if victim is not Victim.LOADER else None
        kills.append({"victim": victim, "at_share": moment, "restart_s": restart_s})
    return kills


async def send(
    protocol: Protocol, collector: CollectorProcess, numbers: Iterator[int], ledger: Ledger, progress: tqdm[Any]
) -> None:
    """One client: takes the next request, and sends it until it is acknowledged."""
    build = request_builder(protocol)
    client = GrpcClient(collector) if protocol is Protocol.GRPC else HttpClient(collector, protocol)
    for number in numbers:
        body = build(number)
        while True:
            began = time.perf_counter()
            failure = await client.export(body)
            if failure is None:
                break
            ledger.retries[failure] += 1
            await asyncio.sleep(RETRY_PAUSE_S)
        ledger.latencies_s[protocol].append(time.perf_counter() - began)
        ledger.acknowledged[protocol].append(number)
        progress.update(SPANS_PER_REQUEST)
    await client.close()


class HttpClient:
    """The least HTTP/1.1 that keeps one connection busy: two cores serve the clients as well."""

    def __init__(self, collector: CollectorProcess, protocol: Protocol) -> None:
        content_type = "application/json" if protocol is Protocol.HTTP_JSON else "application/x-protobuf"
        encoding = "Content-Encoding: gzip\r\n" if protocol is Protocol.HTTP_GZIP else ""
        self._head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n{encoding}"
        self._connection = HttpConnection(collector)

    async def export(self, body: bytes) -> str | None:
        """Returns `None` when acknowledged, else why to try again."""
        try:
            status = await self._connection.send(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except (OSError, asyncio.IncompleteReadError) as error:
            return type(error).__name__
        if status not in (200, 429, 503):
            raise RuntimeError(f"a valid request was answered with {status}")
        return None if status == 200 else str(status)

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()


class HttpConnection:
    """A connection that is made when needed, and dropped when it fails."""

    def __init__(self, collector: CollectorProcess) -> None:
        self._collector = collector
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> int:
        """Send the bytes of a request; returns the status of its answer."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._collector.http_port)
            reader, writer = self._streams
            writer.write(request)
            head = b"http/1.1 100"
            while head.startswith(b"http/1.1 100"):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if length := re.search(rb"content-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
            if b"connection: close" in head:
                await self.close()
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            raise
        return int(head[9:12])

    async def close(self) -> None:
        """Hang up; `send` connects again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class GrpcClient:
    """One channel with a connection of its own."""

    def __init__(self, collector: CollectorProcess) -> None:
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        )
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{collector.grpc_port}", options=options)
        self._export = self._channel.unary_unary(GRPC_METHOD)

    async def export(self, body: bytes) -> str | None:
        """Returns `None` when acknowledged, else why to try again."""
        try:
            await self._export(body, timeout=30)
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRYABLE_GRPC:
                raise
            return str(error.code().name)
        return None

    async def status(self, body: bytes) -> str:
        """The name of the status that the call ends with."""
        try:
            await self._export(body, timeout=FUZZ_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()


def request_builder(protocol: Protocol) -> Callable[[int], bytes]:
    """A function from a request's number to its body: only the trace id changes, so building is cheap."""
    request = template()
    if protocol is Protocol.HTTP_JSON:
        text = to_json(request).encode()
        return lambda number: text.replace(PLACEHOLDER.hex().encode(), trace_id(number).hex().encode())
    body = request.SerializeToString()
    if protocol is Protocol.HTTP_GZIP:
        return lambda number: gzip.compress(body.replace(PLACEHOLDER, trace_id(number)), compresslevel=1)
    return lambda number: body.replace(PLACEHOLDER, trace_id(number))


def trace_id(number: int) -> bytes:
    return TRACE_ID_PREFIX + number.to_bytes(8, "big")


@cache
def template() -> ExportTraceServiceRequest:
    """One trace of an agent: model calls with the attributes that this project's own callback sets."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    set_attributes(resource.resource.attributes, {"service.name": "benchmark", "telemetry.sdk.language": "python"})
    scope = resource.scope_spans.add()
    scope.scope.name = "tokenomics_langchain"
    for index in range(1, SPANS_PER_REQUEST + 1):
        span = scope.spans.add(
            trace_id=PLACEHOLDER,
            span_id=index.to_bytes(8, "big"),
            parent_span_id=(1).to_bytes(8, "big") if index > 1 else b"",
            name="chat SmolLM2-135M-Instruct",
            kind=3,
            start_time_unix_nano=1_790_000_000_000_000_000 + index * 1_000_000,
            end_time_unix_nano=1_790_000_000_000_000_000 + index * 1_500_000,
        )
        set_attributes(span.attributes, call_attributes(index))
    return request


def call_attributes(index: int) -> dict[str, str | int]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "local",
        "gen_ai.request.model": "SmolLM2-135M-Instruct",
        "gen_ai.response.model": "SmolLM2-135M-Instruct",
        "gen_ai.response.id": f"run-{index:032x}",
        "gen_ai.conversation.id": f"thread-{index % 7}",
        "gen_ai.agent.name": "researcher",
        "gen_ai.usage.input_tokens": 900 + index,
        "gen_ai.usage.output_tokens": 80 + index,
        "gen_ai.usage.cache_read.input_tokens": 512,
        "tokenomics.task.id": f"task-{index % 11}",
    }


def set_attributes(target: Any, attributes: dict[str, str | int]) -> None:
    for key, value in attributes.items():
        item = target.add(key=key)
        if isinstance(value, int):
            item.value.int_value = value
        else:
            item.value.string_value = value


def compare_with_store(ledger: Ledger, db: Path) -> dict[str, int]:
    """Count what the clients were promised and the store lacks, and what it holds more than once."""
    with duckdb.connect(str(db), read_only=True) as store:
        query = "SELECT TraceId, count(*), count(DISTINCT SpanId) FROM otel_traces GROUP BY TraceId"
        stored = {trace: (rows, spans) for trace, rows, spans in store.execute(query).fetchall()}
    promised = [trace_id(number).hex() for numbers in ledger.acknowledged.values() for number in numbers]
    return {
        "spans_stored": sum(rows for rows, _ in stored.values()),
        "acknowledged_spans_missing": sum(SPANS_PER_REQUEST - stored.get(trace, (0, 0))[1] for trace in promised),
        "spans_stored_twice": sum(rows - spans for rows, spans in stored.values()),
    }


# Fuzzing


@dataclass(frozen=True, kw_only=True)
class FuzzCase:
    """A request as nobody should send it."""

    body: bytes
    method: str = "POST"
    path: str = "/v1/traces"
    headers: tuple[str, ...] = ()
    over_grpc: bool = False


def run_fuzz(collector: CollectorProcess, options: argparse.Namespace) -> dict[str, Any]:
    """Send fuzzed requests with valid ones among them; then see what was answered and what is stored."""
    collector.start()
    collector.rss.peak_bytes = 0
    answers: Counter[str] = Counter()
    began = time.perf_counter()
    valid = asyncio.run(send_fuzz(collector, answers, options))
    elapsed_s = time.perf_counter() - began
    status = collector.stop()
    log = collector.log.read_text(encoding="utf-8")
    if "Traceback" in log:
        print(log[log.index("Traceback") :][:20_000], file=sys.stderr)
    bad = {answer: count for answer, count in answers.items() if answer.startswith(FAILURES)}
    return {
        "fuzz_requests": answers.total(),
        "fuzz_requests_per_second": answers.total() / elapsed_s,
        "fuzz_answers": dict(answers.most_common()),
        "fuzz_failures": bad,
        "fuzz_rss_peak_bytes": collector.rss.peak_bytes,
        "fuzz_exit_status": status,
        "fuzz_valid_requests": valid,
        "fuzz_valid_requests_missing": valid - count_traces(collector.db, VALID_PREFIX),
        "fuzz_unreadable_segments": len(list(collector.db.parent.glob("*.journal/*.unreadable"))),
        "tracebacks_in_log": log.count("Traceback"),
    }


async def send_fuzz(collector: CollectorProcess, answers: Counter[str], options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    cases = itertools.islice(itertools.chain(bombs(), (fuzz_case(rng) for _ in itertools.count())), options.fuzz)
    with tqdm(total=options.fuzz, unit="request", desc="fuzz", mininterval=1) as progress:
        valid = await asyncio.gather(
            *(fuzz_client(client, cases, collector, answers, progress) for client in range(FUZZ_CLIENTS))
        )
    return sum(valid)


async def fuzz_client(
    client: int, cases: Iterator[FuzzCase], collector: CollectorProcess, answers: Counter[str], progress: tqdm[Any]
) -> int:
    """Send cases, and after every hundred a valid request; returns how many valid ones were acknowledged."""
    http, valid = HttpConnection(collector), HttpClient(collector, Protocol.HTTP_PROTOBUF)
    grpc_client = GrpcClient(collector)
    acknowledged = 0
    for count, case in enumerate(cases):
        answers[await fuzz_answer(case, http, grpc_client)] += 1
        progress.update()
        if count % 100 == 0:
            number = client * 1_000_000 + count
            body = template().SerializeToString().replace(PLACEHOLDER, VALID_PREFIX + number.to_bytes(8, "big"))
            while (failure := await valid.export(body)) == "429":  # as it may be while bombs are defused
                await asyncio.sleep(RETRY_PAUSE_S)
            if failure is not None:
                raise RuntimeError(f"a valid request between fuzzed ones was not accepted: {failure}")
            acknowledged += 1
    for connection in (http, valid, grpc_client):
        await connection.close()
    return acknowledged


async def fuzz_answer(case: FuzzCase, http: HttpConnection, grpc_client: GrpcClient) -> str:
    if case.over_grpc:
        return f"grpc {await grpc_client.status(case.body)}"
    head = "\r\n".join([f"{case.method} {case.path} HTTP/1.1", *case.headers, f"Content-Length: {len(case.body)}"])
    request = head.encode("latin-1") + b"\r\n\r\n" + case.body
    for _ in range(2):  # the first may meet a connection that the answer before it has closed
        try:
            return f"http {await asyncio.wait_for(http.send(request), FUZZ_TIMEOUT_S)}"
        except TimeoutError:
            await http.close()
            return "http timeout"
        except (OSError, asyncio.IncompleteReadError):
            pass
    return "http no answer"


def bombs() -> Iterator[FuzzCase]:
    """Small requests that are large, or take much memory, once they are unpacked; many at once."""
    spans = b"\x12\x00" * (15 * 2**19)
    for name, body in (
        ("protobuf", bytes(2**30)),
        ("protobuf", length_delimited(1, length_delimited(2, spans))),
        ("json", b'{"resourceSpans": [' + b"[]," * (5 * 2**20) + b"[]]}"),
        ("json", b"[" * 10_000_000),
        ("json", b'{"resourceSpans": [' + b"1," * (7 * 2**20) + b"1]}"),
    ):
        content_type = "application/json" if name == "json" else "application/x-protobuf"
        headers = ("Host: localhost", f"Content-Type: {content_type}", "Content-Encoding: gzip")
        packed = gzip.compress(body, compresslevel=1)
        yield from [FuzzCase(body=packed, headers=headers)] * FUZZ_CLIENTS
        if name == "protobuf":
            yield FuzzCase(body=packed, over_grpc=True)


def length_delimited(number: int, content: bytes) -> bytes:
    """A protobuf field that holds bytes or a message."""
    size, varint = len(content), bytearray()
    while size >= 0x80:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *varint, size]) + content


def fuzz_case(rng: random.Random) -> FuzzCase:
    is_json = rng.random() < 0.4
    body = fuzz_json(rng) if is_json else fuzz_protobuf(rng)
    if rng.random() < 0.15:
        return FuzzCase(body=body, over_grpc=True)
    encoding = rng.choices(["", "identity", "gzip", "deflate", "br", "gzip, gzip", "\xff"], [60, 5, 25, 4, 2, 2, 2])[0]
    if encoding == "gzip" and rng.random() < 0.8:
        body = gzip.compress(body, compresslevel=1)
        body = mutate(body, rng) if rng.random() < 0.3 else body
    content_type = "application/json" if is_json else "application/x-protobuf"
    if rng.random() < 0.1:
        content_type = rng.choice(["", "text/plain", "application/json;charset=\xe9", "application/grpc", "*/*", ";"])
    headers = [
        "Host: localhost",
        f"Content-Type: {content_type}",
        *([f"Content-Encoding: {encoding}"] if encoding else []),
    ]
    if rng.random() < 0.05:
        headers.append(
            rng.choice(["Origin: null", "X: " + "y" * 9_000, "Expect: 100-continue", "no colon", "A:\x00", ":"])
        )
    return FuzzCase(
        body=body,
        method="POST" if rng.random() < 0.95 else rng.choice(["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "p"]),
        path=rng.choice(["/v1/traces", "/v1/logs", "/v1/metrics"]) if rng.random() < 0.95 else rng.choice(BAD_PATHS),
        headers=tuple(headers),
    )


def fuzz_protobuf(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(2_000))
    body = rng.choice(corpus())[0]
    for _ in range(rng.randrange(3)):
        body = mutate(body, rng)
    return body


def fuzz_json(rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return json.dumps(random_document(rng)).encode()
    text = rng.choice(corpus())[1]
    if rng.random() < 0.6:  # keeps the syntax, so that the fault is found further in
        token = rng.choice(re.findall(rb'"[^"]*"|\d+', text))
        return text.replace(token, rng.choice(JSON_TOKENS), rng.randrange(1, 4))
    return mutate(text, rng)


def random_document(rng: random.Random, depth: int = 0) -> Any:
    keys = ("resourceSpans", "scopeSpans", "spans", "traceId", "attributes", "value", "kvlistValue", "arrayValue", "x")
    kind = rng.randrange(8 if depth < 6 else 5)
    if kind < 5:
        return (None, True, rng.randrange(-(2**70), 2**70), rng.random() * 1e300, "\ud800")[kind]
    if kind == 5:
        return [random_document(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(keys): random_document(rng, depth + 1) for _ in range(rng.randrange(1, 4))}


def mutate(body: bytes, rng: random.Random) -> bytes:
    if not body:
        return rng.randbytes(3)
    start = rng.randrange(len(body))
    end = min(len(body), start + rng.randrange(1, 40))
    piece = body[start:end]
    replacement = (
        b"",  # a piece is missing
        piece * 2,
        rng.randbytes(len(piece)),
        bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:],
        rng.choice([b"\x00", b"\xff", b"\x7f", b"\x80"]) * len(piece),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # the largest varint
        body[: rng.randrange(len(body))],
    )
    if rng.random() < 0.1:
        return body[:start]
    return body[:start] + rng.choice(replacement) + body[end:]


@cache
def corpus() -> tuple[tuple[bytes, bytes], ...]:
    """Valid requests of each signal with a bit of everything, in protobuf and in JSON."""
    traces, logs, metrics = ExportTraceServiceRequest(), ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    traces.CopyFrom(template())
    scope = traces.resource_spans[0].scope_spans[0]
    del scope.spans[3:]
    scope.spans[0].trace_id = b"fuzzfuzzfuzzfuzz"
    scope.spans[0].events.add(name="event", time_unix_nano=1).attributes.add(key="k").value.double_value = 0.5
    scope.spans[0].links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    nested = scope.spans[0].attributes.add(key="nested").value.kvlist_value.values.add(key="a")
    nested.value.array_value.values.add().bytes_value = b"\x00\xff"
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1, event_name="gen_ai.x")
    record.body.string_value = "text"
    series = metrics.resource_metrics.add().scope_metrics.add().metrics
    series.add(name="sum").sum.data_points.add(as_int=1, time_unix_nano=1)
    series.add(name="gauge").gauge.data_points.add(as_double=1.5, time_unix_nano=1)
    points = series.add(name="histogram").histogram.data_points
    points.add(count=3, sum=1.0, bucket_counts=[1, 2], explicit_bounds=[0.5], time_unix_nano=1)
    series.add(name="exponential").exponential_histogram.data_points.add(count=1, scale=2, time_unix_nano=1)
    series.add(name="summary").summary.data_points.add(count=1, time_unix_nano=1).quantile_values.add(quantile=0.5)
    return tuple((request.SerializeToString(), to_json(request).encode()) for request in (traces, logs, metrics))


def count_traces(db: Path, prefix: bytes) -> int:
    with duckdb.connect(str(db), read_only=True) as store:
        query = "SELECT count(DISTINCT TraceId) FROM otel_traces WHERE starts_with(TraceId, ?)"
        row = store.execute(query, [prefix.hex()]).fetchone()
    assert row is not None
    return int(row[0])


# Report


def make_checks(figures: dict[str, Any], options: argparse.Namespace) -> list[Check]:
    """What must be so, computed from the figures alone."""
    nothing = (
        "acknowledged_spans_missing",
        "spans_stored_twice",
        "exit_status",
        "fuzz_exit_status",
        "fuzz_valid_requests_missing",
        "fuzz_unreadable_segments",
        "tracebacks_in_log",
    )
    wanted_spans = -(-options.spans // SPANS_PER_REQUEST) * SPANS_PER_REQUEST
    exactly = dict.fromkeys(nothing, 0) | {"spans_acknowledged": wanted_spans, "fuzz_requests": options.fuzz}
    checks = [
        Check(name=name, value=figures[name], goal=f"== {goal}", holds=figures[name] == goal)
        for name, goal in exactly.items()
    ]
    checks += [
        Check(name=name, value=figures[name], goal=f"< {RSS_GOAL_BYTES}", holds=figures[name] < RSS_GOAL_BYTES)
        for name in ("rss_peak_bytes", "fuzz_rss_peak_bytes")
    ]
    failures, sigkills = sum(figures["fuzz_failures"].values()), len(figures["kills"])
    return [
        *checks,
        Check(name="fuzz_failures", value=failures, goal="== 0", holds=failures == 0),
        Check(name="sigkills", value=sigkills, goal=f"== {options.kills}", holds=sigkills == options.kills),
    ]


def print_table(figures: dict[str, Any]) -> None:
    for name, value in rows(figures):
        print(f"{name:44} {value:>16,.1f}" if isinstance(value, float) else f"{name:44} {value:>16}")


def rows(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Figures one a line, nested ones under their path."""
    for name, value in figures.items():
        match value:
            case dict():
                yield from rows(value, f"{prefix}{name} ")
            case list():
                yield from rows({str(number): item for number, item in enumerate(value, start=1)}, f"{prefix}{name} ")
            case _:
                yield f"{prefix}{name}", "-" if value is None else value


if __name__ == "__main__":
    main()
