"""From a request's bytes to its acknowledgement, whatever protocol brought it.

An answer is sent when the request is on disk, in the journal. One `fsync` serves every request that waits
for one, so many clients cost little more than one. Memory is bounded by a budget for everything between
the first byte received and the acknowledgement; whoever does not fit is told to come back.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tokenomics_plugin.collector.config import CollectorConfig
from tokenomics_plugin.collector.decoding import Encoding, MediaType, decode, decompress
from tokenomics_plugin.collector.journal import Journal
from tokenomics_plugin.collector.refusal import Refusal, RefusedError
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, check_request, explain

__all__ = ["Receiver", "Reservation"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_logger = logging.getLogger(__name__)

_RESPONSES: Mapping[Signal, tuple[type[Any], str]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points"),
}

# Above this a request is decoded in a thread, and one at a time: the event loop stays free, and the memory
# that parsing takes is taken once. JSON is parsed in Python, 30 times slower, and always goes there: it halves
# the wait of everyone else.
_INLINE_BYTES = 256 * 1024


class Receiver:
    """Accepts requests into a journal. Lives in one event loop."""

    def __init__(self, config: CollectorConfig, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._commits = _GroupCommit(journal)
        self._decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenomics-decode")
        self._in_flight_bytes = 0

    def authenticate(self, authorization: bytes | None) -> None:
        """Check the `Authorization` header, in time that does not depend on where it differs.

        Raises:
            RefusedError: If a token is required and this is not it.
        """
        if self._config.token is None:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._config.token.encode()):
            raise RefusedError(Refusal.UNAUTHENTICATED, "send the collector's token as `Authorization: Bearer TOKEN`")

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Room for one request, empty at first, given back at the end.

        Raises:
            RefusedError: If the journal is full.
        """
        if self._journal.backlog_bytes + self._in_flight_bytes >= self._config.max_backlog_bytes:
            raise self._try_later(Refusal.OVERLOADED, "the journal is full until the store has caught up")
        reservation = Reservation(self._grow)
        try:
            yield reservation
        finally:
            self._in_flight_bytes -= reservation.size_bytes

    async def accept(
        self, body: bytes, *, signal: Signal, media_type: MediaType, encoding: Encoding, room: Reservation
    ) -> Message:
        """Take one request; it is on disk when this returns.

        Args:
            body: As received, already counted in `room`.
            signal: What it carries.
            media_type: How it is written.
            encoding: How it is compressed.
            room: Where the memory for it is booked.

        Returns:
            The signal's `Export*ServiceResponse`, which tells of items that were rejected.

        Raises:
            RefusedError: If nothing of it was accepted.
        """
        is_small = len(body) <= _INLINE_BYTES
        plain = await self._in_turn(is_small, decompress, body, encoding, limit=self._config.max_body_bytes)
        room.grow(len(plain))
        is_quick = len(plain) <= _INLINE_BYTES and media_type is MediaType.PROTOBUF
        payload, response = await self._in_turn(is_quick, self._read, plain, signal, media_type)
        if payload.body:
            await self._commit(payload)
        return response

    async def close(self) -> None:
        """Finish what is being written."""
        await self._commits.flush()
        self._decoder.shutdown()

    def _read(self, plain: bytes, signal: Signal, media_type: MediaType) -> tuple[Payload, Message]:
        # The parsed message dies here: while the request waits for the disk only its bytes are kept.
        message = decode(plain, signal, media_type, max_nodes=self._config.max_nodes)
        body = plain if media_type is MediaType.PROTOBUF else message.SerializeToString()
        return Payload(signal, body), _response(message, signal)

    async def _commit(self, payload: Payload) -> None:
        try:
            await self._commits.commit(payload)
        except OSError as error:
            _logger.error("cannot write the journal: %s", error)
            raise self._try_later(Refusal.UNAVAILABLE, "the collector cannot write to its disk") from error

    async def _in_turn(self, is_quick: bool, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if is_quick:
            return function(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoder, partial(function, *args, **kwargs))

    def _grow(self, size_bytes: int) -> None:
        if self._in_flight_bytes + size_bytes > self._config.max_in_flight_bytes:
            raise self._try_later(Refusal.OVERLOADED, "too many requests at once")
        self._in_flight_bytes += size_bytes

    def _try_later(self, refusal: Refusal, message: str) -> RefusedError:
        return RefusedError(refusal, message, retry_after_s=self._config.retry_after_s)


class Reservation:
    """Memory that one request uses, in the books of the whole collector."""

    def __init__(self, grow: Callable[[int], None]) -> None:
        self._grow = grow
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Book more.

        Raises:
            RefusedError: If the collector has no more to give.
        """
        self._grow(size_bytes)
        self.size_bytes += size_bytes


class _GroupCommit:
    """One write and one `fsync` for all requests that arrived during the last one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[tuple[Payload, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def commit(self, payload: Payload) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((payload, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def flush(self) -> None:
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._journal.append, [payload for payload, _ in batch])
            except Exception as caught:  # whatever it is, those who wait must hear of it
                error = caught
            for _, done in batch:
                _settle(done, error)


def _response(message: Message, signal: Signal) -> Any:
    response_type, count_field = _RESPONSES[signal]
    response = response_type()
    if rejected := check_request(signal, message):
        setattr(response.partial_success, count_field, rejected.total())
        response.partial_success.error_message = explain(rejected)
    return response


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.cancelled():  # the client went away meanwhile
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
