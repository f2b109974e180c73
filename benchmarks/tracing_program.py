"""The programs that `tracing.py` has traced, on a model that answers at once.

They know no tracer, because they run in the environment of each: what a tracer wants of a program it says in a
`Wiring`. All work is the frameworks' own, so that what tracing adds shows as large as it ever can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from operator import add as concatenate
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from pydantic import Field

__all__ = ["PROGRAMS", "RUNS_AT_ONCE", "Program", "Wiring"]

RUNS_AT_ONCE = 64
TOOL_RESULT = "x" * 2_000
QUESTION: Any = {"messages": [("user", "look everything up")]}
USAGE: Any = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
RESPONSE = {"model_name": "toy-1", "finish_reason": "stop"}
LONGER_THAN_ANY_RUN_S = 3_600


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """How a tracer reaches a program; nothing, for one that is not traced or that patches the frameworks."""

    callbacks: Sequence[BaseCallbackHandler] = ()
    """What each run is given."""
    middleware: Sequence[AgentMiddleware[Any, Any]] = ()
    """What each agent carries."""
    prepare: Callable[[StateGraph[Any]], object] = lambda builder: None
    """What is done to a graph before it compiles."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Something to trace."""

    call: Callable[[], Any]
    """Runs it, and returns what its user would see."""
    runs: int = 1
    """How many runs that are."""


class ScriptedModel(BaseChatModel):
    """Calls the tool in each of `turns` turns, then answers."""

    turns: int
    hangs_at: int | None = None
    """The turn in which the model does not answer until it is cancelled."""
    hangs: asyncio.Event = Field(default_factory=asyncio.Event)
    """Set while it does not."""
    model: str = "toy-1"

    @property
    def _llm_type(self) -> str:
        return "benchmark"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The script knows the tool by heart."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        calls = self._tool_calls(messages)
        reply = AIMessage("" if calls else "done", tool_calls=calls, usage_metadata=USAGE, response_metadata=RESPONSE)
        return ChatResult(generations=[ChatGeneration(message=reply)])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if _turn(messages) == self.hangs_at:
            self.hangs.set()
            await asyncio.sleep(LONGER_THAN_ANY_RUN_S)
        await asyncio.sleep(0)  # lets other runs go on, as waiting for a server does
        return self._generate(messages)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for word in ("let ", "me ", "see"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        calls: Any = [
            {"name": call["name"], "args": '{"key": "0"}', "id": call["id"], "index": 0}
            for call in self._tool_calls(messages)
        ]
        last = AIMessageChunk(content="", tool_call_chunks=calls, usage_metadata=USAGE, response_metadata=RESPONSE)
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            await asyncio.sleep(0)
            yield chunk

    def _tool_calls(self, messages: list[BaseMessage]) -> list[ToolCall]:
        turn = _turn(messages)
        return [ToolCall(name="look_up", args={"key": str(turn)}, id=f"call-{turn}")] if turn < self.turns else []


class State(TypedDict):
    """The steps taken so far."""

    steps: Annotated[list[int], concatenate]


def agent(turns: int, wiring: Wiring, runner: asyncio.Runner) -> Program:
    """An agent that calls a tool in each of its turns."""
    graph, config = _agent(ScriptedModel(turns=turns), wiring)
    return Program(call=lambda: _told(graph.invoke(QUESTION, config)))


def agents_at_once(turns: int, wiring: Wiring, runner: asyncio.Runner) -> Program:
    """Many runs of such an agent in one event loop."""
    graph, config = _agent(ScriptedModel(turns=turns), wiring)

    async def gather() -> list[Any]:
        states = await asyncio.gather(*(graph.ainvoke(QUESTION, config) for _ in range(RUNS_AT_ONCE)))
        return [_told(state) for state in states]

    return Program(call=lambda: runner.run(gather()), runs=RUNS_AT_ONCE)


def graph(steps: int, wiring: Wiring, runner: asyncio.Runner) -> Program:
    """A graph of nodes that do next to nothing."""
    builder = StateGraph(State)
    names = [f"node {number}" for number in range(steps)]
    for number, name in enumerate(names):
        builder.add_node(name, lambda _state, number=number: {"steps": [number]})
        builder.add_edge(START if number == 0 else names[number - 1], name)
    wiring.prepare(builder)
    compiled: Any = builder.compile(name="pipeline")
    return Program(call=lambda: compiled.invoke({"steps": []}, _config(wiring)))


def cancelled(turns: int, wiring: Wiring, runner: asyncio.Runner) -> Program:
    """An agent whose task is cancelled while its model is called for the last time."""
    model = ScriptedModel(turns=turns, hangs_at=turns)
    graph, config = _agent(model, wiring)

    async def cancel() -> str:
        model.hangs.clear()
        task = asyncio.ensure_future(graph.ainvoke(QUESTION, config))
        await model.hangs.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "ended before it could be cancelled"

    return Program(call=lambda: runner.run(cancel()))


def abandoned(turns: int, wiring: Wiring, runner: asyncio.Runner) -> Program:
    """An agent whose stream is let go of after its first part: sync or async, within a model call or after it."""
    graph, config = _agent(ScriptedModel(turns=turns), wiring)

    def abandon(mode: Any) -> str:
        for _ in graph.stream(QUESTION, config, stream_mode=mode):
            break
        return f"abandoned {mode}"

    async def abandon_async(mode: Any) -> str:
        async for _ in graph.astream(QUESTION, config, stream_mode=mode):
            break
        await asyncio.sleep(0)
        while len(asyncio.all_tasks()) > 1:  # the loop closes the generator in a task of its own
            await asyncio.sleep(0)
        return f"abandoned {mode}"

    ways: Iterator[Callable[[], str]] = cycle(
        (
            lambda: abandon("messages"),
            lambda: runner.run(abandon_async("messages")),
            lambda: abandon("updates"),
            lambda: runner.run(abandon_async("updates")),
        )
    )
    return Program(call=lambda: next(ways)())


PROGRAMS: dict[str, Callable[[int, Wiring, asyncio.Runner], Program]] = {
    "agent": agent,
    "agents at once": agents_at_once,
    "graph": graph,
    "cancelled": cancelled,
    "abandoned": abandoned,
}


def _agent(model: ScriptedModel, wiring: Wiring) -> tuple[Any, Any]:
    """An agent on the model, and the configuration of its runs."""
    return create_agent(model, [_look_up()], name="assistant", middleware=wiring.middleware), _config(wiring)


def _config(wiring: Wiring) -> dict[str, Any]:
    return {"callbacks": list(wiring.callbacks), "recursion_limit": 10_000}


def _look_up() -> StructuredTool:
    async def acall(key: str) -> str:
        return TOOL_RESULT

    def call(key: str) -> str:
        return TOOL_RESULT

    return StructuredTool.from_function(call, acall, name="look_up", description="Look something up.")


def _turn(messages: Sequence[BaseMessage]) -> int:
    return sum(isinstance(message, ToolMessage) for message in messages)


def _told(state: dict[str, Any]) -> list[Any]:
    """What an agent's messages say, without the ids that differ from run to run."""
    return [(message.type, message.content, getattr(message, "tool_calls", None)) for message in state["messages"]]
