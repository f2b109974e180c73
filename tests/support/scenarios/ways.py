"""The ways in which a program is traced: by a handler, by a middleware, without knowing of it, and any of them at once.

A program of raw graphs takes the second way by `trace_graph`, for it has no agent to put a middleware into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.graph import StateGraph

from tokenomics_langchain import LangChainInstrumentor, TokenomicsCallbackHandler, TokenomicsMiddleware, trace_graph

__all__ = ["UNTRACED", "WAYS", "Way"]

_Builder = TypeVar("_Builder", bound=StateGraph[Any, Any, Any, Any])


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to trace, or several together."""

    name: str
    """As it is printed."""
    passes_handler: bool = False
    """Whether each call is given the handler."""
    adds_middleware: bool = False
    """Whether agents carry the middleware, and graphs are made by `trace_graph`."""
    instruments: bool = False
    """Whether the process is instrumented."""

    @property
    def is_several(self) -> bool:
        """Whether it is more than one."""
        return self.passes_handler + self.adds_middleware + self.instruments > 1

    @property
    def needs_agent_or_graph(self) -> bool:
        """Whether it has nothing to go into where a program has neither agent nor graph."""
        return self.adds_middleware and not self.passes_handler and not self.instruments

    def callbacks(self, handler: TokenomicsCallbackHandler) -> list[BaseCallbackHandler]:
        """What is passed to each call."""
        return [handler] if self.passes_handler else []

    def middleware(self, handler: TokenomicsCallbackHandler) -> Sequence[AgentMiddleware[Any, Any]]:
        """What each agent carries."""
        return [TokenomicsMiddleware(handler=handler)] if self.adds_middleware else []

    def graph(self, builder: _Builder, handler: TokenomicsCallbackHandler) -> _Builder:
        """What a graph is compiled from."""
        return trace_graph(builder, handler=handler) if self.adds_middleware else builder

    @contextmanager
    def around(self, handler: TokenomicsCallbackHandler) -> Iterator[None]:
        """What lasts as long as the program."""
        if not self.instruments:
            yield
            return
        instrumentor = LangChainInstrumentor()
        instrumentor.instrument(handler=handler)
        try:
            yield
        finally:
            instrumentor.uninstrument()


UNTRACED: Final = Way(name="untraced")
"""What all others are compared with."""

WAYS: Final = (
    Way(name="handler", passes_handler=True),
    Way(name="middleware", adds_middleware=True),
    Way(name="instrumentor", instruments=True),
    Way(name="handler+middleware", passes_handler=True, adds_middleware=True),
    Way(name="handler+instrumentor", passes_handler=True, instruments=True),
    Way(name="middleware+instrumentor", adds_middleware=True, instruments=True),
    Way(name="all", passes_handler=True, adds_middleware=True, instruments=True),
)
"""Each has to give the same trace, once."""
