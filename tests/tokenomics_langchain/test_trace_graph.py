from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import cleandoc
from operator import add as concatenate
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_langchain.graphs import trace_graph

Tree = Callable[[], str]
Spans = Callable[..., list[ReadableSpan]]


class State(TypedDict):
    seen: Annotated[list[str], concatenate]


START_STATE: Any = {"seen": []}


def node(name: str) -> Any:
    def run(_state: State) -> State:
        return {"seen": [name]}

    return run


def two_nodes() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("first", node("first"))
    builder.add_node("second", node("second"))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", lambda _state: "second", ["second", END])
    return builder


def one_node(name: str, runs: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node(name, runs)
    builder.add_edge(START, name)
    return builder


TWO_NODES = cleandoc(
    """
    invoke_workflow pair
      run_node first
      run_node second
    """
)


async def _drain(graph: Any) -> None:
    async for _ in graph.astream(START_STATE):
        pass


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda graph: graph.invoke(START_STATE), id="invoke"),
        pytest.param(lambda graph: asyncio.run(graph.ainvoke(START_STATE)), id="ainvoke"),
        pytest.param(lambda graph: list(graph.stream(START_STATE)), id="stream"),
        pytest.param(lambda graph: asyncio.run(_drain(graph)), id="astream"),
        pytest.param(lambda graph: graph.invoke(START_STATE, {"callbacks": [BaseCallbackHandler()]}), id="own list"),
        pytest.param(
            lambda graph: graph.invoke(START_STATE, {"callbacks": CallbackManager([BaseCallbackHandler()])}),
            id="own manager",
        ),
        pytest.param(lambda graph: graph.with_config(tags=["mine"]).invoke(START_STATE), id="configured further"),
    ],
)
def test_a_compiled_graph_is_traced_however_it_runs(
    run: Callable[[Any], Any], tracer_provider: TracerProvider, tree: Tree
) -> None:
    run(trace_graph(two_nodes(), tracer_provider).compile(name="pair"))
    assert tree() == TWO_NODES


def test_a_traced_graph_is_the_graph_that_it_would_be(tracer_provider: TracerProvider) -> None:
    checkpointer, builder = InMemorySaver(), two_nodes()
    plain = builder.compile(checkpointer, name="pair", interrupt_after=["first"])
    assert trace_graph(builder, tracer_provider) is builder
    traced = builder.compile(checkpointer, name="pair", interrupt_after=["first"])
    assert type(traced) is type(plain)
    assert traced.get_graph().to_json() == plain.get_graph().to_json()
    assert traced.get_graph().draw_mermaid() == plain.get_graph().draw_mermaid()
    assert (list(traced.nodes), list(traced.channels)) == (list(plain.nodes), list(plain.channels))
    same = ("name", "checkpointer", "interrupt_after_nodes", "input_channels", "output_channels", "builder")
    assert [getattr(traced, name) for name in same] == [getattr(plain, name) for name in same]
    assert {key: value for key, value in (traced.config or {}).items() if value} == {
        **(plain.config or {}),
        "callbacks": (traced.config or {})["callbacks"],
    }


def test_results_and_errors_are_those_of_the_graph(tracer_provider: TracerProvider) -> None:
    error = ValueError("no")

    def fail(_state: State) -> State:
        raise error

    assert trace_graph(two_nodes(), tracer_provider).compile().invoke(START_STATE) == {"seen": ["first", "second"]}
    with pytest.raises(ValueError, match="no") as caught:
        trace_graph(one_node("fails", fail), tracer_provider).compile().invoke(START_STATE)
    assert caught.value is error


def test_tracing_a_builder_twice_records_once(tracer_provider: TracerProvider, tree: Tree) -> None:
    builder = trace_graph(trace_graph(two_nodes(), tracer_provider), tracer_provider)
    builder.compile(name="pair").invoke(START_STATE)
    assert tree() == TWO_NODES


@pytest.mark.parametrize("is_own", [True, False], ids=["same handler", "another handler"])
def test_a_handler_that_is_passed_as_well_records_once(
    is_own: bool, handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider, tree: Tree
) -> None:
    passed = handler if is_own else TokenomicsCallbackHandler(tracer_provider)
    trace_graph(two_nodes(), handler=handler).compile(name="pair").invoke(START_STATE, {"callbacks": [passed]})
    assert tree() == TWO_NODES


def test_chunks_of_a_stream_count_once_when_the_handler_is_passed_as_well(
    handler: TokenomicsCallbackHandler, streaming_model: BaseChatModel, spans: Spans
) -> None:
    streams = one_node("asks", lambda _state: {"seen": [next(streaming_model.stream("what?")).text]})
    streaming_model.script[0].content, streaming_model.script[0].usage_metadata = "four", None  # type: ignore[attr-defined]
    trace_graph(streams, handler=handler).compile().invoke(START_STATE, {"callbacks": [handler]})
    (chat,) = spans("chat")
    assert chat.attributes is not None
    assert chat.attributes["gen_ai.usage.output_tokens"] == 1  # four characters, at four a token


@pytest.mark.parametrize("is_outer_traced", [True, False], ids=["in a traced graph", "in a plain graph"])
def test_a_traced_graph_works_inside_another(
    is_outer_traced: bool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    inner = trace_graph(two_nodes(), tracer_provider).compile(name="pair")
    outer = one_node("inside", inner)
    if is_outer_traced:
        trace_graph(outer, tracer_provider)
    assert outer.compile(name="around").invoke(START_STATE) == {"seen": ["first", "second"]}
    inside = TWO_NODES.replace("\n", "\n    ")
    assert tree() == (f"invoke_workflow around\n  run_node inside\n    {inside}" if is_outer_traced else TWO_NODES)


def test_an_interrupted_graph_and_its_resumption_are_linked(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    asks = one_node("asks", lambda _state: {"seen": [interrupt("sure?")]})
    graph = trace_graph(asks, handler=handler).compile(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [handler]}
    graph.invoke(START_STATE, config)
    graph.invoke(Command(resume="yes"), config)
    interrupted, resumed = spans("invoke_workflow")
    assert (interrupted.attributes or {})["tokenomics.run.state"] == "interrupted"
    assert [link.context for link in resumed.links] == [interrupted.context]
    assert [event.name for event in resumed.events] == ["tokenomics.resume"]


def test_spans_that_a_node_opens_nest_under_it(tracer_provider: TracerProvider, tree: Tree) -> None:
    def query(_state: State) -> State:
        with tracer_provider.get_tracer("shop").start_as_current_span("query stock"):
            return {"seen": [trace.get_current_span().name]}  # type: ignore[attr-defined]

    trace_graph(one_node("looks", query), tracer_provider).compile(name="shop").invoke(START_STATE)
    assert tree() == "invoke_workflow shop\n  run_node looks\n    query stock"


def test_a_handler_and_a_provider_together_are_refused(
    handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider
) -> None:
    with pytest.raises(ValueError, match="give only one"):
        trace_graph(two_nodes(), tracer_provider, handler=handler)
