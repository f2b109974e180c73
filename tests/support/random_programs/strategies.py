"""Hypothesis strategies for programs: small ones first, and every feature often enough to occur in two hundred."""

from __future__ import annotations

from typing import Any, Final, get_args

from hypothesis import strategies as st

from random_programs.specs import (
    ALWAYS,
    Agent,
    Ask,
    Branches,
    Choice,
    Compute,
    FanOut,
    Graph,
    HandOff,
    How,
    Loop,
    Mode,
    ModelCall,
    Node,
    Program,
    SendMap,
    Single,
    Stage,
    Stop,
    StreamMode,
    Tool,
    ToolKind,
    Turn,
    without_threads,
)

__all__ = ["RUNS", "programs"]

_Strategy = st.SearchStrategy[Any]

# Most parts succeed, or no program would get far.
_FAILURES = st.sampled_from((*[0] * 9, 1, 1, 2, 2, ALWAYS))
_SELDOM = st.sampled_from((False, False, False, True))
_REPORTED = st.tuples(st.integers(1, 500), st.integers(1, 90))
_USAGE = st.sampled_from(range(12)).flatmap(lambda number: _REPORTED if number else st.none())


@st.composite
def _model_calls(draw: st.DrawFn) -> ModelCall:
    failures = draw(_FAILURES)
    is_streamed = draw(_SELDOM)
    wrappers: _Strategy = st.sampled_from(("with_retry", "with_fallbacks", None))
    return ModelCall(
        kind=draw(st.sampled_from(("chat", "chat", "text"))),
        usage=draw(_USAGE),
        failures=failures,
        wrapper=draw(wrappers) if failures else None,
        is_streamed=is_streamed,
        close_after=draw(st.sampled_from((None, 1, 2))) if is_streamed else None,
        break_after=draw(st.sampled_from((None, 1, 2))) if is_streamed and failures else None,
        is_cached=not is_streamed and draw(_SELDOM),
    )


def _asks() -> _Strategy:
    return st.builds(Ask, before=st.none() | _model_calls())


def _tools(depth: int, *, may_ask: bool) -> _Strategy:
    return st.builds(
        Tool,
        kind=st.sampled_from((*[ToolKind.RETURNS] * 6, *ToolKind)),
        inside=st.none() | _steps(depth - 1, may_ask=may_ask, within_tool=True) if depth else st.none(),
        is_async=st.booleans(),
    )


def _agents(depth: int, *, may_ask: bool) -> _Strategy:
    turn = st.builds(
        Turn,
        tools=st.lists(_tools(depth, may_ask=may_ask), min_size=1, max_size=3).map(tuple),
        usage=_USAGE,
        failures=_FAILURES,
    )
    return st.builds(
        Agent,
        turns=st.lists(turn, max_size=2).map(tuple),
        answer=st.builds(ModelCall, usage=_USAGE, failures=_FAILURES),
        is_named=st.sampled_from((True, True, True, False)),
        retries_model=st.booleans(),
        retries_tools=st.booleans(),
    )


def _steps(depth: int, *, may_ask: bool, within_tool: bool = False) -> _Strategy:
    calls = _model_calls()
    leaves: list[_Strategy] = [
        st.builds(Compute, failures=_FAILURES),
        calls,
        calls,
        st.builds(Branches, calls=st.lists(calls, min_size=2, max_size=3).map(tuple)),
    ]
    if may_ask:
        leaves += [_asks(), _asks()]
    if not within_tool:
        leaves.append(_tools(depth, may_ask=may_ask).filter(lambda tool: tool.kind is not ToolKind.UNKNOWN))
    if depth > 0:
        leaves.append(_agents(depth - 1, may_ask=may_ask))
        leaves.append(_graphs(depth - 1, may_ask=may_ask))
    return st.one_of(leaves)


def _nodes(depth: int, *, may_ask: bool, may_be_direct: bool = True) -> _Strategy:
    return st.builds(
        Node,
        step=st.deferred(lambda: _steps(depth, may_ask=may_ask)),
        is_retried=_SELDOM,
        is_direct=st.booleans() if may_be_direct else st.just(False),
        is_async=st.sampled_from((True, True, False)),
    ).map(_plain)


def _plain(node: Node) -> Node:
    """Only an agent or a graph can be a node without a function around it, and a direct one has no function."""
    is_direct = node.is_direct and isinstance(node.step, Agent | Graph)
    return Node(step=node.step, is_retried=node.is_retried, is_direct=is_direct, is_async=node.is_async or is_direct)


def _stages(depth: int, *, may_ask: bool) -> st.SearchStrategy[Stage]:
    nodes = _nodes(depth, may_ask=may_ask)
    functions = _nodes(depth, may_ask=may_ask, may_be_direct=False)
    return st.one_of(
        st.builds(Single, node=nodes),
        st.builds(Single, node=nodes),
        st.builds(FanOut, nodes=st.lists(nodes, min_size=2, max_size=3).map(tuple)),
        st.builds(SendMap, node=functions, items=st.integers(2, 3)),
        st.builds(Choice, left=nodes, right=nodes, takes_left=st.booleans()),
        st.builds(Loop, node=functions, times=st.integers(2, 3)),
        st.builds(Loop, node=st.builds(Node, step=st.builds(Compute)), times=st.just(ALWAYS)),
        st.builds(HandOff, giver=_agents(0, may_ask=False), taker=nodes),
    )


def _graphs(depth: int, *, may_ask: bool) -> _Strategy:
    return st.builds(Graph, stages=st.lists(_stages(depth, may_ask=may_ask), min_size=1, max_size=3).map(tuple))


RUNS: Final[tuple[tuple[Mode, How | None], ...]] = (
    *((mode, None) for mode in get_args(Mode)),
    *((mode, "cancel") for mode in ("ainvoke", "astream", "abatch")),
    *((mode, how) for mode in ("stream", "astream") for how in ("closed", "dropped", "kept")),
)
"""How a program is run, and how it is stopped before its end, if it is."""


@st.composite
def programs(draw: st.DrawFn, mode: Mode, how: How | None) -> Program:
    """Programs of every shape, for one of the `RUNS`."""
    has_thread = mode not in ("batch", "abatch") and draw(st.booleans())
    # Where threads send messages, chance decides which is the last before a stop, or before an error.
    stream_mode: StreamMode = "values" if mode == "stream" and how else draw(st.sampled_from(get_args(StreamMode)))
    has_no_threads = how == "cancel" or (how and stream_mode == "messages")
    root = draw(_roots(has_thread=has_thread))
    return Program(
        root=without_threads(root) if has_no_threads else root,
        mode=mode,
        stream_mode=stream_mode,
        stop=None if how is None else Stop(how=how, after=draw(st.integers(1, 8 if how == "cancel" else 3))),
        has_thread=has_thread,
        wraps_work=draw(st.booleans()),
    )


def _roots(*, has_thread: bool) -> _Strategy:
    graphs, agents = _graphs(2, may_ask=has_thread), _agents(2, may_ask=has_thread)
    if not has_thread:
        return graphs | graphs | agents
    # Of the interrupts further inside, few are reached.
    return graphs | agents | st.builds(_asking_first, _asks(), graphs)


def _asking_first(ask: Ask, graph: Graph) -> Graph:
    return Graph(stages=(Single(node=Node(step=ask)), *graph.stages))
