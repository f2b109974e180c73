"""Programs as data: what a random program consists of, before anything of LangChain is built from it.

A program is a tree of frozen dataclasses, so that Hypothesis can shrink one that breaks a promise to the few
parts that matter, and print it. Names are not part of it: they are given when it is built, in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, get_args

__all__ = [
    "ALWAYS",
    "FEATURES",
    "Agent",
    "Ask",
    "Branches",
    "Choice",
    "Compute",
    "FanOut",
    "Graph",
    "HandOff",
    "How",
    "Loop",
    "Mode",
    "ModelCall",
    "Node",
    "Program",
    "SendMap",
    "Single",
    "Stage",
    "Step",
    "Stop",
    "StreamMode",
    "Tool",
    "Turn",
    "features",
    "parts",
    "without_threads",
]

ALWAYS: Final = 99
"""Number of failures that no retry outlasts."""


@dataclass(frozen=True, kw_only=True)
class ModelCall:
    """A call of a model by the program's own code."""

    kind: Literal["chat", "text"] = "chat"
    """Which sort of model."""
    usage: tuple[int, int] | None = (10, 5)
    """Input and output tokens that the model reports; `None` when it reports none."""
    failures: int = 0
    """How many of the first calls fail."""
    wrapper: Literal["with_retry", "with_fallbacks"] | None = None
    """What stands around the model."""
    is_streamed: bool = False
    """Whether the answer is read chunk by chunk."""
    close_after: int | None = None
    """Chunks after which the caller closes the stream; `None` when it reads to the end."""
    break_after: int | None = None
    """Chunks after which the model breaks off, as often as it fails; `None` when it fails before the first."""
    is_cached: bool = False
    """Whether it is asked twice, and LangChain's cache answers the second time."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Plain code."""

    failures: int = 0
    """How many of the first executions fail."""


@dataclass(frozen=True, kw_only=True)
class Branches:
    """A `RunnableParallel` of model calls."""

    calls: tuple[ModelCall, ...]
    """One a branch."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An interrupt, which whoever runs the program answers."""

    before: ModelCall | None = None
    """A call that runs again when the answer is there."""


class ToolKind(StrEnum):
    """What a tool does."""

    RETURNS = "returns"
    RAISES = "raises"
    HANDLED = "raises ToolException, handled"
    ERROR_MESSAGE = "answers with an error message"
    FLAKY = "fails at first"
    UNKNOWN = "is unknown"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool, and the one call of it."""

    kind: ToolKind = ToolKind.RETURNS
    """How it ends."""
    inside: Step | None = None
    """What it does before."""
    is_async: bool = True
    """Whether it has a coroutine of its own where the program is asynchronous."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One answer of an agent's model that calls tools, in parallel where they are several."""

    tools: tuple[Tool, ...]
    """What it calls."""
    usage: tuple[int, int] | None = (20, 8)
    """Input and output tokens that the model reports; `None` when it reports none."""
    failures: int = 0
    """How often the model fails before it answers so."""


@dataclass(frozen=True, kw_only=True)
class Agent:
    """An agent by `create_agent`: its turns, then an answer without a tool call."""

    turns: tuple[Turn, ...] = ()
    """What its model answers."""
    answer: ModelCall = ModelCall()
    """The usage of the last answer, and how often the model fails before it."""
    is_named: bool = True
    """Whether it has a name."""
    retries_model: bool = False
    """Whether it carries `ModelRetryMiddleware`."""
    retries_tools: bool = False
    """Whether it carries `ToolRetryMiddleware`."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a graph."""

    step: Step
    """What it does."""
    is_retried: bool = False
    """Whether it has a `RetryPolicy`."""
    is_direct: bool = False
    """Whether an agent or a graph is the node, and is not called by a function that is."""
    is_async: bool = True
    """Whether its function is a coroutine function where the program is asynchronous."""


@dataclass(frozen=True, kw_only=True)
class Single:
    """One node."""

    node: Node


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """Nodes in parallel, and a join."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class SendMap:
    """One node for each of several items, by `Send`."""

    node: Node
    items: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Two nodes of which a conditional edge takes one."""

    left: Node
    right: Node
    takes_left: bool


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A node that runs again and again; more often than the recursion limit allows, where `times` is `ALWAYS`."""

    node: Node
    times: int


@dataclass(frozen=True, kw_only=True)
class HandOff:
    """An agent that hands control to another node with `Command(graph=PARENT)`."""

    giver: Agent
    taker: Node


Stage = Single | FanOut | SendMap | Choice | Loop | HandOff


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph: one stage after the other."""

    stages: tuple[Stage, ...]


Step = Compute | ModelCall | Branches | Ask | Tool | Agent | Graph


