from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tokenomics_langchain import TokenomicsCallbackHandler

SENTINEL = "hunter2"
VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

Spans = Callable[..., list[ReadableSpan]]


class LeakyError(Exception):
    def __init__(self) -> None:
        super().__init__(f"could not use {SENTINEL}")


class LeakyRetriever(BaseRetriever):
    fails: bool = False

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        if self.fails:
            raise LeakyError
        return [Document(SENTINEL, id="doc-1", metadata={"source": SENTINEL})]


class State(TypedDict):
    text: str


def run_everything(scripted: Callable[..., BaseChatModel], config: Any) -> None:
    """Programs whose every text, argument, result and error holds the sentinel."""

    @tool
    def look_up(key: str) -> str:
        """Look something up."""
        return f"{key} is {SENTINEL}"

    @tool("look_up")
    def fail(key: str) -> str:
        """Fail to look something up."""
        raise LeakyError

    call = AIMessage(SENTINEL, tool_calls=[{"name": "look_up", "args": {"key": SENTINEL}, "id": "call-1"}])
    question: Any = {"messages": [("system", SENTINEL), ("user", SENTINEL)]}
    model = scripted(script=[call, AIMessage(f"it is {SENTINEL}")])
    create_agent(model, [look_up], system_prompt=SENTINEL).invoke(question, config)
    with suppress(LeakyError):
        create_agent(model, [fail]).invoke(question, config)
    with suppress(LeakyError):
        scripted(script=[LeakyError()]).invoke(SENTINEL, config)
    FakeListLLM(responses=[SENTINEL]).invoke(SENTINEL, config)
    LeakyRetriever().invoke(SENTINEL, config)
    with suppress(LeakyError):
        LeakyRetriever(fails=True).invoke(SENTINEL, config)
    (ChatPromptTemplate.from_messages([("user", "{text}")]) | model).invoke({"text": SENTINEL}, config)
    builder = StateGraph(State)
    builder.add_node("echo", lambda state: {"text": state["text"]})
    builder.add_edge(START, "echo")
    builder.compile().invoke({"text": SENTINEL}, config)


def everything_exported(spans: list[ReadableSpan]) -> str:
    return "\n".join(span.to_json() for span in spans)


def test_with_content_off_no_user_text_is_exported(
    scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    run_everything(scripted, {"callbacks": [handler]})

    assert len(spans()) >= 15
    assert SENTINEL not in everything_exported(spans())


def test_the_same_programs_do_hold_the_text_when_content_is_on(
    scripted: Callable[..., BaseChatModel], capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    run_everything(scripted, {"callbacks": [capturing]})

    for operation in ("invoke_agent", "chat", "text_completion", "execute_tool", "retrieval"):
        assert SENTINEL in everything_exported(spans(operation)), operation


def test_content_has_the_conventions_form(
    model: BaseChatModel, add: BaseTool, capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    question: Any = {"messages": [("user", "1 + 2?")]}
    create_agent(model, [add], name="calculator", system_prompt="Be exact.").invoke(
        question, {"callbacks": [capturing]}
    )

    (agent,) = spans("invoke_agent")
    asked = {"role": "user", "parts": [{"type": "text", "content": "1 + 2?"}]}
    answered = {
        "role": "assistant",
        "parts": [{"type": "text", "content": "It is three"}],
        "finish_reason": "stop",
    }
    called = {"type": "tool_call", "id": "call-1", "name": "add", "arguments": {"a": 1, "b": 2}}
    returned = {"type": "tool_call_response", "id": "call-1", "response": "3"}
    assert content(agent) == {
        "gen_ai.input.messages": [asked],
        "gen_ai.output.messages": [answered | {"name": "calculator"}],
    }
    first, second = spans("chat")
    assert content(first) == {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be exact."}],
        "gen_ai.input.messages": [asked],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [called], "finish_reason": "tool_call"}],
    }
    assert content(second) == {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be exact."}],
        "gen_ai.input.messages": [
            asked,
            {"role": "assistant", "parts": [called], "name": "calculator"},
            {"role": "tool", "parts": [returned], "name": "add"},
        ],
        "gen_ai.output.messages": [answered],
    }
    (execution,) = spans("execute_tool")
    assert content(execution) == {"gen_ai.tool.call.arguments": {"a": 1, "b": 2}, "gen_ai.tool.call.result": "3"}


def test_a_call_says_which_tools_it_was_offered(
    model: BaseChatModel, add: BaseTool, capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    question: Any = {"messages": [("user", "1 + 2?")]}
    create_agent(model, [add]).invoke(question, {"callbacks": [capturing]})

    for call in spans("chat"):
        (definition,) = json.loads(str((call.attributes or {})["gen_ai.tool.definitions"]))
        assert (definition["type"], definition["name"]) == ("function", "add")


def content(span: ReadableSpan) -> dict[str, Any]:
    names = ("messages", "instructions", "arguments", "result")
    return {name: json.loads(str(value)) for name, value in (span.attributes or {}).items() if name.endswith(names)}


def test_a_graph_that_shows_itself_late_still_has_its_input(
    model: BaseChatModel,
    script: list[AIMessage],
    scripted: Callable[..., BaseChatModel],
    capturing: TokenomicsCallbackHandler,
    spans: Spans,
) -> None:
    inner = create_agent(scripted(script=script[1:]), [])

    @tool
    def add(a: int, b: int) -> str:
        """Ask somebody who can."""
        inner_question: Any = {"messages": [("user", "inner question")]}
        return str(inner.invoke(inner_question)["messages"][-1].content)

    question: Any = {"messages": [("user", "outer question")]}
    create_agent(model, [add]).invoke(question, {"callbacks": [capturing]})

    outer_agent, inner_agent = spans("invoke_agent")
    assert "outer question" in str(content(outer_agent))
    assert "inner question" in str(content(inner_agent))


def test_an_unsampled_run_renders_no_content(model: BaseChatModel) -> None:
    class Unreadable(AIMessage):
        @property
        def content_blocks(self) -> Any:
            raise AssertionError("content was read for a span that nobody will see")

    handler = TokenomicsCallbackHandler(TracerProvider(sampler=ALWAYS_OFF), capture_content=True)
    model.invoke([Unreadable(content="hello"), ("user", "hi")], {"callbacks": [handler]})

    assert handler._reported == set()


@pytest.mark.parametrize(
    ("value", "captures"),
    [
        (None, False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("true", True),
        ("false", False),
        ("perhaps", False),
    ],
)
def test_the_environment_decides_when_the_program_does_not(
    value: str | None,
    captures: bool,
    model: BaseChatModel,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for capture_content in (None, not captures):
        handler = TokenomicsCallbackHandler(provider, capture_content=capture_content)
        model.invoke(SENTINEL, {"callbacks": [handler]})

    by_environment, by_program = (SENTINEL in span.to_json() for span in exporter.get_finished_spans())
    assert by_environment is captures
    assert by_program is not captures


def test_the_environment_is_read_once(
    model: BaseChatModel, handler: TokenomicsCallbackHandler, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    model.invoke(SENTINEL, {"callbacks": [handler]})

    assert SENTINEL not in everything_exported(spans())
