"""What is described later is there when somebody looks, in time, and whatever else fails."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokenomics_langchain import TokenomicsCallbackHandler
from tokenomics_langchain.ambient import AmbientSpan
from tokenomics_langchain.backlog import Backlog
from tokenomics_plugin.context_blocks import resolve

IN_TIME_S = 5.0


def open_tools(handler: TokenomicsCallbackHandler) -> uuid.UUID:
    """Two tools, the inner one at an end, the outer one still at work."""
    outer, inner = uuid.uuid4(), uuid.uuid4()
    handler.on_tool_start({"name": "outer"}, "", run_id=outer)
    handler.on_tool_start({"name": "inner"}, "", run_id=inner, parent_run_id=outer)
    handler.on_tool_end("done", run_id=inner)
    return outer


def exported(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def test_a_span_that_ended_is_exported_while_the_run_around_it_takes_its_time(
    handler: TokenomicsCallbackHandler, exporter: InMemorySpanExporter
) -> None:
    outer = open_tools(handler)
    waited_until = time.monotonic() + IN_TIME_S
    while not exported(exporter) and time.monotonic() < waited_until:
        time.sleep(0.05)

    assert exported(exporter) == ["execute_tool inner"]
    handler.on_tool_end("done", run_id=outer)


def test_a_flush_of_the_provider_brings_out_what_has_ended(
    handler: TokenomicsCallbackHandler, tracer_provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    outer = open_tools(handler)
    tracer_provider.force_flush()

    assert exported(exporter) == ["execute_tool inner"]
    handler.on_tool_end("done", run_id=outer)


def test_the_end_of_the_outermost_run_brings_out_the_whole_tree(
    handler: TokenomicsCallbackHandler, exporter: InMemorySpanExporter
) -> None:
    handler.on_tool_end("done", run_id=open_tools(handler))

    assert exported(exporter) == ["execute_tool inner", "execute_tool outer"]


def test_spans_have_the_times_of_their_events_and_not_of_their_description(
    handler: TokenomicsCallbackHandler, exporter: InMemorySpanExporter
) -> None:
    before = time.time_ns()
    outer = open_tools(handler)
    between = time.time_ns()
    time.sleep(0.02)
    handler.on_tool_end("done", run_id=outer)

    inner, _ = exporter.get_finished_spans()
    assert before - 1e6 < (inner.start_time or 0) <= (inner.end_time or 0) < between + 1e6


def test_a_message_that_is_edited_before_its_call_is_described_counts_as_it_was_sent(
    handler: TokenomicsCallbackHandler, exporter: InMemorySpanExporter
) -> None:
    root, question = uuid.uuid4(), HumanMessage("a question")
    handler.on_tool_start({"name": "outer"}, "", run_id=root)
    for content in ("a question", "another question"):
        question.content = content
        call = uuid.uuid4()
        handler.on_chat_model_start({}, [[question]], run_id=call, parent_run_id=root)
        handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=AIMessage("yes"))]]), run_id=call)
    handler.on_tool_end("done", run_id=root)

    calls = [span for span in exporter.get_finished_spans() if span.name.startswith("chat")]
    first, edited = resolve({str(number): span.attributes or {} for number, span in enumerate(calls)}).values()
    assert first != edited


def test_a_step_that_fails_is_reported_and_the_others_are_taken() -> None:
    backlog = Backlog()
    taken: list[int] = []
    reported: list[tuple[str, type]] = []

    def fail() -> None:
        raise ValueError("no")

    for step in (lambda: taken.append(1), fail, lambda: taken.append(2)):
        backlog.add((lambda name, error: reported.append((name, type(error))), step, ()))
    backlog.drain()

    assert taken == [1, 2]
    assert reported == [("fail", ValueError)]


def test_steps_are_taken_in_their_order_and_once_whoever_takes_them() -> None:
    backlog = Backlog()
    taken: list[int] = []
    threads = [threading.Thread(target=backlog.drain) for _ in range(8)]
    for number in range(400):
        backlog.add((print, taken.append, (number,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert taken == list(range(400))


def test_many_steps_do_not_pile_up() -> None:
    backlog = Backlog()
    taken: list[int] = []
    for number in range(10_000):
        backlog.add((print, taken.append, (number,)))

    assert len(taken) > 9_000
    backlog.drain()


def test_a_step_may_look_for_the_span_that_it_is_about_to_start() -> None:
    backlog = Backlog()
    taken: list[str] = []

    def look() -> None:
        backlog.drain()
        taken.append("looked")

    backlog.add((print, look, ()))
    backlog.add((print, taken.append, ("next",)))
    backlog.drain()

    assert taken == ["looked", "next"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_repeats_nothing_and_describes_what_happens_in_it(
    handler: TokenomicsCallbackHandler, exporter: InMemorySpanExporter
) -> None:
    outer = open_tools(handler)
    child = os.fork()
    if child == 0:
        is_inside = trace.get_current_span().get_span_context().is_valid
        exporter.clear()  # of what had ended before
        open_tools(handler)
        waited_until = time.monotonic() + IN_TIME_S
        while not exported(exporter) and time.monotonic() < waited_until:
            time.sleep(0.05)
        os._exit(0 if is_inside and exported(exporter) == ["execute_tool inner"] else 1)

    assert exported(exporter) == ["execute_tool inner"]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    handler.on_tool_end("done", run_id=outer)


@pytest.fixture
def ambient(handler: TokenomicsCallbackHandler) -> Iterator[AmbientSpan]:
    """The context of a tool at work, in which the program has set some baggage before."""
    token = otel_context.attach(baggage.set_baggage("colour", "blue"))
    run_id = uuid.uuid4()
    handler.on_tool_start({"name": "tool"}, "", run_id=run_id)
    current = otel_context.get_current()
    assert isinstance(current, AmbientSpan)
    yield current
    handler.on_tool_end("done", run_id=run_id)
    otel_context.detach(token)


@pytest.mark.parametrize(
    "read",
    [
        lambda context: context,
        lambda context: Context(context),
        lambda context: Context(context.copy()),
        lambda context: Context({**context}),
        lambda context: Context(dict(context)),
        lambda context: Context({key: context[key] for key in context}),
        lambda context: Context(zip(context.keys(), context.values(), strict=True)),
        lambda context: Context(context.items()),
        lambda context: baggage.set_baggage("size", "large", context),
    ],
    ids=["itself", "of", "copy", "unpacked", "dict", "key by key", "keys and values", "items", "with more baggage"],
)
def test_in_whatever_way_a_context_is_read_it_names_the_span_that_was_not_started_yet(
    read: Callable[[Any], Context], ambient: AmbientSpan
) -> None:
    context = read(ambient)

    assert trace.get_current_span(context).name == "execute_tool tool"  # type: ignore[attr-defined]
    assert baggage.get_baggage("colour", context) == "blue"
    assert len(ambient) == 2
    assert "nothing" not in ambient
