"""Every run that starts, ends: whatever LangChain reports, forgets to report, or reports too late."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tools import BaseTool
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_langchain.ambient import AmbientSpan

QUESTION: Any = {"messages": [("user", "what is 1 + 2?")]}

Spans = Callable[..., list[ReadableSpan]]
Tree = Callable[[], str]


@dataclass(frozen=True)
class OfSpan:
    """A run whose span has been started."""

    span: trace.Span

    def current_span(self) -> trace.Span:
        return self.span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def start_tool(handler: TokenomicsCallbackHandler, name: str, parent: uuid.UUID | None = None) -> uuid.UUID:
    run_id = uuid.uuid4()
    handler.on_tool_start({"name": name}, "", run_id=run_id, parent_run_id=parent)
    return run_id


@pytest.mark.parametrize(
    ("end", "state", "error_type"),
    [
        (lambda handler, run: handler.on_tool_end("done", run_id=run), "abandoned", None),
        (lambda handler, run: handler.on_tool_error(ValueError("no"), run_id=run), None, "ValueError"),
        (lambda handler, run: handler.on_tool_error(GeneratorExit(), run_id=run), "abandoned", None),
    ],
    ids=["completed", "failed", "closed"],
)
def test_what_is_open_below_a_run_that_ends_is_closed_with_it(
    end: Any, state: str | None, error_type: str | None, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    outer = start_tool(handler, "outer")
    start_tool(handler, "innermost", start_tool(handler, "inner", outer))

    end(handler, outer)

    assert handler.open_runs == 0
    outer_span, *left_open = spans()
    assert [span.name for span in left_open] == ["execute_tool inner", "execute_tool innermost"]
    for span in left_open:
        assert attributes(span).get("tokenomics.run.state") == state
        assert attributes(span).get("error.type") == error_type
        assert (span.end_time or 0) <= (outer_span.end_time or 0)


def test_an_end_after_the_parents_is_accepted(handler: TokenomicsCallbackHandler, spans: Spans) -> None:
    outer = start_tool(handler, "outer")
    inner = start_tool(handler, "inner", outer)
    handler.on_tool_end("done", run_id=outer)

    handler.on_tool_end("late", run_id=inner)

    assert len(spans()) == 2
    assert handler._reported == set()


def test_a_tree_in_which_nothing_happens_is_given_up(tracer_provider: TracerProvider, spans: Spans) -> None:
    handler = TokenomicsCallbackHandler(tracer_provider, idle_limit_s=0.01)
    start_tool(handler, "forgotten", start_tool(handler, "stuck"))
    tracer_provider.force_flush()  # it is recorded, as it is by itself after a second
    time.sleep(0.02)

    handler.on_tool_end("", run_id=start_tool(handler, "next"))

    assert handler.open_runs == 0
    states = {span.name: attributes(span).get("tokenomics.run.state") for span in spans()}
    assert states == {
        "execute_tool stuck": "abandoned",
        "execute_tool forgotten": "abandoned",
        "execute_tool next": None,
    }


def test_a_tree_in_which_something_happens_is_not_given_up(tracer_provider: TracerProvider) -> None:
    handler = TokenomicsCallbackHandler(tracer_provider, idle_limit_s=0.05)
    busy = start_tool(handler, "busy")
    for _ in range(4):
        time.sleep(0.02)
        handler.on_tool_end("", run_id=start_tool(handler, "inner", busy))

    handler.on_tool_end("", run_id=start_tool(handler, "next"))

    assert handler.open_runs == 1
    handler.on_tool_end("", run_id=busy)


def test_the_shutdown_of_the_provider_ends_what_is_open(tracer_provider: TracerProvider, spans: Spans) -> None:
    handler = TokenomicsCallbackHandler(tracer_provider)
    start_tool(handler, "stuck")

    tracer_provider.shutdown()

    assert handler.open_runs == 0
    assert [attributes(span)["tokenomics.run.state"] for span in spans()] == ["abandoned"]


def test_the_end_of_the_process_ends_what_is_open() -> None:
    program = textwrap.dedent(
        """
        import uuid
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from tokenomics_langchain import TokenomicsCallbackHandler

        handler = TokenomicsCallbackHandler()
        provider = TracerProvider()  # set after the handler was made
        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
        trace.set_tracer_provider(provider)
        handler.on_tool_start({"name": "stuck"}, "", run_id=uuid.uuid4())
        """
    )

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert run.stdout.splitlines() == ["execute_tool stuck"]
    assert run.stderr == ""


def test_handlers_of_one_provider_record_a_run_once(
    model: BaseChatModel, add: BaseTool, tracer_provider: TracerProvider, tree: Tree
) -> None:
    first, second = TokenomicsCallbackHandler(tracer_provider), TokenomicsCallbackHandler(tracer_provider)

    create_agent(model, [add], name="calculator").invoke(QUESTION, {"callbacks": [first, second]})

    assert tree() == "invoke_agent calculator\n  chat toy-1\n  execute_tool add\n  chat toy-1"
    assert first.open_runs == second.open_runs == 0


def test_a_handler_of_an_inner_call_joins_the_tree_of_another(
    model: BaseChatModel, tracer_provider: TracerProvider, tree: Tree
) -> None:
    outer, inner = TokenomicsCallbackHandler(tracer_provider), TokenomicsCallbackHandler(tracer_provider)

    watched: Any = model.with_config(callbacks=[inner])
    create_agent(watched, [], name="calculator").invoke(QUESTION, {"callbacks": [outer]})

    assert tree().startswith("invoke_agent calculator\n  chat toy-1")


def test_chunks_that_two_handlers_hear_count_once(
    streaming_model: BaseChatModel, tracer_provider: TracerProvider, spans: Spans
) -> None:
    handlers: Any = [TokenomicsCallbackHandler(tracer_provider) for _ in range(2)]
    stream: Any = streaming_model.stream([("ai", ""), ("user", "?")], {"callbacks": handlers})
    assert [next(stream).content for _ in range(3)] == ["It", "is", "three"]
    stream.close()

    (chat,) = spans("chat")
    assert attributes(chat)["tokenomics.usage.estimated"] is True
    assert attributes(chat)["gen_ai.usage.output_tokens"] == 3  # 9 characters, 4 a token
    assert "gen_ai.usage.input_tokens" not in attributes(chat)


def test_a_tree_is_recorded_on_demand_as_if_from_the_start(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans, tree: Tree
) -> None:
    on_demand = handler.on_demand

    class FollowAtFirstTool(type(on_demand)):  # type: ignore[misc]
        def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
            on_demand.on_tool_start(*args, **kwargs)
            time.sleep(0.01)
            handler.follow(kwargs["run_id"])

    for method in ("on_chain_start", "on_chain_end", "on_chat_model_start", "on_llm_end", "on_tool_end"):
        setattr(FollowAtFirstTool, method, lambda self, *a, m=method, **k: getattr(on_demand, m)(*a, **k))
    agent = create_agent(model, [add], name="calculator")
    agent.invoke(QUESTION, {"callbacks": [FollowAtFirstTool(handler)]})

    assert tree() == "invoke_agent calculator\n  chat toy-1\n  execute_tool add\n  chat toy-1"
    agent_span, first_chat, tool, _ = spans()
    assert (first_chat.end_time or 0) < (tool.start_time or 0)
    assert (tool.end_time or 0) - (tool.start_time or 0) > 10_000_000
    assert agent_span.start_time == min(span.start_time or 0 for span in spans())


def test_what_nobody_asks_for_is_not_recorded_and_not_kept(
    model: BaseChatModel, add: BaseTool, handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    create_agent(model, [add]).invoke(QUESTION, {"callbacks": [handler.on_demand]})

    assert spans() == []
    assert handler.on_demand.waiting == 0


def test_an_ambient_span_heals_where_it_was_left_behind(tracer_provider: TracerProvider) -> None:
    before, tracer = otel_context.get_current(), tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        left_behind: list[Any] = []

        def in_another_context() -> None:
            ambient = AmbientSpan.attach(OfSpan(tracer.start_span("inner")))
            left_behind.extend([ambient, otel_context.get_current()])

        token = otel_context.attach(otel_context.get_current())
        in_another_context()
        thread = threading.Thread(target=left_behind[0].heal)
        thread.start()
        thread.join()

        assert trace.get_current_span(left_behind[1]) is outer
        otel_context.detach(token)
    assert otel_context.get_current() == before


def test_usage_of_the_first_chunk_outlives_a_stream_that_nobody_ends(
    handler: TokenomicsCallbackHandler, spans: Spans
) -> None:
    tool, call = start_tool(handler, "ask"), uuid.uuid4()
    handler.on_chat_model_start({}, [[]], run_id=call, parent_run_id=tool)
    chunk = ChatGeneration(
        message=AIMessage("", usage_metadata={"input_tokens": 7, "output_tokens": 0, "total_tokens": 7})
    )
    handler.on_llm_new_token("12345678", run_id=call, chunk=chunk)
    handler.on_tool_error(GeneratorExit(), run_id=tool)
    handler.on_llm_end(LLMResult(generations=[[]]), run_id=call)

    (chat,) = spans("chat")
    usage = {name: value for name, value in attributes(chat).items() if name.startswith("gen_ai.usage.")}
    assert (usage["gen_ai.usage.input_tokens"], usage["gen_ai.usage.output_tokens"]) == (7, 2)
    assert attributes(chat)["tokenomics.usage.estimated"] is True
