"""The current span while a model is called, so that the spans of its HTTP client nest under the call's.

A callback cannot make the span of just any model call current: between two chunks of a stream, the code that
consumes it would run under that span, and a stream that nobody finishes would leave it behind. What it takes is the
frames in which the model works. A call that returns an answer has one. A stream works in steps, and each step gets
the span back that the stream's consumer never sees.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from functools import partial, wraps
from types import TracebackType
from typing import Any
from uuid import UUID

from langchain_core.language_models import BaseChatModel
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span, set_span_in_context

from tokenomics_langchain.ambient import AmbientSpan
from tokenomics_langchain.live_runs import LiveRun

__all__ = ["FindRun", "ModelFrames"]

_LOGGER = logging.getLogger(__name__)

FindRun = Callable[[UUID], LiveRun | None]
"""A model call, by the id of its run; `None` where nothing records it."""

_beginning: ContextVar[_Stream | None] = ContextVar("tokenomics_stream_that_begins", default=None)


class _Stream:
    """The steps of one stream: `with` it, its model works."""

    def __init__(self) -> None:
        self._has_begun = False
        self._inside: Context | None = None
        self._outside: Context | None = None

    def begin(self, call: LiveRun | None) -> None:
        """Make its span current in this step, and in those that follow."""
        self._has_begun = True
        span = None if call is None else call.started_span()
        if span is not None and get_current_span() is not span:
            self._inside = set_span_in_context(span)
            otel_context.attach(self._inside)

    def __enter__(self) -> None:
        if not self._has_begun:
            _beginning.set(self)
        self._outside = otel_context.get_current()
        if self._inside is not None:
            otel_context.attach(self._inside)

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        # Compared, for the garbage collector may close a coroutine amid a step, in anybody's context.
        if _beginning.get() is self:
            _beginning.set(None)
        if self._inside is not None and self._outside is not None and otel_context.get_current() is self._inside:
            otel_context.attach(self._outside)


class ModelFrames:
    """Makes the spans of all chat model calls current in their frames, from `install` to `remove`.

    Args:
        find_run: Finds model calls.
    """

    def __init__(self, find_run: FindRun) -> None:
        self._find_run = find_run
        self._wrapped: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def model_starts(self, run_id: UUID) -> None:
        """A model call starts; if in a stream's first step, then it is the stream's own, for others come later.

        Has to be called for all model calls, once each is recorded.
        """
        if (stream := _beginning.get()) is not None:
            _beginning.set(None)
            stream.begin(self._find_run(run_id))

    def install(self) -> None:
        """Wrap the methods of `BaseChatModel` in which models work."""
        wrappings = {
            "_generate_with_cache": self._around_call,
            "_agenerate_with_cache": self._around_async_call,
            "stream": _around_stream,
            "astream": _around_async_stream,
        }
        for name, wrap in wrappings.items():
            if (original := vars(BaseChatModel).get(name)) is None:
                _LOGGER.warning("This LangChain has no BaseChatModel.%s: spans of its HTTP client nest higher.", name)
                continue
            wrapper = wrap(original)
            self._wrapped[name] = (wrapper, original)
            setattr(BaseChatModel, name, wrapper)

    def remove(self) -> None:
        """Undo `install`."""
        while self._wrapped:
            name, (wrapper, original) = self._wrapped.popitem()
            if vars(BaseChatModel).get(name) is wrapper:  # else somebody wrapped our wrapper, and needs it
                setattr(BaseChatModel, name, original)

    def _around_call(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(generate)
        def generate_in_span(*args: Any, **kwargs: Any) -> Any:
            ambient = self._attach(kwargs.get("run_manager"))
            try:
                return generate(*args, **kwargs)
            finally:
                if ambient is not None:
                    ambient.heal()

        return generate_in_span

    def _around_async_call(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(generate)
        async def generate_in_span(*args: Any, **kwargs: Any) -> Any:
            ambient = self._attach(kwargs.get("run_manager"))
            try:
                return await generate(*args, **kwargs)
            finally:
                if ambient is not None:
                    ambient.heal()

        return generate_in_span

    def _attach(self, run_manager: Any) -> AmbientSpan | None:
        call = None if run_manager is None else self._find_run(run_manager.run_id)
        if call is None:
            return None
        call.is_current, current = True, otel_context.get_current()
        return None if isinstance(current, AmbientSpan) and current.shows(call) else AmbientSpan.attach(call)


def _around_stream(stream: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(stream)
    def stream_in_steps(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        inner, step = stream(*args, **kwargs), _Stream()
        advance = inner.__next__
        while True:
            with step:
                try:
                    chunk = advance()
                except StopIteration:
                    return
            try:
                yield chunk
            except GeneratorExit:
                with step:
                    inner.close()
                raise
            except BaseException as error:
                advance = partial(inner.throw, error)
            else:
                advance = inner.__next__

    return stream_in_steps


def _around_async_stream(stream: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(stream)
    def stream_in_steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        return _AsyncSteps(stream(*args, **kwargs))

    return stream_in_steps


class _AsyncSteps(AsyncGenerator[Any, None]):
    """The steps of an asynchronous stream.

    Not a generator around it: when an event loop ends, it closes all generators at once, and the outer one would
    close the inner one a second time.
    """

    def __init__(self, stream: AsyncGenerator[Any, None]) -> None:
        self._stream = stream
        self._step = _Stream()

    async def asend(self, value: Any) -> Any:
        with self._step:
            return await self._stream.asend(value)

    async def athrow(self, *error: Any) -> Any:
        with self._step:
            return await self._stream.athrow(*error)

    async def aclose(self) -> None:
        with self._step:
            await self._stream.aclose()
