"""From specs to runnables of LangChain and LangGraph, of which every part knows the `World` that it lives in.

Each piece of work is made twice, as a function and as a coroutine function, for LangChain has no third way.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, Send, interrupt

from random_programs.models import Reply, ScriptedChat, ScriptedText
from random_programs.specs import (
    Agent,
    Ask,
    Branches,
    Choice,
    Compute,
    FanOut,
    Graph,
    HandOff,
    Loop,
    ModelCall,
    Node,
    SendMap,
    Single,
    Stage,
    Step,
    Tool,
    ToolKind,
    Turn,
)
from random_programs.world import SECRET, Unavailable, World, current_path

__all__ = ["Builder", "State", "Tracing"]

_QUESTION = f"What is {SECRET}?"


def _joined(left: list[str], right: list[str]) -> list[str]:
    """Lines of both; a subgraph returns those again that it was given."""
    return left + [line for line in right if line not in left]


class State(TypedDict):
    """The state of every graph."""

    path: str
    log: Annotated[list[str], _joined]
    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """What a way of tracing adds to a program while it is built."""

    middleware: Callable[[], Sequence[AgentMiddleware[Any, Any]]] = tuple
    """Goes into every agent."""
    graph: Callable[[Any], Any] = lambda builder: builder
    """Goes around the `StateGraph` of every graph before it is compiled."""


class _CopyingCache(InMemoryCache):
    """A cache that hands out copies, as those in files and databases do.

    LangChain writes into what a cache returns, and so into the answer of a call that is about to end.
    """

    def lookup(self, prompt: str, llm_string: str) -> Any:
        return copy.deepcopy(super().lookup(prompt, llm_string))


class _Work(NamedTuple):
    """A piece of work that answers with a text."""

    run: Callable[[], str]
    arun: Callable[[], Awaitable[str]]


class Builder:
    """Builds the parts of one program.

    Args:
        world: What they share.
        tracing: What they are traced by.
        is_async: Whether nodes and tools are coroutine functions, where they are asked to be.
    """

    def __init__(self, world: World, tracing: Tracing, *, is_async: bool) -> None:
        self._world = world
        self._tracing = tracing
        self._is_async = is_async

    def root(self, spec: Graph | Agent, checkpointer: Any) -> Runnable[Any, Any]:
        """What is run."""
        if isinstance(spec, Agent):
            return self._agent(spec, checkpointer=checkpointer)
        return self._graph(spec, name="program", checkpointer=checkpointer)

    # Graphs

    def _graph(self, spec: Graph, *, name: str, checkpointer: Any = None) -> Runnable[Any, Any]:
        builder = StateGraph(State)
        ends = [START]
        for stage in spec.stages:
            ends = self._add_stage(builder, stage, ends)
        _connect(builder, ends, END)
        graph: Runnable[Any, Any] = self._tracing.graph(builder).compile(checkpointer=checkpointer, name=name)
        return graph

    def _add_stage(self, builder: Any, stage: Stage, ends: list[str]) -> list[str]:
        match stage:
            case Single(node=node):
                return [self._add_node(builder, node, ends)]
            case FanOut(nodes=nodes):
                return [self._add_node(builder, node, ends) for node in nodes]
            case SendMap():
                return self._add_sends(builder, stage, ends)
            case Choice():
                return self._add_choice(builder, stage, ends)
            case Loop():
                return self._add_loop(builder, stage, ends)
            case HandOff():
                return self._add_hand_off(builder, stage, ends)

    def _add_sends(self, builder: Any, stage: SendMap, ends: list[str]) -> list[str]:
        gate, target = self._add_gate(builder, ends), self._add_node(builder, stage.node, [])

        def each(state: State) -> list[Send]:
            paths = [f"{state['path']}/{item}" for item in range(stage.items)]
            return [Send(target, {"path": path, "log": [], "messages": []}) for path in paths]

        builder.add_conditional_edges(gate, self._edge(each), [target])
        return [target]

    def _add_choice(self, builder: Any, stage: Choice, ends: list[str]) -> list[str]:
        gate = self._add_gate(builder, ends)
        left, right = (self._add_node(builder, node, []) for node in (stage.left, stage.right))
        taken = left if stage.takes_left else right
        builder.add_conditional_edges(gate, self._edge(lambda _state: taken), [left, right])
        after = self._add_gate(builder, [])
        builder.add_edge(left, after)
        builder.add_edge(right, after)
        return [after]

    def _add_loop(self, builder: Any, stage: Loop, ends: list[str]) -> list[str]:
        again, after = self._add_node(builder, stage.node, ends), self._add_gate(builder, [])

        def is_enough(state: State) -> str:
            return after if _rounds(again, state) >= stage.times else again

        builder.add_conditional_edges(again, self._edge(is_enough), [again, after])
        return [after]

    def _add_hand_off(self, builder: Any, stage: HandOff, ends: list[str]) -> list[str]:
        taker = self._add_node(builder, stage.taker, [])
        giver = self._world.name("giver")
        builder.add_node(giver, self._agent(stage.giver, hands_to=taker), destinations=(taker,))
        _connect(builder, ends, giver)
        return [taker]

    def _edge(self, decide: Callable[[State], Any]) -> Callable[[State], Any]:
        """A conditional edge; LangGraph would call a plain function in a thread of its own."""

        async def adecide(state: State) -> Any:
            return decide(state)

        return adecide if self._is_async else decide

    def _add_gate(self, builder: Any, ends: list[str]) -> str:
        return self._add_node(builder, Node(step=Compute()), ends)

    def _add_node(self, builder: Any, node: Node, ends: list[str]) -> str:
        name = self._world.name("node")
        policy = RetryPolicy(initial_interval=0, max_interval=0, jitter=False, retry_on=Unavailable)
        action = self._direct(node.step) if node.is_direct else self._function(name, node)
        builder.add_node(name, action, retry_policy=policy if node.is_retried else None)
        _connect(builder, ends, name)
        return name

    def _direct(self, step: Step) -> Runnable[Any, Any]:
        if isinstance(step, Agent):
            return self._agent(step)
        assert isinstance(step, Graph)
        return self._graph(step, name=self._world.name("graph"))

    def _function(self, name: str, node: Node) -> Callable[[State], Any]:
        is_async, world = self._is_async and node.is_async, self._world
        with self._within(is_async):
            work = self._work(node.step)

        def visit(state: State, text: str) -> dict[str, list[str]]:
            return {"log": [f"{name}#{_rounds(name, state)} {text}"]}

        def function(state: State) -> dict[str, list[str]]:
            with _on(state["path"]), world.work(name):
                return visit(state, work.run())

        async def coroutine(state: State) -> dict[str, list[str]]:
            with _on(state["path"]), world.work(name):
                return visit(state, await work.arun())

        return coroutine if is_async else function

    @contextmanager
    def _within(self, is_async: bool) -> Iterator[None]:
        """Below a plain function, everything is one."""
        around, self._is_async = self._is_async, is_async
        try:
            yield
        finally:
            self._is_async = around

    # Work

    def _work(self, step: Step) -> _Work:
        match step:
            case Compute():
                return self._compute(step)
            case ModelCall():
                return self._model_call(step)
            case Branches():
                return self._branches(step)
            case Ask():
                return self._ask(step)
            case Tool():
                return self._tool_call(step)
            case Agent():
                agent = self._agent(step)
                return _of(agent, lambda: {"messages": [HumanMessage(_QUESTION)]}, lambda end: _texts(end["messages"]))
            case Graph():
                graph = self._graph(step, name=self._world.name("graph"))
                return _of(graph, lambda: fresh_state(current_path.get()), lambda end: "; ".join(end["log"]))

    def _compute(self, spec: Compute) -> _Work:
        name, world = self._world.name("compute"), self._world

        def run() -> str:
            world.tick()
            world.fail(name, spec.failures)
            return "computed"

        async def arun() -> str:
            await world.atick()
            world.fail(name, spec.failures)
            return "computed"

        return _Work(run, arun)

    def _model_call(self, spec: ModelCall) -> _Work:
        model = self._model(spec)
        if spec.is_streamed:
            return _streamed(model, spec.close_after)
        if not spec.is_cached:
            return _of(model, lambda: _QUESTION, _text)
        once = _of(model, lambda: _QUESTION, _text)

        def twice() -> str:
            return once.run() + once.run()

        async def atwice() -> str:
            return await once.arun() + await once.arun()

        return _Work(twice, atwice)

    def _model(self, spec: ModelCall) -> Runnable[Any, Any]:
        model = self._bare_model(spec, failures=spec.failures)
        match spec.wrapper:
            case "with_retry":
                return model.with_retry(retry_if_exception_type=(Unavailable,), wait_exponential_jitter=False)
            case "with_fallbacks":
                return model.with_fallbacks([self._bare_model(spec, failures=0)], exceptions_to_handle=(Unavailable,))
        return model

    def _bare_model(self, spec: ModelCall, *, failures: int) -> Runnable[Any, Any]:
        name, cache = self._world.name("model"), _CopyingCache() if spec.is_cached else None
        reply = Reply(usage=spec.usage, failures=failures, break_after=spec.break_after)
        if spec.kind == "text":
            return ScriptedText(world=self._world, model=name, reply=reply, cache=cache)
        return ScriptedChat(world=self._world, model=name, replies=[reply], cache=cache)

    def _branches(self, spec: Branches) -> _Work:
        works = {f"branch_{number}": self._model_call(call) for number, call in enumerate(spec.calls)}
        branches: Any = {name: _runnable(work) for name, work in works.items()}
        return _of(RunnableParallel(branches), lambda: _QUESTION, lambda texts: "; ".join(map(texts.get, works)))

    def _ask(self, spec: Ask) -> _Work:
        before = self._work(spec.before or Compute())

        def run() -> str:
            before.run()
            return str(interrupt(_QUESTION))

        async def arun() -> str:
            await before.arun()
            return str(interrupt(_QUESTION))

        return _Work(run, arun)

    # Tools and agents

    def _tool_call(self, spec: Tool) -> _Work:
        tool = self._tool(spec, name=self._world.name("lone_tool"))
        return _of(tool, lambda: {**_call(tool.name), "type": "tool_call"}, _text)

    def _tool(self, spec: Tool, *, name: str) -> BaseTool:
        is_async, world = self._is_async and spec.is_async, self._world
        with self._within(is_async):
            inside = self._work(spec.inside or Compute())

        def function(question: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
            """Answer a question."""
            with world.work(name):
                return self._tool_result(spec.kind, name, tool_call_id, inside.run())

        async def coroutine(question: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
            """Answer a question."""
            with world.work(name):
                return self._tool_result(spec.kind, name, tool_call_id, await inside.arun())

        return StructuredTool.from_function(
            function,
            coroutine=coroutine if is_async else None,
            name=name,
            handle_tool_error=True,
        )

    def _tool_result(self, kind: ToolKind, name: str, tool_call_id: str, text: str) -> Any:
        match kind:
            case ToolKind.RAISES:
                raise Unavailable
            case ToolKind.FLAKY:
                self._world.fail(name, 1)
            case ToolKind.HANDLED:
                raise ToolException(f"not so, {SECRET}")
            case ToolKind.ERROR_MESSAGE:
                return ToolMessage(f"no, {SECRET}", tool_call_id=tool_call_id, status="error")
        return text

    def _agent(self, spec: Agent, *, checkpointer: Any = None, hands_to: str | None = None) -> Runnable[Any, Any]:
        name = self._world.name("agent")
        turns = [
            (turn, [self._tool(tool, name=self._world.name("tool")) for tool in turn.tools]) for turn in spec.turns
        ]
        if hands_to is not None:
            turns.append((Turn(tools=(Tool(),)), [_handing_off(hands_to)]))
        replies = [_reply(turn, tools) for turn, tools in turns]
        replies.append(Reply(usage=spec.answer.usage, failures=spec.answer.failures))
        return create_agent(
            ScriptedChat(world=self._world, model=self._world.name("model"), replies=replies),
            [tool for turn, tools in turns for tool in _known(turn, tools)],
            middleware=[*self._retries(spec), *self._tracing.middleware()],
            name=name if spec.is_named else None,
            checkpointer=checkpointer,
        )

    def _tools(self, turn: Turn) -> Iterator[BaseTool]:
        for tool in turn.tools:
            yield self._tool(tool, name=self._world.name("tool"))

    def _retries(self, spec: Agent) -> Iterator[AgentMiddleware[Any, Any]]:
        at_once: Any = {"initial_delay": 0.0, "jitter": False, "retry_on": (Unavailable,)}
        if spec.retries_model:
            yield ModelRetryMiddleware(**at_once)
        if spec.retries_tools:
            yield ToolRetryMiddleware(**at_once)


def fresh_state(path: str) -> State:
    """What a graph is given."""
    return {"path": path, "log": [], "messages": [HumanMessage(_QUESTION)]}


def _rounds(node: str, state: State) -> int:
    """How often a node has run."""
    return sum(line.startswith(f"{node}#") for line in state["log"])


def _reply(turn: Turn, tools: Sequence[BaseTool]) -> Reply:
    return Reply(usage=turn.usage, failures=turn.failures, tool_calls=[_call(tool.name) for tool in tools])


def _known(turn: Turn, tools: Sequence[BaseTool]) -> list[BaseTool]:
    """The tools that the agent has, of those that its model calls."""
    return [tool for about, tool in zip(turn.tools, tools, strict=True) if about.kind is not ToolKind.UNKNOWN]


def _call(tool: str) -> ToolCall:
    return ToolCall(name=tool, args={"question": _QUESTION}, id=f"call-of-{tool}")


def _handing_off(target: str) -> BaseTool:
    def hand_off(question: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Let somebody else answer."""
        done = ToolMessage(f"handed off, {SECRET}", tool_call_id=tool_call_id)
        return Command(goto=target, graph=Command.PARENT, update={"messages": [done]})

    return StructuredTool.from_function(hand_off, name=f"to_{target}")


