from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from tokenomics_langchain import TokenomicsCallbackHandler

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}

Tree = Callable[[], str]
Spans = Callable[..., list[ReadableSpan]]


class OutOfPaperError(Exception):
    """Something of the application's own."""


@tool("add")
def failing_add(a: int, b: int) -> int:
    """Add two numbers, or not."""
    raise OutOfPaperError("tray 2")


class BrokenRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        raise OutOfPaperError("tray 3")


class State(TypedDict):
    answer: str


def asking_graph() -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", lambda _state: {"answer": interrupt("really?")})
    builder.add_edge(START, "ask")
    return builder.compile(name="approval", checkpointer=InMemorySaver())


def test_an_error_marks_each_run_that_it_went_through(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree, spans: Spans
) -> None:
    with pytest.raises(OutOfPaperError):
        create_agent(model, [failing_add], name="printer").invoke(QUESTION, {"callbacks": [handler]})

    assert tree().splitlines() == [
        "invoke_agent printer !",
        "  chat toy-1",
        "  execute_tool add !",
    ]
    failed = [span for span in spans() if not span.status.is_unset]
    assert {(span.attributes or {})["error.type"] for span in failed} == {"OutOfPaperError"}


def test_the_exception_event_names_the_type_in_full_and_nothing_else(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    with pytest.raises(OutOfPaperError):
        create_agent(model, [failing_add]).invoke(QUESTION, {"callbacks": [handler]})

    (execution,) = spans("execute_tool")
    (event,) = execution.events
    assert event.name == "exception"
    assert event.attributes == {"exception.type": f"{OutOfPaperError.__module__}.OutOfPaperError"}
    assert execution.status.description is None


def test_with_content_on_the_errors_text_is_kept(
    model: BaseChatModel, capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    with pytest.raises(OutOfPaperError):
        create_agent(model, [failing_add]).invoke(QUESTION, {"callbacks": [capturing]})

    (execution,) = spans("execute_tool")
    assert (execution.events[0].attributes or {})["exception.message"] == "tray 2"
    assert execution.status.description == "tray 2"


def test_a_model_that_fails_is_a_failed_span(
    scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    with pytest.raises(TimeoutError):
        scripted(script=[TimeoutError("slow")]).invoke("hello", {"callbacks": [handler]})

    (chat,) = spans("chat")
    assert (chat.attributes or {})["error.type"] == "TimeoutError"
    assert (chat.attributes or {})["gen_ai.request.model"] == "toy-1"
    assert chat.events[0].attributes == {"exception.type": "TimeoutError"}


def test_a_retriever_that_fails_is_a_failed_span(handler: TokenomicsCallbackHandler, tree: Tree) -> None:
    with pytest.raises(OutOfPaperError):
        BrokenRetriever().invoke("query", {"callbacks": [handler]})

    assert tree() == "retrieval !"


def test_an_interrupt_and_its_resumption_are_no_errors(handler: TokenomicsCallbackHandler, tree: Tree) -> None:
    graph, config = asking_graph(), {"callbacks": [handler], "configurable": {"thread_id": "t"}}

    graph.invoke({"answer": ""}, config)
    assert graph.invoke(Command(resume="yes"), config) == {"answer": "yes"}

    assert tree() == "\n".join(["invoke_workflow approval", "  run_node ask"] * 2)


def test_an_interrupt_is_an_event_of_its_own(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    asking_graph().invoke({"answer": ""}, {"callbacks": [handler], "configurable": {"thread_id": "t"}})

    events = [[(event.name, dict(event.attributes or {})) for event in span.events] for span in spans()]
    assert events == [[("tokenomics.interrupt", {"tokenomics.interrupt.count": 1})]] * 2
    assert {(span.attributes or {})["tokenomics.run.state"] for span in spans()} == {"interrupted"}
    assert all("error.type" not in (span.attributes or {}) for span in spans())


def test_a_hand_off_to_a_parent_graph_is_no_error(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    @tool
    def add(a: int, b: int) -> Command[Any]:
        """Let somebody else add."""
        return Command(goto="bob", graph=Command.PARENT)

    class Chat(TypedDict):
        messages: list[Any]

    builder = StateGraph(Chat)
    builder.add_node("alice", create_agent(model, [add], name="alice"), destinations=("bob",))
    builder.add_node("bob", lambda _state: {})
    builder.add_edge(START, "alice")
    builder.compile(name="team").invoke({"messages": [("user", "1 + 2?")]}, {"callbacks": [handler]})

    assert "!" not in tree()
    assert tree().endswith("  run_node bob")


def test_a_stream_that_its_reader_closes_is_no_error(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    stream: Any = streaming_model.stream("hello", {"callbacks": [handler]})
    next(stream)
    stream.close()

    assert tree() == "chat toy-1"


def test_a_broken_stream_keeps_what_it_told_before(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    breaking = streaming_model.model_copy(update={"breaks_with": ConnectionResetError()})
    with pytest.raises(ConnectionResetError):
        list(breaking.stream("hello", {"callbacks": [handler]}))

    (chat,) = spans("chat")
    assert (chat.attributes or {})["gen_ai.usage.input_tokens"] == 20
    assert (chat.attributes or {})["error.type"] == "ConnectionResetError"


async def test_a_cancelled_run_is_failed_by_its_cancellation(
    model: BaseChatModel, tracer_provider: TracerProvider, spans: Spans
) -> None:
    started = asyncio.Event()

    @tool
    async def add(a: int, b: int) -> int:
        """Think about it, for ever."""
        started.set()
        await asyncio.Event().wait()
        return a + b

    handler = TokenomicsCallbackHandler(tracer_provider)
    run = asyncio.create_task(create_agent(model, [add], name="slow").ainvoke(QUESTION, {"callbacks": [handler]}))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    (agent,) = spans("invoke_agent")
    assert (agent.attributes or {})["error.type"] == "CancelledError"


def test_a_tool_error_that_the_agent_handles_leaves_the_agent_well(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, tree: Tree
) -> None:
    retry = ToolRetryMiddleware(max_retries=1, initial_delay=0, jitter=False)
    create_agent(model, [failing_add], name="printer", middleware=[retry]).invoke(QUESTION, {"callbacks": [handler]})

    assert tree().splitlines() == [
        "invoke_agent printer",
        "  chat toy-1",
        "  execute_tool add !",
        "  execute_tool add !",
        "  chat toy-1",
    ]