StreamMode = Literal["values", "messages"]
How = Literal["cancel", "closed", "dropped", "kept"]
Mode = Literal["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """How the caller ends the program before its time."""

    how: How
    """It cancels its task; or its stream is closed, dropped, or kept and never read on."""
    after: int
    """Units of work done, for a cancellation; chunks read, for a stream."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, and how it is run."""

    root: Graph | Agent
    """What is run."""
    mode: Mode = "invoke"
    """The method it is run with."""
    stream_mode: StreamMode = "values"
    """What a stream brings."""
    stop: Stop | None = None
    """How it ends early."""
    has_thread: bool = False
    """Whether it has a checkpointer and a thread."""
    wraps_work: bool = False
    """Whether the application opens spans of its own around what tools and nodes do."""

    @property
    def is_async(self) -> bool:
        """Whether it runs on an event loop."""
        return self.mode in ("ainvoke", "astream", "abatch")

    @property
    def is_stream(self) -> bool:
        """Whether its results are read one by one."""
        return self.mode in ("stream", "astream")


def parts(spec: object) -> Iterator[object]:
    """A spec and all specs inside it, itself first."""
    yield spec
    for field in dataclasses.fields(spec) if dataclasses.is_dataclass(spec) else ():
        value = getattr(spec, field.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(inner):
                yield from parts(inner)


def without_threads(spec: Any) -> Any:
    """The same with coroutine functions only; a lone thread stays, for nothing races with it."""
    return _with_coroutines(spec) if any(map(_is_parallel, parts(spec))) else spec


def _is_parallel(spec: object) -> bool:
    return isinstance(spec, Branches | FanOut | SendMap) or (isinstance(spec, Turn) and len(spec.tools) > 1)


def _with_coroutines(spec: Any) -> Any:
    changes: dict[str, Any] = {"is_async": True} if isinstance(spec, Node | Tool) else {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, tuple):
            changes[field.name] = tuple(_with_coroutines(v) if dataclasses.is_dataclass(v) else v for v in value)
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _with_coroutines(value)
    return dataclasses.replace(spec, **changes)


def features(program: Program) -> set[str]:
    """What occurs in a program, in words."""
    inner = list(parts(program))
    found = {name for part in inner for name, occurs in _TRAITS.items() if occurs(part)}
    return found | {f"run by {program.mode}"}


def _has(cls: type | tuple[type, ...], /, **traits: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda part: isinstance(part, cls) and all(holds(getattr(part, name)) for name, holds in traits.items())


def _is(value: object) -> Callable[[Any], bool]:
    return lambda found: bool(found == value)


def _contains(kind: type) -> Callable[[Any], bool]:
    return lambda found: any(isinstance(part, kind) for part in parts(found))


def _calls_flaky_tool(turn: Turn) -> bool:
    return any(tool.kind is ToolKind.FLAKY for tool in turn.tools)


_TRAITS: dict[str, Callable[[Any], bool]] = {
    "a plain function": _has(Compute),
    "a chat model": _has(ModelCall, kind=_is("chat")),
    "a text model": _has(ModelCall, kind=_is("text")),
    "usage nobody reports": _has((ModelCall, Turn), usage=_is(None)),
    "with_retry": _has(ModelCall, wrapper=_is("with_retry"), failures=bool),
    "with_fallbacks": _has(ModelCall, wrapper=_is("with_fallbacks"), failures=bool),
    "a model that fails": _has(ModelCall, wrapper=_is(None), failures=_is(ALWAYS)),
    "a model's stream": _has(ModelCall, is_streamed=bool),
    "a model's stream closed early": _has(ModelCall, close_after=bool),
    "a model's stream that breaks": _has(ModelCall, break_after=bool),
    "an answer from the cache": _has(ModelCall, is_cached=bool),
    "RunnableParallel": _has(Branches),
    "create_agent": _has(Agent),
    "an agent without a name": _has(Agent, is_named=_is(False)),
    "an agent inside an agent": _has(Agent, turns=lambda turns: any(map(_contains(Agent), turns))),
    "ModelRetryMiddleware": _has(Agent, retries_model=bool, turns=lambda turns: any(t.failures for t in turns)),
    "ToolRetryMiddleware": _has(Agent, retries_tools=bool, turns=lambda turns: any(map(_calls_flaky_tool, turns))),
    "a tool that an agent calls": _has(Turn, tools=lambda tools: len(tools) == 1),
    "parallel tool calls": _has(Turn, tools=lambda tools: len(tools) > 1),
    **{f"a tool that {kind}": _has(Tool, kind=_is(kind)) for kind in ToolKind},
    "a tool that works": _has(Tool, inside=bool),
    "an agent inside a tool": _has(Tool, inside=_contains(Agent)),
    "an interrupt": _has(Ask),
    "an interrupt inside a tool": _has(Tool, inside=_contains(Ask)),
    "a tool that a node calls": _has(Node, step=lambda step: isinstance(step, Tool)),
    "RetryPolicy": _has(Node, is_retried=bool),
    "a subgraph": _has(Node, step=lambda step: isinstance(step, Graph)),
    "an agent or a graph as a node": _has(Node, is_direct=bool),
    "a fan-out": _has(FanOut),
    "Send": _has(SendMap),
    "a conditional edge": _has(Choice),
    "a loop": _has(Loop),
    "a loop without an end": _has(Loop, times=_is(ALWAYS)),
    "a hand-off": _has(HandOff),
    "a span of the application's": _has(Program, wraps_work=bool),
}
FEATURES: Final = frozenset(_TRAITS) | {f"run by {mode}" for mode in get_args(Mode)}
"""All that can occur in a program."""
