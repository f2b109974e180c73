from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import cleandoc
from operator import add as concatenate
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from tokenomics_langchain import TokenomicsCallbackHandler

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}

Tree = Callable[[], str]
Spans = Callable[..., list[ReadableSpan]]


class State(TypedDict):
    seen: Annotated[list[str], concatenate]


def node(name: str) -> Any:
    return lambda _state: {"seen": [name]}


def two_node_graph(name: str | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    builder = StateGraph(State)
    builder.add_node("first", node("first"))
    builder.add_node("second", node("second"))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", lambda _state: "second")
    builder.add_edge("second", END)
    return builder.compile(name=name)


def as_tree(text: str) -> str:
    return cleandoc(text)


AGENT_TREE = as_tree(
    """
    invoke_agent calculator
      chat toy-1
      execute_tool add
      chat toy-1
    """
)


async def _drain(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def _exhaust(stream: Iterator[Any]) -> None:
    for _ in stream:
        pass


WAYS_TO_RUN: dict[str, Callable[[Any, Any], None]] = {
    "invoke": lambda agent, config: agent.invoke(QUESTION, config),
    "ainvoke": lambda agent, config: asyncio.run(agent.ainvoke(QUESTION, config)),
    "stream": lambda agent, config: _exhaust(agent.stream(QUESTION, config)),
    "stream messages": lambda agent, config: _exhaust(agent.stream(QUESTION, config, stream_mode="messages")),
    "astream": lambda agent, config: asyncio.run(_drain(agent.astream(QUESTION, config))),
    "astream messages": lambda agent, config: asyncio.run(
        _drain(agent.astream(QUESTION, config, stream_mode="messages"))
    ),
    "astream_events": lambda agent, config: asyncio.run(_drain(agent.astream_events(QUESTION, config, version="v2"))),
}


@pytest.mark.parametrize("run", WAYS_TO_RUN.values(), ids=WAYS_TO_RUN.keys())
def test_an_agent_has_the_same_tree_however_it_is_run(
    run: Callable[[Any, Any], None],
    streaming_model: BaseChatModel,
    add: BaseTool,
    handler: TokenomicsCallbackHandler,
    tree: Tree,
) -> None:
    agent = create_agent(streaming_model, [add], name="calculator")

    run(agent, {"callbacks": [handler]})

    assert tree() == AGENT_TREE


def test_the_spans_of_an_agent_are_golden(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    agent = create_agent(model, [add], name="calculator")

    agent.invoke(QUESTION, {"callbacks": [handler], "configurable": {"thread_id": 42}})

    shared = {"gen_ai.agent.name": "str", "gen_ai.conversation.id": "str", "gen_ai.operation.name": "str"}
    of_agent = shared | {"gen_ai.usage.input_tokens": "int", "gen_ai.usage.output_tokens": "int"}
    step = {"tokenomics.step.kind": "str", "tokenomics.step.kind.source": "str"}
    attempt = {"tokenomics.attempt.number": "int", "tokenomics.operation.id": "str"}
    chat = (
        shared
        | step
        | attempt
        | {
            "gen_ai.provider.name": "str",
            "gen_ai.request.model": "str",
            "gen_ai.response.finish_reasons": "tuple[str]",
            "gen_ai.response.id": "str",
            "gen_ai.response.model": "str",
            "gen_ai.usage.cache_read.input_tokens": "int",
            "gen_ai.usage.cache_write.input_tokens": "int",
            "gen_ai.usage.input_tokens": "int",
            "gen_ai.usage.output_tokens": "int",
            "gen_ai.usage.reasoning.output_tokens": "int",
            "tokenomics.context.blocks": "str",
            "tokenomics.result.fingerprint": "str",
        }
    )
    execute_tool = (
        shared
        | step
        | attempt
        | {
            "gen_ai.tool.call.id": "str",
            "gen_ai.tool.description": "str",
            "gen_ai.tool.name": "str",
            "gen_ai.tool.type": "str",
            "tokenomics.arguments.fingerprint": "str",
            "tokenomics.result.fingerprint": "str",
        }
    )
    goes_on = {"tokenomics.context.kept": "int", "tokenomics.context.previous": "str"}
    expected: list[tuple[str, str, dict[str, str]]] = [
        ("invoke_agent calculator", "INTERNAL", of_agent),
        ("chat toy-1", "CLIENT", chat),
        ("execute_tool add", "INTERNAL", execute_tool),
        ("chat toy-1", "CLIENT", chat | goes_on),
    ]
    assert [(span.name, span.kind.name, _types(span)) for span in spans()] == [
        (name, kind, dict(sorted(types.items()))) for name, kind, types in expected
    ]


def _types(span: ReadableSpan) -> dict[str, str]:
    def name(value: Any) -> str:
        return f"tuple[{type(value[0]).__name__}]" if isinstance(value, tuple) else type(value).__name__

    return {key: name(value) for key, value in sorted((span.attributes or {}).items())}


def test_an_agent_without_a_name_is_still_an_agent(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    create_agent(model, [add]).invoke(QUESTION, {"callbacks": [handler]})

    assert [span.name for span in spans("invoke_agent")] == ["invoke_agent"]


def test_an_agent_keeps_its_name_when_the_run_is_renamed(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    agent = create_agent(model, [add], name="calculator")

    agent.invoke(QUESTION, {"callbacks": [handler], "run_name": "tuesday"})

    assert [span.name for span in spans("invoke_agent")] == ["invoke_agent calculator"]


def test_a_graph_shows_its_nodes_and_hides_its_edges(handler: TokenomicsCallbackHandler, tree: Tree) -> None:
    two_node_graph("pipeline").invoke({"seen": []}, {"callbacks": [handler]})

    assert tree() == as_tree(
        """
        invoke_workflow pipeline
          run_node first
          run_node second
        """
    )


def test_a_hidden_start_node_stays_hidden(handler: TokenomicsCallbackHandler, tree: Tree) -> None:
    builder = StateGraph(State)
    builder.add_node("only", node("only"))
    builder.add_conditional_edges(START, lambda _state: "only")
    builder.compile(name="pipeline").invoke({"seen": []}, {"callbacks": [handler]})

    assert tree() == as_tree(
        """
        invoke_workflow pipeline
          run_node only
        """
    )


def test_a_default_name_is_no_workflow_name(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    two_node_graph().invoke({"seen": []}, {"callbacks": [handler]})

    (workflow,) = spans("invoke_workflow")
    assert workflow.name == "invoke_workflow"
    assert "gen_ai.workflow.name" not in (workflow.attributes or {})


def test_tasks_of_the_functional_api_are_nodes(handler: TokenomicsCallbackHandler, tree: Tree) -> None:
    @task
    def double(number: int) -> int:
        return 2 * number

    @entrypoint()
    def flow(number: int) -> int:
        return double(double(number).result()).result()

    flow.invoke(1, {"callbacks": [handler]})

    assert tree() == as_tree(
        """
        invoke_workflow
          run_node flow
            run_node double
            run_node double
        """
    )


def test_graphs_in_graphs_are_workflows_wherever_they_are_called(
    handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    inner = two_node_graph("inner")
    builder = StateGraph(State)
    builder.add_node("subgraph", inner)
    builder.add_node("calls_it", lambda _state: inner.invoke({"seen": []}))
    builder.add_edge(START, "subgraph")
    builder.add_edge("subgraph", "calls_it")
    builder.compile(name="outer").invoke({"seen": []}, {"callbacks": [handler]})

    assert tree() == as_tree(
        """
        invoke_workflow outer
          run_node subgraph
            invoke_workflow inner
              run_node first
              run_node second
          run_node calls_it
            invoke_workflow inner
              run_node first
              run_node second
        """
    )


@pytest.mark.parametrize(("name", "shown"), [("researcher", "invoke_agent researcher"), (None, "invoke_agent")])
def test_an_agent_in_a_tool_of_an_agent_is_shown_below_the_tool(
    name: str | None,
    shown: str,
    script: list[Any],
    scripted: Callable[..., BaseChatModel],
    handler: TokenomicsCallbackHandler,
    tree: Tree,
) -> None:
    inner = create_agent(scripted(script=script[1:]), [], name=name)

    @tool
    def add(a: int, b: int) -> str:
        """Ask somebody who can."""
        return str(inner.invoke(QUESTION)["messages"][-1].content)

    create_agent(scripted(script=script), [add], name="calculator").invoke(QUESTION, {"callbacks": [handler]})

    assert tree() == as_tree(
        f"""
        invoke_agent calculator
          chat toy-1
          execute_tool add
            {shown}
              chat toy-1
          chat toy-1
        """
    )


def test_calls_carry_the_name_of_the_nearest_agent(
    script: list[Any], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    named = create_agent(scripted(script=script[1:]), [], name="researcher")
    unnamed = create_agent(scripted(script=script[1:]), [])

    @tool
    def add(a: int, b: int) -> str:
        """Ask two who can."""
        named.invoke(QUESTION)
        unnamed.invoke(QUESTION)
        return "3"

    create_agent(scripted(script=script), [add], name="calculator").invoke(QUESTION, {"callbacks": [handler]})

    names = [(span.attributes or {}).get("gen_ai.agent.name") for span in spans("chat")]
    assert names == ["calculator", "researcher", None, "calculator"]


def test_a_plain_graph_in_a_tool_of_an_agent_is_a_workflow(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    inner = two_node_graph("lookup")

    @tool
    def add(a: int, b: int) -> str:
        """Look it up."""
        return str(inner.invoke({"seen": []}))

    create_agent(model, [add], name="calculator").invoke(QUESTION, {"callbacks": [handler]})

    assert "    invoke_workflow lookup\n      run_node first\n      run_node second\n" in tree()


def test_a_named_graph_does_not_become_an_agent_by_the_names_of_its_nodes(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    builder = StateGraph(State)
    builder.add_node("model", node("model"))
    builder.add_edge(START, "model")
    inner = builder.compile(name="weather")

    @tool
    def add(a: int, b: int) -> str:
        """Ask the weather model."""
        return str(inner.invoke({"seen": []}))

    create_agent(model, [add], name="calculator").invoke(QUESTION, {"callbacks": [handler]})

    assert [span.name for span in spans("invoke_workflow")] == ["invoke_workflow weather"]


def test_an_agent_that_calls_itself_is_shown_twice(
    script: list[Any], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    @tool
    def add(a: int, b: int) -> str:
        """Delegate to the same agent, which knows the answer the second time."""
        return str(agent.invoke({"messages": [*QUESTION["messages"], ("ai", "let me see")]})["messages"][-1].content)

    agent: Any = create_agent(scripted(script=script), [add], name="calculator")
    agent.invoke(QUESTION, {"callbacks": [handler]})

    assert [span.name for span in spans("invoke_agent")] == ["invoke_agent calculator"] * 2


def test_agents_are_nodes_of_a_team(
    script: list[Any], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    class Chat(TypedDict):
        messages: list[Any]

    builder = StateGraph(Chat)
    builder.add_node("alice", create_agent(scripted(script=script[1:]), [], name="alice"))
    builder.add_node("bob", create_agent(scripted(script=[*script[1:], *script[1:]]), []))
    builder.add_edge(START, "alice")
    builder.add_edge("alice", "bob")
    builder.compile(name="team").invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})

    assert tree() == as_tree(
        """
        invoke_workflow team
          run_node alice
            invoke_agent alice
              chat toy-1
          run_node bob
            invoke_agent
              chat toy-1
        """
    )


def test_an_unnamed_graph_that_begins_in_parallel_is_shown_once(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider, spans: Spans
) -> None:
    class Slow(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            time.sleep(0.005)  # long enough for the nodes in the other threads to start too

    tracer_provider.add_span_processor(Slow())
    builder = StateGraph(State)
    for name in map(str, range(8)):
        builder.add_node(name, node(name))
        builder.add_edge(START, name)
    fan_out = builder.compile()

    @tool
    def add(a: int, b: int) -> str:
        """Ask many."""
        return str(fan_out.invoke({"seen": []}))

    create_agent(model, [add], name="calculator").invoke(QUESTION, {"callbacks": [handler]})

    (workflow,) = spans("invoke_workflow")
    (execution,) = spans("execute_tool")
    parents = {span.parent.span_id for span in spans("run_node") if span.parent and span.name[-1].isdigit()}
    assert parents == {workflow.context.span_id}
    assert workflow.parent is not None
    assert workflow.parent.span_id == execution.context.span_id


def test_parts_of_a_chain_get_no_span_but_stay_connected(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    chain = prompt | model.with_retry() | StrOutputParser() | RunnableLambda(str.upper)
    both = RunnableParallel(left=chain, right=chain).with_config(run_name="ask twice")

    both.invoke({"question": "?"}, {"callbacks": [handler], "max_concurrency": 1})

    assert tree() == as_tree(
        """
        invoke_workflow ask twice
          run_branch left
            chat toy-1
          run_branch right
            chat toy-1
        """
    )


def test_an_agent_after_a_lambda_is_an_agent_in_a_workflow(
    script: list[Any], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    agent = create_agent(scripted(script=script[1:]), [], name="calculator")
    (RunnableLambda(lambda question: question) | agent).invoke(QUESTION, {"callbacks": [handler]})

    assert tree().startswith("invoke_workflow\n  invoke_agent calculator\n    chat toy-1")


def test_calls_outside_any_chain_are_roots(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    config: Any = {"callbacks": [handler]}
    model.invoke("hello", config)
    FakeListLLM(responses=["hi"]).invoke("hello", config)
    add.invoke({"a": 1, "b": 2}, config)
    OneDocument().invoke("hello", config)

    assert tree() == as_tree(
        """
        chat toy-1
        text_completion
        execute_tool add
        retrieval
        """
    )


class OneDocument(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document("text", id="doc-1", metadata={"score": 0.5})]


def test_a_batch_is_one_trace_for_each_input(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    create_agent(model, [add], name="calculator").batch([QUESTION] * 3, {"callbacks": [handler]})

    assert len({span.context.trace_id for span in spans()}) == 3
    assert len(spans()) == 3 * len(AGENT_TREE.splitlines())


def test_a_run_belongs_to_the_span_that_is_current_where_it_starts(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider, tree: Tree
) -> None:
    with tracer_provider.get_tracer("application").start_as_current_span("request"):
        model.invoke("hello", {"callbacks": [handler]})

    assert tree() == "request\n  chat toy-1"


def test_a_handler_of_the_model_alone_sees_only_the_model(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    create_agent(model.model_copy(update={"callbacks": [handler]}), [add]).invoke(QUESTION)

    assert tree() == "chat toy-1\nchat toy-1"


def test_a_handler_of_an_inner_agent_alone_sees_only_that_agent(
    script: list[Any], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    inner = create_agent(scripted(script=script[1:]), [], name="researcher").with_config(callbacks=[handler])

    @tool
    def add(a: int, b: int) -> str:
        """Ask somebody who can."""
        return str(inner.invoke(QUESTION)["messages"][-1].content)

    create_agent(scripted(script=script), [add], name="calculator").invoke(QUESTION)

    assert tree().startswith("invoke_agent researcher\n  chat toy-1")


def test_a_chain_that_only_inherits_an_agents_metadata_is_no_agent(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    watched = RunnableLambda(str).with_config(callbacks=[handler], run_name="format")

    @tool
    def add(a: int, b: int) -> str:
        """Format, and nothing else is watched."""
        return watched.invoke(a + b)

    create_agent(model, [add], name="calculator").invoke(QUESTION)

    assert tree() == "invoke_workflow format"


def test_spans_lie_within_their_parents(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    create_agent(model, [add]).invoke(QUESTION, {"callbacks": [handler]})

    by_id = {span.context.span_id: span for span in spans()}
    for span in spans():
        if span.parent is not None:
            parent = by_id[span.parent.span_id]
            assert (parent.start_time or 0) <= (span.start_time or 0)
            assert (span.end_time or 0) <= (parent.end_time or 0)
