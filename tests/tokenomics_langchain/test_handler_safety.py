"""The handler may lose a span; it may never change, slow or break the program that it watches."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult
from langchain_core.tools import BaseTool
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokenomics_langchain import TokenomicsCallbackHandler

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}

Spans = Callable[..., list[ReadableSpan]]


class FailingAtStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("the exporter is on fire")


class FailingAtEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("the exporter is on fire")


def answer(agent: Any, callbacks: list[BaseCallbackHandler]) -> list[tuple[str, Any]]:
    messages = agent.invoke(QUESTION, {"callbacks": callbacks})["messages"]
    return [(message.type, message.content) for message in messages]


@pytest.mark.parametrize("processor", [FailingAtStart, FailingAtEnd])
def test_a_failing_provider_does_not_reach_the_program(
    processor: type[SpanProcessor], model: BaseChatModel, add: BaseTool
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(processor())
    handler = TokenomicsCallbackHandler(provider)
    agent = create_agent(model, [add])

    assert answer(agent, [handler]) == answer(agent, [])
    assert len(handler._runs) == 0


def test_a_bug_of_ours_does_not_reach_the_program(
    model: BaseChatModel, add: BaseTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = create_agent(model, [add])
    untraced = answer(agent, [])
    handler = TokenomicsCallbackHandler()
    monkeypatch.delattr(handler, "_live")

    assert answer(agent, [handler]) == untraced


def test_a_failure_is_logged_once_without_its_text(
    model: BaseChatModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handler = TokenomicsCallbackHandler()
    monkeypatch.delattr(handler, "_live")
    with caplog.at_level(logging.WARNING):
        model.batch(["hello"] * 3, {"callbacks": [handler]})

    ours = [record for record in caplog.records if record.name.startswith("tokenomics_langchain")]
    assert [record.args[:2] for record in ours if isinstance(record.args, tuple)] == [
        ("on_chat_model_start", "AttributeError"),
        ("on_llm_end", "AttributeError"),
    ]
    assert not any(record.exc_info for record in ours)


def test_a_message_that_cannot_be_rendered_costs_its_text_and_not_its_span(
    model: BaseChatModel, capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    class Unreadable(AIMessage):
        @property
        def content_blocks(self) -> Any:
            raise ValueError("no")

    model.model_copy(update={"script": [None, AIMessage("hi")]}).invoke(
        [Unreadable(content="hello"), ("user", "hi")], {"callbacks": [capturing]}
    )

    (chat,) = spans("chat")
    assert chat.end_time is not None
    assert "gen_ai.output.messages" in (chat.attributes or {})


def test_an_error_whose_text_cannot_be_read_still_ends_the_span(
    scripted: Callable[..., BaseChatModel], capturing: TokenomicsCallbackHandler, spans: Spans
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    with pytest.raises(Mute):
        scripted(script=[Mute()]).invoke("hello", {"callbacks": [capturing]})

    (chat,) = spans("chat")
    assert (chat.attributes or {})["error.type"] == Mute.__qualname__


def test_traced_and_untraced_runs_return_the_same(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, capturing: TokenomicsCallbackHandler
) -> None:
    agent = create_agent(model, [add])

    assert answer(agent, []) == answer(agent, [handler]) == answer(agent, [capturing])


def test_the_programs_own_exception_arrives_as_it_was(
    scripted: Callable[..., BaseChatModel], handler: TokenomicsCallbackHandler
) -> None:
    error = TimeoutError("slow")
    with pytest.raises(TimeoutError) as caught:
        scripted(script=[error]).invoke("hello", {"callbacks": [handler]})

    assert caught.value is error


def test_nothing_is_attached_to_the_programs_context(
    streaming_model: BaseChatModel, handler: TokenomicsCallbackHandler
) -> None:
    before = context.get_current()
    for _ in streaming_model.stream("hello", {"callbacks": [handler]}):
        assert context.get_current() == before
        assert not trace.get_current_span().get_span_context().is_valid

    assert context.get_current() == before


def test_an_end_without_a_start_is_ignored(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    run_id = uuid.uuid4()
    handler.on_chain_end({}, run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    handler.on_llm_new_token("x", run_id=run_id)
    handler.on_tool_error(ValueError(), run_id=run_id)

    assert spans() == []
    assert handler._reported == set()


def test_a_second_end_is_ignored(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    run_id = uuid.uuid4()
    handler.on_chain_start({}, {}, run_id=run_id, name="flow")
    handler.on_chain_end({}, run_id=run_id)
    handler.on_chain_error(ValueError(), run_id=run_id)

    (workflow,) = spans("invoke_workflow")
    assert workflow.status.is_unset


def test_arguments_of_other_versions_are_accepted(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    run_id: Any = uuid.uuid4()
    handler.on_tool_start(None, "1", run_id=run_id, name="add", invented_later=1)  # type: ignore[arg-type]
    handler.on_tool_end("2", run_id=run_id, invented_later=2)
    handler.on_chat_model_start(None, [[]], run_id=run_id, invented_later=1)  # type: ignore[arg-type]
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id, invented_later=2)

    assert [span.name for span in spans()] == ["execute_tool add", "chat"]
    assert handler._reported == set()


def test_runs_that_never_end_are_bounded(tracer_provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    handler = TokenomicsCallbackHandler(tracer_provider, max_open_runs=3)
    for number in range(10):
        handler.on_tool_start({"name": str(number)}, "", run_id=uuid.uuid4())
        tracer_provider.force_flush()  # it is recorded, as it is by itself after a second

    assert handler.open_runs == 3
    assert [span.name for span in exporter.get_finished_spans()] == [f"execute_tool {number}" for number in range(7)]
    assert {(span.attributes or {})["tokenomics.run.state"] for span in exporter.get_finished_spans()} == {"abandoned"}


def test_the_handler_is_inline_and_silent() -> None:
    assert TokenomicsCallbackHandler.run_inline
    assert not TokenomicsCallbackHandler.raise_error
