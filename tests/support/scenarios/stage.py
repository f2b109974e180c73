"""What a scenario's program is given: how to make its parts, how to run them, and how they are traced.

So that one program serves every mode and every way in, it makes agents, graphs and tools here and runs them here.
The stage also looks where the program would: whether the ambient context is the caller's own, after a run and between
two chunks of a stream.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from functools import wraps
from inspect import iscoroutinefunction, isfunction
from typing import Any, Final

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from opentelemetry import context as otel_context
from opentelemetry import trace

from scenarios.models import SECRET, Reply, ScriptedModel, StreamingModel
from scenarios.ways import Way
from tokenomics_langchain import TokenomicsCallbackHandler

__all__ = ["QUESTION", "THREAD", "Mode", "Stage"]

THREAD: Final = "thread-1"
"""The one conversation of each program that has any."""
QUESTION: dict[str, Any] = {"messages": [("user", f"What do you know of {SECRET}?")]}
"""What agents are asked."""


class Mode(Enum):
    """How a program is run."""

    INVOKE = "invoke"
    AINVOKE = "ainvoke"
    STREAM = "stream"
    ASTREAM = "astream"

    @property
    def is_async(self) -> bool:
        """Whether on an event loop, with coroutine functions for tools and nodes."""
        return self in (Mode.AINVOKE, Mode.ASTREAM)

    @property
    def is_stream(self) -> bool:
        """Whether results come in chunks."""
        return self in (Mode.STREAM, Mode.ASTREAM)


class Stage:
    """One run of one program.

    Args:
        mode: How it is run.
        way: How it is traced.
        handler: What traces it.
        tracer: Of the application's own spans.
    """

    def __init__(self, mode: Mode, way: Way, handler: TokenomicsCallbackHandler, tracer: trace.Tracer) -> None:
        self.mode = mode
        self.reported: list[tuple[int, int]] = []
        """Usage of each model call that completed."""
        self.leaks: list[str] = []
        """Where the ambient context was not the caller's own."""
        self.graphs: list[tuple[str, ...]] = []
        """Nodes of each graph that was made."""
        self.kept: list[Any] = []
        """What the program never lets go of."""
        self._way = way
        self._handler = handler
        self._tracer = tracer
        self._lock = threading.Lock()

    # Parts

    def model(self, *script: Reply, streams: bool = False, **more: Any) -> ScriptedModel:
        """A model that follows a script."""
        return (StreamingModel if streams else ScriptedModel)(script=script, report=self._report, **more)

    def tool(self, function: Callable[..., Any], **more: Any) -> BaseTool:
        """A tool; under asyncio, a coroutine function."""
        if self.mode.is_async:
            return StructuredTool.from_function(coroutine=self.function(function), **more)
        return StructuredTool.from_function(function, **more)

    def tool_of(self, function: Callable[..., Any], coroutine: Callable[..., Any], **more: Any) -> BaseTool:
        """A tool that is written twice."""
        if self.mode.is_async:
            return StructuredTool.from_function(coroutine=coroutine, **more)
        return StructuredTool.from_function(function, **more)

    def function(self, function: Callable[..., Any]) -> Any:
        """A node's or tool's function; under asyncio, a coroutine function."""
        if not self.mode.is_async:
            return function

        @wraps(function)
        async def coroutine_function(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return coroutine_function

    def either(self, function: Callable[..., Any], coroutine: Callable[..., Any]) -> Any:
        """What is written twice, for it calls what has two methods itself."""
        return coroutine if self.mode.is_async else function

    def asking(self, model: Runnable[Any, Any]) -> Any:
        """A node that has a model answer."""

        def ask(state: MessagesState) -> Any:
            return {"messages": [model.invoke(state["messages"])]}

        async def ask_async(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        return self.either(ask, ask_async)

    def agent(
        self,
        model: Any,
        tools: Sequence[Any] = (),
        *,
        name: str | None = "clerk",
        middleware: Sequence[AgentMiddleware[Any, Any]] = (),
        **more: Any,
    ) -> Any:
        """An agent."""
        around = [*self._way.middleware(self._handler), *middleware]
        agent = create_agent(model, list(tools), name=name, middleware=around, **more)
        self.graphs.append(tuple(agent.nodes))
        return agent

    def sequence(self, graph: str, nodes: Mapping[str, Any], **more: Any) -> Any:
        """A graph whose nodes run one after the other."""
        builder: Any = StateGraph(MessagesState)
        builder.add_sequence([(name, self._node(node)) for name, node in nodes.items()])
        builder.add_edge(START, next(iter(nodes)))
        return self.compile(builder, name=graph, **more)

    def _node(self, node: Any) -> Any:
        return self.function(node) if isfunction(node) and not iscoroutinefunction(node) else node

    def compile(self, builder: StateGraph[Any, Any, Any, Any], **more: Any) -> Any:
        """A graph."""
        graph = self._way.graph(builder, self._handler).compile(**more)
        self.graphs.append(tuple(graph.nodes))
        return graph

    def span(self, name: str) -> AbstractContextManager[trace.Span]:
        """A span of the application's own, which says nothing of what fails inside it."""
        return self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)

    # Runs

    def config(self, *, has_thread: bool = False, **more: Any) -> Any:
        """What a call is configured by."""
        configurable = {"configurable": {"thread_id": THREAD}} if has_thread else {}
        return {"callbacks": self._way.callbacks(self._handler), **configurable, **more}

    def run(self, runnable: Runnable[Any, Any], given: Any, config: Any = None, **more: Any) -> Any:
        """Run something to its end."""
        config = self.config() if config is None else config
        if self.mode.is_async:
            return asyncio.run(self.arun(runnable, given, config, **more))
        with self.looking("after the run"):
            if self.mode.is_stream:
                return self._stream(runnable, given, config, **more)
            return runnable.invoke(given, config, **more)

    async def arun(self, runnable: Runnable[Any, Any], given: Any, config: Any, **more: Any) -> Any:
        """Run something to its end, inside the program's own event loop."""
        with self.looking("after the run"):
            if self.mode.is_stream:
                return await self._astream(runnable, given, config, **more)
            return await runnable.ainvoke(given, config, **more)

    def looking(self, where: str) -> _Looking:
        """Look whether what is done inside leaves the ambient context as it was."""
        return _Looking(self.leaks, where)

    def _stream(self, runnable: Any, given: Any, config: Any, **more: Any) -> Any:
        chunks = _Chunks(runnable)
        look = self.looking("between two chunks")
        for chunk in runnable.stream(given, config, **chunks.options, **more):
            look.again()
            chunks.add(chunk)
        return chunks.result

    async def _astream(self, runnable: Any, given: Any, config: Any, **more: Any) -> Any:
        chunks = _Chunks(runnable)
        look = self.looking("between two chunks")
        async for chunk in runnable.astream(given, config, **chunks.options, **more):
            look.again()
            chunks.add(chunk)
        return chunks.result

    def _report(self, usage: tuple[int, int]) -> None:
        with self._lock:
            self.reported.append(usage)


class _Looking:
    """Compares the ambient context with what it was."""

    def __init__(self, leaks: list[str], where: str) -> None:
        self._leaks = leaks
        self._where = where
        self._before = dict(otel_context.get_current())
        self._span = trace.get_current_span()

    def again(self) -> None:
        """Note a difference."""
        if trace.get_current_span() is not self._span:
            self._leaks.append(f"{self._where}, another span was current: {trace.get_current_span()}")
        elif dict(otel_context.get_current()) != self._before:
            self._leaks.append(f"{self._where}, the context was another: {otel_context.get_current()}")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.again()


class _Chunks:
    """What a stream adds up to: the last state of a graph, the sum of a chain's chunks."""

    def __init__(self, runnable: Any) -> None:
        self._is_graph = isinstance(runnable, Pregel)
        self.options: dict[str, Any] = {"stream_mode": "values"} if self._is_graph else {}
        self.result: Any = None

    def add(self, chunk: Any) -> None:
        """Take the next one."""
        self.result = chunk if self._is_graph or self.result is None else self.result + chunk
