from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import cleandoc
from operator import add as concatenate
from typing import Annotated, Any, TypedDict

import langgraph.pregel.main as graph_module
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool
from langchain_core.tracers import context as hook_module
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import get_current_span

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_langchain.graphs import trace_graph
from tokenomics_langchain.instrumentor import LangChainInstrumentor
from tokenomics_langchain.middleware import TokenomicsMiddleware

Tree = Callable[[], str]
Spans = Callable[..., list[ReadableSpan]]

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}
AGENT_TREE = cleandoc(
    """
    invoke_agent calculator
      chat toy-1
      execute_tool add
      chat toy-1
    """
)


class State(TypedDict):
    seen: Annotated[list[str], concatenate]


@pytest.fixture
def instrumentor() -> Iterator[LangChainInstrumentor]:
    """The instrumentor, switched off again at the end."""
    instrumentor = LangChainInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


@pytest.fixture
def instrumented(handler: TokenomicsCallbackHandler, instrumentor: LangChainInstrumentor) -> TokenomicsCallbackHandler:
    """The handler that hears every run."""
    instrumentor.instrument(handler=handler)
    return handler


async def _drain(stream: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in stream]


WAYS_TO_RUN = [
    pytest.param(lambda agent: agent.invoke(QUESTION), id="invoke"),
    pytest.param(lambda agent: asyncio.run(agent.ainvoke(QUESTION)), id="ainvoke"),
    pytest.param(lambda agent: list(agent.stream(QUESTION, stream_mode="messages")), id="stream"),
    pytest.param(lambda agent: asyncio.run(_drain(agent.astream(QUESTION, stream_mode="messages"))), id="astream"),
]
WAYS_TO_CALL = [
    pytest.param(lambda model: model.invoke("hi"), id="invoke"),
    pytest.param(lambda model: asyncio.run(model.ainvoke("hi")), id="ainvoke"),
    pytest.param(lambda model: model.batch(["hi"]), id="batch"),
    pytest.param(lambda model: list(model.stream("hi")), id="stream"),
    pytest.param(lambda model: asyncio.run(_drain(model.astream("hi"))), id="astream"),
]


# What is recorded


@pytest.mark.parametrize("run", WAYS_TO_RUN)
@pytest.mark.usefixtures("instrumented")
def test_an_untouched_agent_is_traced(
    run: Callable[[Any], Any], streaming_model: BaseChatModel, add: BaseTool, tree: Tree
) -> None:
    run(create_agent(streaming_model, [add], name="calculator"))
    assert tree() == AGENT_TREE


def test_a_plain_thread_is_traced(instrumented: TokenomicsCallbackHandler, model: BaseChatModel, tree: Tree) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(model.invoke, "hi").result()
    assert tree() == "chat toy-1"


@pytest.mark.parametrize("run", WAYS_TO_RUN)
@pytest.mark.parametrize("is_own", [True, False], ids=["same handler", "another handler"])
@pytest.mark.parametrize("ways", ["callbacks", "middleware", "both"])
def test_other_ways_beside_it_record_once(
    ways: str,
    is_own: bool,
    run: Callable[[Any], Any],
    instrumented: TokenomicsCallbackHandler,
    tracer_provider: TracerProvider,
    streaming_model: BaseChatModel,
    add: BaseTool,
    tree: Tree,
    spans: Spans,
) -> None:
    handler = instrumented if is_own else TokenomicsCallbackHandler(tracer_provider)
    middleware = [] if ways == "callbacks" else [TokenomicsMiddleware(handler=handler)]
    agent = create_agent(streaming_model, [add], middleware=middleware, name="calculator")
    run(agent if ways == "middleware" else agent.with_config(callbacks=[handler]))
    assert tree() == AGENT_TREE
    (agent_span,) = spans("invoke_agent")
    assert (agent_span.attributes or {})["gen_ai.usage.output_tokens"] == 12


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_the_order_in_which_the_ways_were_set_up_does_not_matter(
    is_first: bool,
    handler: TokenomicsCallbackHandler,
    instrumentor: LangChainInstrumentor,
    model: BaseChatModel,
    add: BaseTool,
    tree: Tree,
) -> None:
    if is_first:
        instrumentor.instrument(handler=handler)
    agent = create_agent(model, [add], middleware=[TokenomicsMiddleware(handler=handler)], name="calculator")
    if not is_first:
        instrumentor.instrument(handler=handler)
    agent.invoke(QUESTION)
    assert tree() == AGENT_TREE


@pytest.mark.parametrize("is_own", [True, False], ids=["same handler", "another handler"])
def test_interrupts_and_resumptions_are_recorded_once(
    is_own: bool, instrumented: TokenomicsCallbackHandler, tracer_provider: TracerProvider, spans: Spans
) -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("asks", lambda _state: {"seen": [interrupt("sure?")]})
    builder.add_edge(START, "asks")
    handler = instrumented if is_own else TokenomicsCallbackHandler(tracer_provider)
    graph = trace_graph(builder, handler=handler).compile(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"seen": []}, config)
    graph.invoke(Command(resume="yes"), config)
    interrupted, resumed = spans("invoke_workflow")
    assert [event.name for event in interrupted.events] == ["tokenomics.interrupt"]
    assert [event.name for event in resumed.events] == ["tokenomics.resume"]
    assert [link.context for link in resumed.links] == [interrupted.context]