def _runnable(work: _Work) -> Runnable[Any, Any]:
    return RunnableLambda(lambda _: work.run(), afunc=lambda _: work.arun())


def _of(runnable: Runnable[Any, Any], question: Callable[[], Any], text: Callable[[Any], str]) -> _Work:
    def run() -> str:
        return text(runnable.invoke(question()))

    async def arun() -> str:
        return text(await runnable.ainvoke(question()))

    return _Work(run, arun)


def _streamed(model: Runnable[Any, Any], close_after: int | None) -> _Work:
    def run() -> str:
        stream, texts = model.stream(_QUESTION), []
        for chunk in stream:
            texts.append(_text(chunk))
            if len(texts) == close_after:
                break
        stream.close()  # type: ignore[attr-defined]  # a generator, and only declared to be an iterator
        return "".join(texts)

    async def arun() -> str:
        stream, texts = model.astream(_QUESTION), []
        async for chunk in stream:
            texts.append(_text(chunk))
            if len(texts) == close_after:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return "".join(texts)

    return _Work(run, arun)


def _text(answer: Any) -> str:
    return str(getattr(answer, "content", answer))


def _texts(messages: Sequence[AnyMessage]) -> str:
    return "; ".join(map(_text, messages))


def _connect(builder: Any, ends: list[str], target: str) -> None:
    if ends:
        builder.add_edge(ends if len(ends) > 1 else ends[0], target)


@contextmanager
def _on(path: str) -> Iterator[None]:
    token = current_path.set(path)
    try:
        yield
    finally:
        current_path.reset(token)
