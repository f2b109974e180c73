"""The collector as a whole: journal, loader and both servers, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from tokenomics_plugin.collector.address import bracketed
from tokenomics_plugin.collector.config import CollectorConfig, CollectorError
from tokenomics_plugin.collector.grpc_server import GrpcServer
from tokenomics_plugin.collector.http_server import HttpServer, create_app
from tokenomics_plugin.collector.journal import Journal
from tokenomics_plugin.collector.loader import Loader
from tokenomics_plugin.collector.receiver import Receiver
from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.live import Desk
from tokenomics_plugin.store import TraceStore

__all__ = ["Addresses", "Collector", "run"]


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a running collector listens; differs from its settings where a port was 0."""

    host: str
    """Address, as configured."""
    http_port: int
    """Port of OTLP/HTTP."""
    grpc_port: int
    """Port of OTLP/gRPC."""

    @property
    def http(self) -> str:
        """`host:port` of OTLP/HTTP."""
        return f"{bracketed(self.host)}:{self.http_port}"

    @property
    def grpc(self) -> str:
        """`host:port` of OTLP/gRPC."""
        return f"{bracketed(self.host)}:{self.grpc_port}"


class Collector:
    """A collector in a thread of this process, for tests and short scripts; `run` is for a process of its own.

    Example:
        with Collector(CollectorConfig(db=Path("traces.duckdb"), http_port=0, grpc_port=0)) as addresses:
            configure(endpoint=f"http://{addresses.http}")
    """

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._ready: Future[Addresses] = Future()
        self._request_stop: Callable[[], object] | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="tokenomics-collector")

    def start(self) -> Addresses:
        """Start listening; once for each object.

        Raises:
            CollectorError: If an address is taken, or the database or its journal cannot be used.
        """
        self._thread.start()
        return self._ready.result()

    def stop(self) -> None:
        """Finish requests, load what was acknowledged, and stop; harmless when stopped already."""
        if self._request_stop is not None:
            self._request_stop()
            self._request_stop = None
        self._thread.join()

    def __enter__(self) -> Addresses:
        """Start listening."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        try:
            async with _serving(self._config) as addresses:
                self._request_stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
                self._ready.set_result(addresses)
                await stopping.wait()
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)


def run(config: CollectorConfig, *, on_ready: Callable[[Addresses], object] = lambda addresses: None) -> None:
    """Collect until SIGINT or SIGTERM, then finish requests and load what was acknowledged.

    A second signal ends the process at once; the journal keeps the rest for the next start. Must be called
    in the main thread, where signals arrive.

    Args:
        config: What to listen on and where to store.
        on_ready: Called once requests are accepted.

    Raises:
        CollectorError: If an address is taken, or the database or its journal cannot be used.
    """
    asyncio.run(_run(config, on_ready))


async def _run(config: CollectorConfig, on_ready: Callable[[Addresses], object]) -> None:
    stopping = asyncio.Event()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    async with _serving(config) as addresses:
        on_ready(addresses)
        await stopping.wait()


@asynccontextmanager
async def _serving(config: CollectorConfig) -> AsyncIterator[Addresses]:
    # What is entered last leaves first: servers, then requests, then the loader, then the journal.
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(closing(_open(config)))
        loader = Loader(config, journal)
        stack.push_async_callback(asyncio.to_thread, loader.stop)
        receiver = Receiver(config, journal)
        stack.push_async_callback(receiver.close)
        desk = Desk(config.db, config.prices)
        stack.push_async_callback(desk.close)
        http = HttpServer(create_app(config, receiver, desk), host=config.host, port=config.http_port)
        stack.push_async_callback(http.stop)
        grpc = GrpcServer(config, receiver)
        stack.push_async_callback(grpc.stop)
        await asyncio.to_thread(_check_store, config)
        loader.start()
        await http.start()
        await grpc.start()
        yield Addresses(host=config.host, http_port=http.port, grpc_port=grpc.port)


def _open(config: CollectorConfig) -> Journal:
    try:
        return Journal(config.journal_folder, segment_bytes=config.segment_bytes)
    except OSError as error:
        raise CollectorError(f"cannot write beside {config.db}: {error}") from error


def _check_store(config: CollectorConfig) -> None:
    """Find out now whether the file is a store; also makes a new one, so that a report can open it at once."""
    try:
        TraceStore(config.db).close()
    except StoreError as error:
        raise CollectorError(str(error)) from error