def test_a_provider_may_be_given(
    instrumentor: LangChainInstrumentor, tracer_provider: TracerProvider, model: BaseChatModel, tree: Tree
) -> None:
    instrumentor.instrument(tracer_provider=tracer_provider)
    model.invoke("hi")
    assert tree() == "chat toy-1"


def test_a_handler_and_what_a_new_one_is_made_of_are_refused_together(
    instrumentor: LangChainInstrumentor, handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider
) -> None:
    with pytest.raises(ValueError, match="got a handler together with tracer_provider"):
        instrumentor.instrument(handler=handler, tracer_provider=tracer_provider)


# Switching off


def surfaces() -> dict[str, Any]:
    """Everything that instrumenting might touch, object by object."""
    owners = (graph_module, hook_module, BaseChatModel, BaseCallbackManager, Pregel)
    found = {f"{owner.__name__}.{name}": value for owner in owners for name, value in vars(owner).items()}
    return found | {f"hook {i}": hook for i, hook in enumerate(hook_module._configure_hooks)}


def test_uninstrument_leaves_everything_as_it_was(
    instrumentor: LangChainInstrumentor, handler: TokenomicsCallbackHandler, model: BaseChatModel, tree: Tree
) -> None:
    gc.collect()
    before = surfaces()
    instrumentor.instrument(handler=handler)
    changed = [name for name, value in surfaces().items() if before.get(name) is not value]
    assert len(changed) == 7
    instrumentor.uninstrument()
    after = surfaces()
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    model.invoke("hi")
    assert tree() == ""


def test_it_can_be_switched_on_and_off_again(
    instrumentor: LangChainInstrumentor, handler: TokenomicsCallbackHandler, model: BaseChatModel, spans: Spans
) -> None:
    for _ in range(3):
        instrumentor.instrument(handler=handler)
        model.invoke("hi")
        instrumentor.uninstrument()
        model.invoke("hi")
    assert len(spans()) == 3


def test_a_stream_that_is_open_when_it_is_switched_off_is_recorded_to_its_end(
    instrumentor: LangChainInstrumentor, handler: TokenomicsCallbackHandler, streaming_model: BaseChatModel, tree: Tree
) -> None:
    instrumentor.instrument(handler=handler)
    stream = streaming_model.stream("hi")
    next(stream)
    instrumentor.uninstrument()
    list(stream)
    assert tree() == "chat toy-1"


