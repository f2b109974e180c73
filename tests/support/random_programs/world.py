"""What one execution of a program shares: its failures, its clock, and a ledger of what its models reported.

Everything random has been decided before: which call fails is counted by the place at which it is made, never
by the order in which threads happen to come. So two executions of a program do the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry import context as otel_context
from opentelemetry import trace

__all__ = ["HAPPENINGS", "SECRET", "WORK", "Unavailable", "World", "current_path"]

current_path: ContextVar[str] = ContextVar("current_path", default="")
"""Which item of the input the code works on that runs now."""

SECRET: Final = "s3cr3t"
"""In every text that users or models write: it may leave the process only with content on."""
WORK: Final = "work inside "
"""What the names of the application's own spans begin with."""

HAPPENINGS: Final = frozenset(
    {
        "a result",
        "an error",
        "the recursion limit",
        "a cancellation",
        "a resume",
        "a stream closed",
        "a stream dropped",
        "a stream kept",
    }
)
"""What an execution can come to."""

Usage = tuple[int, int] | None


class Unavailable(ConnectionError):
    """The one error of all programs: of two that fail in parallel, either may come first."""

    def __init__(self) -> None:
        super().__init__(f"the provider is not available, {SECRET}")


class World:
    """What one execution shares.

    Args:
        tracer: Of the application's own spans.
        wraps_work: Whether the application has any.
        cancel_after: Units of work after which the task is cancelled.
        callbacks: What the program is traced by, beside what the way of tracing adds.
    """

    def __init__(
        self,
        *,
        tracer: trace.Tracer,
        wraps_work: bool,
        cancel_after: int | None,
        callbacks: Sequence[BaseCallbackHandler] = (),
    ) -> None:
        self.callbacks = list(callbacks)
        self.reported: dict[str, Usage] = {}
        """Usage that a model reported, by the id of its response."""
        self.happened: set[str] = set()
        """Which of `HAPPENINGS` it came to."""
        self.resumes = 0
        """How often the program went on after an interrupt."""
        self.leaks: list[str] = []
        """Where the application saw a current span that is none of its own."""
        self.kept: list[Any] = []
        """Streams that are never read to their end."""
        self.work_is_over = threading.Event()
        self.task: asyncio.Task[Any] | None = None
        self._tracer = tracer
        self._wraps_work = wraps_work
        self._cancel_after = cancel_after
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._units = 0
        self._names: Counter[str] = Counter()
        self._ambient = otel_context.get_current().copy()

    def name(self, kind: str) -> str:
        """A name for the next part of a kind; parts are built in one thread, in order."""
        self._names[kind] += 1
        return f"{kind}_{self._names[kind]}"

    def count(self, what: str) -> int:
        """How often this has been asked before for the present item."""
        with self._lock:
            key = current_path.get(), what
            self._counts[key] += 1
            return self._counts[key] - 1

    def fail(self, what: str, failures: int) -> None:
        """Raise, if this is one of the first so many attempts."""
        if failures and self.count(what) < failures:
            raise Unavailable

    def report(self, usage: Usage) -> str:
        """Enter a completed call into the ledger; returns the id of the response."""
        with self._lock:
            response_id = f"resp-{len(self.reported) + 1}"
            self.reported[response_id] = usage
        return response_id

    def tick(self) -> None:
        """A unit of work of a thread, in which the program may be cancelled; the thread finishes later."""
        if self._is_last_unit() and self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)
            self.work_is_over.wait(5)

    async def atick(self) -> None:
        """A unit of work on the event loop, in which the program may be cancelled."""
        await asyncio.sleep(0)
        if self._is_last_unit() and self.task is not None:
            self.task.cancel()
            await asyncio.sleep(5)

    def _is_last_unit(self) -> bool:
        with self._lock:
            self._units += 1
            is_last = self._units == self._cancel_after
        if is_last:
            self.happened.add("a cancellation")
        return is_last

    @contextmanager
    def work(self, where: str) -> Iterator[None]:
        """Where the application does something, perhaps in a span of its own."""
        if not self._wraps_work:
            yield
            return
        with self._tracer.start_as_current_span(WORK + where):
            yield

    def look_around(self, where: str) -> None:
        """Note it, if the current span is not the one that was current when the program began."""
        if otel_context.get_current().copy() != self._ambient:
            self.leaks.append(where)
