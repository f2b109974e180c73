from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from pydantic import BaseModel

import tokenomics_plugin
from tokenomics_langchain import TokenomicsCallbackHandler

Spans = Callable[..., list[ReadableSpan]]

FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_usage_includes_cache_and_reasoning(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    model.invoke("hello", {"callbacks": [handler]})

    (chat,) = spans("chat")
    usage = {name.removeprefix("gen_ai.usage."): value for name, value in attributes(chat).items() if "usage" in name}
    assert usage == {
        "input_tokens": 20,
        "output_tokens": 5,
        "cache_read.input_tokens": 4,
        "cache_write.input_tokens": 2,
        "reasoning.output_tokens": 3,
    }


def test_a_model_in_this_process_is_an_internal_span(
    script: list[AIMessage], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    scripted(script=script, provider="local").invoke("hello", {"callbacks": [handler]})

    assert [span.kind.name for span in spans("chat")] == ["INTERNAL"]


def test_settings_of_a_call_win_over_those_of_the_model(
    script: list[AIMessage], scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    model = scripted(script=script, temperature=0.5, max_tokens=10)
    model.bind(temperature=0.1, stop=["END"]).invoke("hello", {"callbacks": [handler]})

    (chat,) = spans("chat")
    assert attributes(chat)["gen_ai.request.temperature"] == 0.1
    assert attributes(chat)["gen_ai.request.max_tokens"] == 10
    assert "gen_ai.request.stop_sequences" not in attributes(chat)


def test_what_stops_an_answer_is_content(
    script: list[AIMessage], scripted: Callable[..., BaseChatModel], capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    scripted(script=script).bind(stop=["Jane Doe:"]).invoke("hello", {"callbacks": [capturing]})

    assert attributes(spans("chat")[0])["gen_ai.request.stop_sequences"] == ("Jane Doe:",)


def test_structured_output_is_seen_in_the_request(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    bound = model.bind(ls_structured_output_format={"schema": Answer, "kwargs": {}})
    bound.invoke("hello", {"callbacks": [handler]})

    assert [attributes(span)["gen_ai.output.type"] for span in spans("chat")] == ["json"]


class Answer(BaseModel):
    """An answer."""

    number: int


def test_a_stream_tells_the_time_to_its_first_chunk_and_its_usage_once(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    assert len(list(streaming_model.stream("hello", {"callbacks": [handler]}))) > 0

    (chat,) = spans("chat")
    seconds = ((chat.end_time or 0) - (chat.start_time or 0)) / 1e9
    assert attributes(chat)["gen_ai.request.stream"] is True
    assert 0 < attributes(chat)[FIRST_CHUNK] < seconds
    assert attributes(chat)["gen_ai.usage.input_tokens"] == 20


async def test_an_async_stream_does_so_too(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    async for _ in streaming_model.astream("hello", {"callbacks": [handler]}):
        pass

    assert [FIRST_CHUNK in attributes(span) for span in spans("chat")] == [True]


@pytest.mark.filterwarnings("ignore:.*experimental.*")
def test_a_stream_of_protocol_events_does_so_too(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    list(streaming_model.stream_events("hello", {"callbacks": [handler]}, version="v3"))

    assert [FIRST_CHUNK in attributes(span) for span in spans("chat")] == [True]


def test_a_call_that_does_not_stream_has_no_first_chunk(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    model.invoke("hello", {"callbacks": [handler]})

    (chat,) = spans("chat")
    assert {FIRST_CHUNK, "gen_ai.request.stream"}.isdisjoint(attributes(chat))


def test_the_first_chunk_is_the_first_and_not_the_last(
    streaming_model: BaseChatModel, script: list[AIMessage], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    slow = streaming_model.model_copy(update={"script": script[1:], "delay_s": 0.03})
    list(slow.stream("hello", {"callbacks": [handler]}))

    (chat,) = spans("chat")
    seconds = ((chat.end_time or 0) - (chat.start_time or 0)) / 1e9
    # Three words, 30 ms before each: the first comes after a third of the time, with slack for a busy machine.
    assert 0.03 <= attributes(chat)[FIRST_CHUNK] < 0.8 * seconds


def test_an_agents_conversation_is_its_thread(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    question: Any = {"messages": [("user", "1 + 2?")]}
    create_agent(model, [add]).invoke(question, {"callbacks": [handler], "configurable": {"thread_id": 42}})

    assert {attributes(span)["gen_ai.conversation.id"] for span in spans()} == {"42"}


def test_without_a_thread_there_is_no_conversation(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    model.invoke("hello", {"callbacks": [handler]})

    assert "gen_ai.conversation.id" not in attributes(spans()[0])


def test_a_task_reaches_every_span_in_every_thread(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    question: Any = {"messages": [("user", "1 + 2?")]}
    with tokenomics_plugin.task("ticket-1", group="refunds") as ticket:
        # Parallel inputs run in LangChain's own threads, tools in another one.
        create_agent(model, [add]).batch([question] * 2, {"callbacks": [handler]})
        ticket.succeed()

    assert len(spans()) == 2 * 4
    assert {attributes(span)["tokenomics.task.id"] for span in spans()} == {"ticket-1"}
    assert {attributes(span)["tokenomics.task.group"] for span in spans()} == {"refunds"}


@pytest.fixture
def bare_thread_chain(model: BaseChatModel) -> Runnable[str, str]:
    """Calls the model in a thread that inherits no context at all."""

    def call_in_bare_thread(question: str, config: Any) -> str:
        thread = threading.Thread(target=model.invoke, args=(question, config))
        # Past the patched `start`, which would hand the task's context on.
        getattr(threading.Thread.start, "__wrapped__", threading.Thread.start)(thread)
        thread.join()
        return question

    return RunnableLambda(call_in_bare_thread)


def test_a_run_keeps_its_task_in_a_thread_that_knows_no_context(
    bare_thread_chain: Runnable[str, str], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    with tokenomics_plugin.task("ticket-1") as ticket:
        bare_thread_chain.invoke("hello", {"callbacks": [handler]})
        ticket.succeed()

    assert [attributes(span)["tokenomics.task.id"] for span in spans("chat")] == ["ticket-1"]


def test_span_processors_see_the_programs_baggage_there_too(
    bare_thread_chain: Runnable[str, str], handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider
) -> None:
    tenants: list[object] = []

    class Tenants(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            tenants.append(baggage.get_baggage("tenant", parent_context))

    tracer_provider.add_span_processor(Tenants())
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    bare_thread_chain.invoke("hello", {"callbacks": [handler]})
    context.detach(token)

    assert tenants == ["acme", "acme"]


def test_a_task_entered_inside_a_run_takes_over(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    def work(question: str, config: Any) -> str:
        with tokenomics_plugin.task("subtask") as subtask:
            model.invoke(question, config)
            subtask.succeed()
        model.invoke(question, config)
        return question

    with tokenomics_plugin.task("ticket-1") as ticket:
        RunnableLambda(work).invoke("hello", {"callbacks": [handler]})
        ticket.succeed()

    assert [attributes(span)["tokenomics.task.id"] for span in spans()] == ["ticket-1", "subtask", "ticket-1"]


async def test_concurrent_runs_keep_apart(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    agent = create_agent(model, [add], name="calculator")

    async def one(number: int) -> None:
        question: Any = {"messages": [("user", "1 + 2?")]}
        await agent.ainvoke(question, {"callbacks": [handler], "configurable": {"thread_id": f"thread-{number}"}})

    await asyncio.gather(*map(one, range(20)))

    traces: dict[int, set[str]] = {}
    for span in spans():
        traces.setdefault(span.context.trace_id, set()).add(attributes(span)["gen_ai.conversation.id"])
    assert sorted(map(tuple, traces.values())) == sorted((f"thread-{number}",) for number in range(20))
    assert len(spans()) == 20 * 4


def test_concurrent_threads_keep_apart(model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | model

    def work() -> None:
        for _ in range(10):
            chain.invoke({"question": "?"}, {"callbacks": [handler]})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    by_id = {span.context.span_id: span for span in spans()}
    chats = spans("chat")
    assert len(chats) == 80
    assert len({span.context.trace_id for span in chats}) == 80
    assert all(chat.parent and by_id[chat.parent.span_id].name == "invoke_workflow" for chat in chats)
