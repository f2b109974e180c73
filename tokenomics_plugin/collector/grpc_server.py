"""OTLP/gRPC: the `Export` call of the trace, logs and metrics services.

Calls are handled in threads, although HTTP has an event loop: a call takes several turns of a loop, and in
one that is busy with HTTP it took six times as long as a request over HTTP (measured with 160 HTTP and 40
gRPC clients; in threads it takes about as long).

gRPC's own limits do not hold under attack, so three things are done here instead. Messages are decompressed
by us, bounded. They are handled as streams of one, because a stream's message is only taken off the wire
when it is asked for: so few are read at a time, and the others wait in their clients. And a port is not
shared: gRPC would let a second collector bind it silently.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/gRPC".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc

from tokenomics_plugin.collector.address import bind, bracketed
from tokenomics_plugin.collector.config import CollectorConfig, CollectorError
from tokenomics_plugin.collector.decoding import Encoding, MediaType
from tokenomics_plugin.collector.receiver import Receiver
from tokenomics_plugin.collector.refusal import Refusal, RefusedError
from tokenomics_plugin.otlp_json import Signal

__all__ = ["GrpcServer"]

_logger = logging.getLogger(__name__)

# A call holds a thread until it is acknowledged; a message that is being read may take max_body_bytes.
_THREADS = 32
_CONCURRENT_READS = 16
_CONCURRENT_CALLS_PER_CONNECTION = 256
_FINISH_CALLS_S = 5
_IDENTITY_AND_GZIP = 0b101
# No protobuf starts like this: it would be a field of the undefined wire type 7.
_GZIP_MAGIC = b"\x1f\x8b"


class GrpcServer:
    """A gRPC server whose calls are accepted by a receiver in the running event loop."""

    def __init__(self, config: CollectorConfig, receiver: Receiver) -> None:
        """Bind the address.

        Raises:
            CollectorError: If it is taken, or not an address of this machine.
        """
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._reads = _Reads(config.request_timeout_s)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenomics-grpc")
        self._server = grpc.server(self._threads, options=_options(config.max_body_bytes))
        for signal in Signal:
            export = grpc.stream_unary_rpc_method_handler(self._handler(signal))
            service = grpc.method_handlers_generic_handler(_service_name(signal), {"Export": export})
            self._server.add_generic_rpc_handlers((service,))
        self.port = _bind(self._server, config.host, config.grpc_port)

    async def start(self) -> None:
        """Accept calls from now on."""
        self._server.start()
        self._reads.start()

    async def stop(self) -> None:
        """Accept no more, and finish the calls that are being answered."""
        await asyncio.to_thread(self._server.stop(_FINISH_CALLS_S).wait)
        self._reads.stop()
        await asyncio.to_thread(self._threads.shutdown)  # their calls end in this loop, so it must not wait itself

    def _handler(self, signal: Signal) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        def export(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            try:
                self._receiver.authenticate(_authorization(context))
                body = self._reads.read(messages, context)
                return asyncio.run_coroutine_threadsafe(self._accept(body, signal), self._loop).result()
            except RefusedError as error:
                _logger.warning("refused %s over gRPC: %s", signal, error.refusal.name)
                _abort(context, error)

        return export

    async def _accept(self, body: bytes, signal: Signal) -> bytes:
        encoding = Encoding.GZIP if body.startswith(_GZIP_MAGIC) else Encoding.IDENTITY
        with self._receiver.reserve() as room:
            room.grow(len(body))
            response = await self._receiver.accept(
                body, signal=signal, media_type=MediaType.PROTOBUF, encoding=encoding, room=room
            )
        return response.SerializeToString()


class _Reads:
    """Messages that are being received: few at a time, and each for a limited time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turns = threading.Semaphore(_CONCURRENT_READS)
        self._deadlines: dict[grpc.ServicerContext, float] = {}
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.create_task(self._cancel_late_ones())

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def read(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        with self._turns, self._deadline(context):
            message = next(messages, None)
        if message is None:
            raise RefusedError(Refusal.MALFORMED, "the call carried no message")
        return message

    @contextlib.contextmanager
    def _deadline(self, context: grpc.ServicerContext) -> Iterator[None]:
        self._deadlines[context] = time.monotonic() + self._timeout_s
        try:
            yield
        finally:
            del self._deadlines[context]

    async def _cancel_late_ones(self) -> None:
        while True:
            await asyncio.sleep(self._timeout_s / 4)
            for context, deadline in list(self._deadlines.items()):
                if time.monotonic() > deadline:
                    context.cancel()


def _options(max_body_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_body_bytes),
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
        ("grpc.max_concurrent_streams", _CONCURRENT_CALLS_PER_CONNECTION),
        # Else gRPC would widen each stream's window, and buffer what nobody asked for.
        ("grpc.http2.bdp_probe", 0),
    ]


def _service_name(signal: Signal) -> str:
    (service,) = signal.request_type.DESCRIPTOR.file.services_by_name.values()
    name: str = service.full_name
    return name


def _bind(server: grpc.Server, host: str, port: int) -> int:
    # gRPC prints its own lines when this fails and says less; so it gets a port that was free just now.
    with bind(host, port, purpose="OTLP/gRPC") as free:
        address = f"{bracketed(host)}:{free.getsockname()[1]}"
    try:
        bound: int = server.add_insecure_port(address)
    except RuntimeError as error:
        raise CollectorError(f"cannot listen on {address} for OTLP/gRPC: {error}") from error
    return bound


def _authorization(context: grpc.ServicerContext) -> bytes | None:
    value = dict(context.invocation_metadata()).get("authorization")
    return value.encode() if isinstance(value, str) else value


def _abort(context: grpc.ServicerContext, error: RefusedError) -> NoReturn:
    details = [("grpc-status-details-bin", error.status.SerializeToString())]
    if (info := error.retry_info) is not None:
        # Where the Python SDK looks; the standard place is inside the status above.
        details.append(("google.rpc.retryinfo-bin", info.SerializeToString()))
    context.set_trailing_metadata(tuple(details))
    context.abort(error.refusal.grpc_code, error.message)
    raise AssertionError("abort raises")
