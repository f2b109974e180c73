"""A model that follows a script, and spans as a tree that a test can read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokenomics_langchain import TokenomicsCallbackHandler


class ScriptedModel(BaseChatModel):
    """Gives the reply that belongs to this point of the conversation; keeps no state, so calls may overlap."""

    script: Sequence[Any]
    model: str = "toy-1"
    provider: str = "toy"
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[{"type": "function", "function": {"name": t.name}} for t in tools], **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": self.provider}

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        reply = self.script[sum(isinstance(message, AIMessage) for message in messages)]
        if isinstance(reply, Exception):
            raise reply
        fresh: AIMessage = reply.model_copy(deep=True)  # LangChain writes into what a model returns
        return fresh

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])


class StreamingModel(ScriptedModel):
    """Streams its reply word by word, with the usage on the last chunk, as providers do."""

    delay_s: float = 0.0
    breaks_with: Any = None

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        reply = self._reply(messages)
        for word in str(reply.content).split():
            time.sleep(self.delay_s)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        calls = [
            ToolCallChunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=i)
            for i, call in enumerate(reply.tool_calls)
        ]
        last = AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=reply.usage_metadata,
            response_metadata=reply.response_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)
        if self.breaks_with is not None:
            raise self.breaks_with


def _usage(input_tokens: int, output_tokens: int) -> Any:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_token_details": {"cache_read": 4, "cache_creation": 2},
        "output_token_details": {"reasoning": 3},
    }


@pytest.fixture
def script() -> list[AIMessage]:
    """One call of `add`, then the answer."""
    return [
        AIMessage(
            "",
            tool_calls=[ToolCall(name="add", args={"a": 1, "b": 2}, id="call-1")],
            usage_metadata=_usage(20, 5),
            response_metadata={"model_name": "toy-1-2026", "finish_reason": "tool_calls", "id": "resp-1"},
        ),
        AIMessage(
            "It is three",
            usage_metadata=_usage(30, 7),
            response_metadata={"model_name": "toy-1-2026", "finish_reason": "stop", "id": "resp-2"},
        ),
    ]


@pytest.fixture
def scripted() -> Callable[..., BaseChatModel]:
    """Makes a model from its script."""
    return ScriptedModel


@pytest.fixture
def model(script: list[AIMessage]) -> BaseChatModel:
    """Calls `add` once, then answers."""
    return ScriptedModel(script=script)


@pytest.fixture
def streaming_model(script: list[AIMessage]) -> BaseChatModel:
    """The same, word by word."""
    return StreamingModel(script=script)


@pytest.fixture
def add() -> BaseTool:
    """The tool that the script calls."""

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return add


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans of a test end up."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """A provider of the test's own; the global one stays untouched."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def handler(tracer_provider: TracerProvider) -> Iterator[TokenomicsCallbackHandler]:
    """The handler as users make it; a test must leave no run open in it."""
    handler = TokenomicsCallbackHandler(tracer_provider)
    yield handler
    assert len(handler._runs) == 0


@pytest.fixture
def capturing(tracer_provider: TracerProvider) -> Iterator[TokenomicsCallbackHandler]:
    """The handler with content on."""
    handler = TokenomicsCallbackHandler(tracer_provider, capture_content=True)
    yield handler
    assert len(handler._runs) == 0


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[..., list[ReadableSpan]]:
    """The finished spans in the order in which they started, of one operation when it is named."""

    def spans(operation: str | None = None) -> list[ReadableSpan]:
        found = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [s for s in found if operation in (None, (s.attributes or {}).get("gen_ai.operation.name"))]

    return spans


@pytest.fixture
def tree(spans: Callable[..., list[ReadableSpan]]) -> Callable[[], str]:
    """The finished spans as text: one line a span, indented below its parent; failed ones end in `!`."""

    def render(parent_id: int | None, depth: int) -> Iterator[str]:
        for span in spans():
            if (span.parent.span_id if span.parent else None) == parent_id:
                yield "  " * depth + span.name + ("" if span.status.is_unset else " !")
                yield from render(span.context.span_id, depth + 1)

    return lambda: "\n".join(render(None, 0))
