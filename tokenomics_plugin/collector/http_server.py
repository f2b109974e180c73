"""OTLP/HTTP: POST /v1/traces, /v1/logs and /v1/metrics, in protobuf or JSON.

A web page must not be able to write here. Its requests carry `Origin`, which is refused; no CORS header is
ever sent; and a body needs one of two content types that a page may not send unasked.

Source: opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import TypeVar

import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tokenomics_plugin.collector.address import bind, bracketed
from tokenomics_plugin.collector.config import CollectorConfig
from tokenomics_plugin.collector.decoding import Encoding, MediaType
from tokenomics_plugin.collector.receiver import Receiver, Reservation
from tokenomics_plugin.collector.refusal import Refusal, RefusedError
from tokenomics_plugin.live import Access, Desk, page_routes
from tokenomics_plugin.otlp_json import Signal

__all__ = ["HttpServer", "create_app"]

_logger = logging.getLogger(__name__)

_EnumT = TypeVar("_EnumT", bound=StrEnum)

# Longer than the 5 s between two exports of an SDK, so that its pooled connection is still there.
_KEEP_ALIVE_S = 75
_FINISH_REQUESTS_S = 5


def create_app(config: CollectorConfig, receiver: Receiver, desk: Desk) -> Starlette:
    """One endpoint a signal, the pages, and `/healthz` for whoever waits until the collector is up."""
    access = Access(host=bracketed(config.host), token=config.token)
    exports = [Route(f"/v1/{signal}", _endpoint(signal, config, receiver), methods=["POST"]) for signal in Signal]
    return Starlette(
        routes=[*exports, Route("/healthz", _healthz), *page_routes(access, desk)],
        exception_handlers={HTTPException: _on_http_exception},
    )


class HttpServer:
    """uvicorn on a socket of ours, started and stopped inside a running event loop."""

    def __init__(self, app: Starlette, *, host: str, port: int) -> None:
        """Bind the address.

        Raises:
            CollectorError: If it is taken, or not an address of this machine.
        """
        self._socket = bind(host, port, purpose="OTLP/HTTP")
        # h11 is in every installation of uvicorn and bounds the size of headers; httptools does neither.
        uvicorn_config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_FINISH_REQUESTS_S,
        )
        self._server = _Uvicorn(uvicorn_config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port."""
        port: int = self._socket.getsockname()[1]
        return port

    async def start(self) -> None:
        """Accept requests from now on."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Accept no more, and finish the requests that are being answered."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._socket.close()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the collector, which has more to stop than HTTP."""
        yield


def _endpoint(signal: Signal, config: CollectorConfig, receiver: Receiver) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        try:
            return await _export(request, signal, config, receiver)
        except RefusedError as error:
            _logger.warning("refused %s over HTTP: %s", signal, error.refusal.name)
            return _refusal(request, error)
        except ClientDisconnect:
            return Response(status_code=Refusal.TIMED_OUT.http_status)  # nobody is there to read it

    return export


async def _export(request: Request, signal: Signal, config: CollectorConfig, receiver: Receiver) -> Response:
    if "origin" in request.headers:
        raise RefusedError(Refusal.FORBIDDEN, "requests of web pages are not accepted")
    receiver.authenticate(_latin1(request.headers.get("authorization")))
    content_type = request.headers.get("content-type", "").partition(";")[0]
    media_type = _supported(MediaType, content_type, header="Content-Type")
    encoding = _supported(Encoding, request.headers.get("content-encoding", "identity"), header="Content-Encoding")
    with receiver.reserve() as room:
        body = await _body(request, config, room)
        answer = await receiver.accept(body, signal=signal, media_type=media_type, encoding=encoding, room=room)
    return _message(answer, media_type)


async def _body(request: Request, config: CollectorConfig, room: Reservation) -> bytes:
    if int(request.headers.get("content-length", 0)) > config.max_body_bytes:  # h11 has seen that it is a number
        raise _too_large(config)
    body = bytearray()
    try:
        async with asyncio.timeout(config.request_timeout_s):
            async for chunk in request.stream():
                if len(body) + len(chunk) > config.max_body_bytes:
                    raise _too_large(config)
                room.grow(len(chunk))
                body += chunk
    except TimeoutError as error:
        raise RefusedError(Refusal.TIMED_OUT, f"the body took over {config.request_timeout_s:g} s") from error
    return bytes(body)


def _too_large(config: CollectorConfig) -> RefusedError:
    return RefusedError(Refusal.TOO_LARGE, f"a request may have {config.max_body_bytes} bytes; send smaller ones")


def _supported(kind: type[_EnumT], value: str, *, header: str) -> _EnumT:
    try:
        return kind(value.strip().lower())
    except ValueError as error:
        expected = " or ".join(kind)
        raise RefusedError(Refusal.UNSUPPORTED, f"{header} must be {expected}, got {value!r}") from error


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown path, or a method other than POST."""
    assert isinstance(error, HTTPException)
    refusal = Refusal.METHOD_NOT_ALLOWED if error.status_code == 405 else Refusal.NOT_FOUND
    expected = ", ".join(f"/v1/{signal}" for signal in Signal)
    response = _refusal(request, RefusedError(refusal, f"{error.detail}: POST to {expected}"))
    response.headers.update(error.headers or {})
    return response


def _refusal(request: Request, error: RefusedError) -> Response:
    is_protobuf = request.headers.get("content-type", "").lower().startswith(MediaType.PROTOBUF)
    response = _message(error.status, MediaType.PROTOBUF if is_protobuf else MediaType.JSON)
    response.status_code = error.refusal.http_status
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.refusal is Refusal.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _message(message: Message, media_type: MediaType) -> Response:
    if media_type is MediaType.PROTOBUF:
        return Response(message.SerializeToString(), media_type=media_type)
    return Response(json.dumps(json_format.MessageToDict(message), separators=(",", ":")), media_type=media_type)


def _latin1(header: str | None) -> bytes | None:
    return None if header is None else header.encode("latin-1")
