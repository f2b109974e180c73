"""Every span of a program with every kind of run, against the rules of the GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

import tokenomics_plugin
from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_plugin import semconv

NAMES = {value for value in vars(semconv).values() if isinstance(value, str)}

# Operation -> span kind, required attributes, and the attribute that the span's name ends with.
RULES: dict[str, tuple[str, set[str], str | None]] = {
    "invoke_workflow": ("INTERNAL", set(), "gen_ai.workflow.name"),
    "invoke_agent": ("INTERNAL", set(), "gen_ai.agent.name"),
    "run_node": ("INTERNAL", {"tokenomics.node.name"}, "tokenomics.node.name"),
    "chat": ("CLIENT", {"gen_ai.provider.name", "gen_ai.request.model"}, "gen_ai.request.model"),
    "text_completion": ("CLIENT", {"gen_ai.provider.name"}, "gen_ai.request.model"),
    "execute_tool": ("INTERNAL", {"gen_ai.tool.name", "gen_ai.tool.type"}, "gen_ai.tool.name"),
    "retrieval": ("CLIENT", set(), "gen_ai.data_source.id"),
}
# Conventions: these describe inference, and were removed from agents.
NOT_ON_AGENTS = {"gen_ai.provider.name", "gen_ai.agent.id", "gen_ai.usage.cache_read.input_tokens"}

Spans = Callable[..., list[ReadableSpan]]


class OneDocument(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document("text", id="doc-1", metadata={"score": 0.5})]


class Chat(TypedDict):
    messages: list[Any]


@pytest.fixture
def emitted(streaming_model: BaseChatModel, capturing: TokenomicsCallbackHandler, spans: Spans) -> list[ReadableSpan]:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers, after asking around."""
        OneDocument().invoke("how to add")
        FakeListLLM(responses=["like so"]).invoke("how to add")
        return a + b

    agent = create_agent(streaming_model, [add], name="calculator")
    builder = StateGraph(Chat)
    builder.add_node("pupil", agent)
    builder.add_edge(START, "pupil")
    homework: Any = builder.compile(name="homework")
    config: Any = {"callbacks": [capturing], "configurable": {"thread_id": "t"}}
    with tokenomics_plugin.task("homework-1", group="maths", tracer_provider=TracerProvider()) as task:
        list(homework.stream({"messages": [("user", "1 + 2?")]}, config, stream_mode="messages"))
        task.succeed()
    with pytest.raises(ValueError, match="no"):
        RunnableLambda(fail).invoke("x", config)
    return spans()


def fail(_question: str) -> str:
    raise ValueError("no")


def test_the_program_has_every_kind_of_span(emitted: list[ReadableSpan]) -> None:
    assert {(span.attributes or {})["gen_ai.operation.name"] for span in emitted} == set(RULES)


def test_every_attribute_has_a_name_of_the_pinned_conventions(emitted: list[ReadableSpan]) -> None:
    used = {name for span in emitted for name in span.attributes or {}}
    assert used <= NAMES


def test_every_span_has_its_operations_kind_name_and_required_attributes(emitted: list[ReadableSpan]) -> None:
    for span in emitted:
        attributes = span.attributes or {}
        operation = str(attributes["gen_ai.operation.name"])
        kind, required, subject = RULES[operation]
        assert span.kind.name == kind, span.name
        assert required <= set(attributes), span.name
        named_after = attributes.get(subject) if subject else None
        assert span.name == (f"{operation} {named_after}" if named_after else operation)


def test_attribute_types_are_the_conventions(emitted: list[ReadableSpan]) -> None:
    types: dict[str, type] = {
        "gen_ai.request.stream": bool,
        "gen_ai.response.time_to_first_chunk": float,
        "gen_ai.response.finish_reasons": tuple,
        "tokenomics.node.step": int,
        "tokenomics.attempt.number": int,
        "tokenomics.context.kept": int,
    }
    for span in emitted:
        for name, value in (span.attributes or {}).items():
            expected = int if ".usage." in name else types.get(name, str)
            assert type(value) is expected, name


def test_agents_carry_two_sums_and_no_provider(emitted: list[ReadableSpan]) -> None:
    for span in emitted:
        attributes = span.attributes or {}
        if attributes["gen_ai.operation.name"] in ("invoke_agent", "invoke_workflow", "run_node"):
            assert NOT_ON_AGENTS.isdisjoint(attributes)
            # The conventions give an agent two sums, and nobody else on the way any.
            usage = {name for name in attributes if name.startswith("gen_ai.usage.")}
            sums = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"}
            assert usage <= (sums if attributes["gen_ai.operation.name"] == "invoke_agent" else set())


def test_the_scope_names_the_conventions_schema(emitted: list[ReadableSpan]) -> None:
    scopes = {span.instrumentation_scope for span in emitted}
    assert {(scope.name, scope.schema_url) for scope in scopes if scope} == {
        ("tokenomics_langchain", semconv.SCHEMA_URL)
    }