def test_without_opentelemetrys_package_the_extra_is_named() -> None:
    program = cleandoc(
        """
        import sys
        sys.modules["opentelemetry.instrumentation"] = None
        import tokenomics_langchain
        from tokenomics_plugin.errors import MissingExtraError
        try:
            import tokenomics_langchain.instrumentor
        except MissingExtraError as error:
            print(error)
        """
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "tokenomics-plugin[langchain]" in found.stdout


# The frames of model calls


@pytest.fixture
def over_http(streaming_model: BaseChatModel, tracer_provider: TracerProvider) -> BaseChatModel:
    """A model whose client opens a span for its request, and one for each chunk."""
    tracer = tracer_provider.get_tracer("client")
    kind: Any = type(streaming_model)

    class OverHttp(kind):  # type: ignore[misc]
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            with tracer.start_as_current_span("POST"):
                result: ChatResult = super()._generate(*args, **kwargs)
            return result

        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            with tracer.start_as_current_span("POST"):
                pass
            for chunk in super()._stream(*args, **kwargs):
                with tracer.start_as_current_span("receive"):
                    pass
                yield chunk

    return OverHttp(script=[AIMessage("It is three")])


@pytest.mark.parametrize("call", WAYS_TO_CALL)
@pytest.mark.usefixtures("instrumented")
def test_spans_of_a_models_client_nest_under_the_call(
    call: Callable[[Any], Any], over_http: BaseChatModel, spans: Spans
) -> None:
    call(over_http)
    (chat,) = spans("chat")
    others = [span for span in spans() if span is not chat]
    assert others
    assert all(span.parent is not None and span.parent.span_id == chat.context.span_id for span in others)


@pytest.mark.parametrize("call", WAYS_TO_CALL)
@pytest.mark.usefixtures("instrumented")
def test_a_call_leaves_the_context_as_it_was(call: Callable[[Any], Any], over_http: BaseChatModel) -> None:
    before = otel_context.get_current()
    call(over_http)
    assert otel_context.get_current() is before


@pytest.mark.usefixtures("instrumented")
def test_a_nested_call_does_not_keep_the_outer_one_from_being_current(
    model: BaseChatModel, streaming_model: BaseChatModel, tracer_provider: TracerProvider, tree: Tree
) -> None:
    kind: Any = type(streaming_model)

    class Asking(kind):  # type: ignore[misc]
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            model.invoke("may I?")
            with tracer_provider.get_tracer("client").start_as_current_span("POST"):
                pass
            yield from super()._stream(*args, **kwargs)

    list(Asking(script=[AIMessage("It is three")], model="asking").stream("hi"))
    assert tree().splitlines()[0] == "chat asking"
    assert "\n  POST" in tree()


@pytest.mark.usefixtures("instrumented")
def test_the_consumer_of_a_stream_never_sees_its_span(
    over_http: BaseChatModel, tracer_provider: TracerProvider, spans: Spans
) -> None:
    tracer = tracer_provider.get_tracer("app")
    with tracer.start_as_current_span("handle request") as request:
        for _ in over_http.stream("hi"):
            assert get_current_span() is request
            with tracer.start_as_current_span("show"):
                pass
        assert get_current_span() is request
    shown = [span for span in spans() if span.name == "show"]
    assert len(shown) > 1
    assert {span.parent.span_id for span in shown if span.parent} == {request.get_span_context().span_id}


@pytest.mark.usefixtures("instrumented")
async def test_the_consumer_of_an_async_stream_never_sees_its_span(
    over_http: BaseChatModel, tracer_provider: TracerProvider
) -> None:
    with tracer_provider.get_tracer("app").start_as_current_span("handle request") as request:
        async for _ in over_http.astream("hi"):
            assert get_current_span() is request
        assert get_current_span() is request


@pytest.mark.usefixtures("instrumented")
async def test_steps_of_an_async_stream_may_run_in_tasks_of_their_own(over_http: BaseChatModel, spans: Spans) -> None:
    stream = over_http.astream("hi")
    try:
        while True:
            await asyncio.wait_for(anext(stream), 10)
    except StopAsyncIteration:
        pass
    (chat,) = spans("chat")
    received = [span for span in spans() if span.name == "receive"]
    assert {span.parent.span_id for span in received if span.parent} == {chat.context.span_id}


@pytest.mark.usefixtures("instrumented")
def test_interleaved_streams_keep_their_spans_apart(over_http: BaseChatModel, spans: Spans) -> None:
    for _ in zip(over_http.stream("one"), over_http.stream("other"), strict=False):
        assert not get_current_span().get_span_context().is_valid
    received = [span for span in spans() if span.name == "receive"]
    parents = {chat.context.span_id for chat in spans("chat")}
    assert {span.parent.span_id for span in received if span.parent} == parents
    assert len(parents) == 2


@pytest.mark.usefixtures("instrumented")
def test_a_stream_that_another_thread_finishes_leaves_no_span_behind(over_http: BaseChatModel) -> None:
    stream = over_http.stream("hi")
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(list, stream).result()
        assert not pool.submit(get_current_span).result().get_span_context().is_valid
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("leave", ["close", "throw", "forget"])
def test_a_stream_that_is_left_ends_as_without_us(
    leave: str, instrumented: TokenomicsCallbackHandler, over_http: BaseChatModel, tree: Tree
) -> None:
    stream: Any = over_http.stream("hi")
    next(stream)
    if leave == "close":
        stream.close()
    elif leave == "throw":
        with pytest.raises(KeyError, match="mine"):
            stream.throw(KeyError("mine"))
    del stream
    gc.collect()
    assert tree().splitlines()[0] == ("chat toy-1 !" if leave == "throw" else "chat toy-1")
    assert instrumented.open_runs == 0
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("leave", ["close", "throw", "break"])
async def test_an_async_stream_that_is_left_ends_as_without_us(
    leave: str, instrumented: TokenomicsCallbackHandler, over_http: BaseChatModel, tree: Tree
) -> None:
    stream: Any = over_http.astream("hi")
    if leave == "break":
        async for _ in stream:
            break
    else:
        await anext(stream)
    if leave == "throw":
        with pytest.raises(KeyError, match="mine"):
            await stream.athrow(KeyError("mine"))
    else:
        await stream.aclose()
    assert tree().splitlines()[0] == ("chat toy-1 !" if leave == "throw" else "chat toy-1")
    assert instrumented.open_runs == 0
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.usefixtures("instrumented")
def test_chunks_and_errors_are_those_of_the_model(streaming_model: BaseChatModel) -> None:
    kind: Any = type(streaming_model)
    broken = kind(script=[AIMessage("It is three")], breaks_with=ConnectionError("gone"))
    seen: list[str] = []
    with pytest.raises(ConnectionError, match="gone"):
        seen.extend(chunk.text for chunk in broken.stream("hi"))
    assert seen == ["It", "is", "three", ""]
    with pytest.raises(ValueError, match="Invalid input type"):
        next(streaming_model.stream(object()))  # type: ignore[arg-type]


def test_the_traced_program_has_no_current_span_of_ours_at_its_end(
    instrumented: TokenomicsCallbackHandler, model: BaseChatModel, add: BaseTool
) -> None:
    for _ in range(3):
        create_agent(model, [add], name="calculator").invoke(QUESTION)
        model.invoke("hi")
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert instrumented.open_runs == 0
