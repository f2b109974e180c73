"""Streams that are read to their end: the first chunk is timed, and what the caller does meanwhile nests nowhere."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.output_parsers import StrOutputParser

from scenarios.models import SECRET, calls, says
from scenarios.scenario import STREAMED, Scenarios
from scenarios.stage import QUESTION, Mode, Stage

__all__ = ["STREAMS"]

STREAMS = Scenarios("streams")

_SHOWN = ("first chunk", "stream", "usage")
_STREAMED_AGENT = """
    invoke_agent clerk [in 50 out 12]
      chat toy [first chunk timed] [streamed] [in 20 out 5]
      execute_tool look_up
      chat toy [first chunk timed] [streamed] [in 30 out 7]
    """


def _agent(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    model = stage.model(calls("look_up"), says(usage=(30, 7)), streams=True)
    return stage.agent(model, [stage.tool(look_up)])


def _text(chunk: Any) -> str:
    return str(chunk[0].content)


@STREAMS("an agent's words are streamed, and the first chunk is timed", _STREAMED_AGENT, shows=_SHOWN, modes=STREAMED)
def agent_messages(stage: Stage) -> Any:
    agent = _agent(stage)
    if not stage.mode.is_async:
        return [_text(chunk) for chunk in agent.stream(QUESTION, stage.config(), stream_mode="messages")]

    async def texts() -> list[str]:
        stream = agent.astream(QUESTION, stage.config(), stream_mode="messages")
        return [_text(chunk) async for chunk in stream]

    return asyncio.run(texts())


@STREAMS(
    "an agent whose words nobody streams has no first chunk",
    """
    invoke_agent clerk [in 50 out 12]
      chat toy [in 20 out 5]
      execute_tool look_up
      chat toy [in 30 out 7]
    """,
    shows=_SHOWN,
)
def agent_states(stage: Stage) -> Any:
    return stage.run(_agent(stage), QUESTION)


@STREAMS("an agent's events are streamed", _STREAMED_AGENT, shows=_SHOWN, modes=(Mode.ASTREAM,))
def agent_events(stage: Stage) -> Any:
    agent = _agent(stage)

    async def events() -> list[str]:
        with stage.looking("after the stream"):
            return [event["event"] async for event in agent.astream_events(QUESTION, stage.config(), version="v2")]

    return asyncio.run(events())


@STREAMS("an agent's protocol is streamed", _STREAMED_AGENT, shows=_SHOWN, modes=STREAMED)
def agent_protocol(stage: Stage) -> Any:
    agent = _agent(stage)

    async def values() -> list[Any]:
        stream = await agent.astream_events(QUESTION, stage.config(), version="v3")
        return [value async for value in stream.values]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # v3 calls itself experimental
        if stage.mode.is_async:
            return asyncio.run(values())
        return list(agent.stream_events(QUESTION, stage.config(), version="v3").values)


@STREAMS(
    "a model's words are streamed",
    """
    chat toy [first chunk timed] [streamed] [in 20 out 5]
    """,
    shows=_SHOWN,
    modes=STREAMED,
    has_agent_or_graph=False,
)
def model(stage: Stage) -> Any:
    return stage.run(stage.model(says(), streams=True), SECRET)


@STREAMS(
    "a chain's words are streamed",
    """
    invoke_workflow answering
      chat toy [first chunk timed] [streamed] [in 20 out 5]
    """,
    shows=_SHOWN,
    modes=STREAMED,
    has_agent_or_graph=False,
)
def chain(stage: Stage) -> Any:
    streamed = stage.model(says(), streams=True) | StrOutputParser()
    return stage.run(streamed.with_config(run_name="answering"), SECRET)


@STREAMS(
    "what the caller does between two chunks does not nest in the stream",
    """
    invoke_agent clerk
      chat toy
    render
    render
    """,
    modes=STREAMED,
)
def work_between_chunks(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says(), streams=True))

    def render(chunk: Any) -> int:
        with stage.span("render"):
            return len(chunk["messages"])

    if not stage.mode.is_async:
        return [render(chunk) for chunk in agent.stream(QUESTION, stage.config(), stream_mode="values")]

    async def rendered() -> list[int]:
        return [render(chunk) async for chunk in agent.astream(QUESTION, stage.config(), stream_mode="values")]

    return asyncio.run(rendered())


_TWO_AGENTS = """
    invoke_agent clerk
      chat toy
      execute_tool look_up
      chat toy
    invoke_agent clerk
      chat toy
      execute_tool look_up
      chat toy
    """


@STREAMS("two streams that are read in turn keep their traces apart", _TWO_AGENTS, modes=STREAMED)
def interleaved(stage: Stage) -> Any:
    agent = _agent(stage)
    if not stage.mode.is_async:
        streams = [agent.stream(QUESTION, stage.config(), stream_mode="messages") for _ in range(2)]
        return [(_text(one), _text(other)) for one, other in zip(*streams, strict=True)]

    async def in_turn() -> list[str]:
        one, other = (agent.astream(QUESTION, stage.config(), stream_mode="messages") for _ in range(2))
        look, texts = stage.looking("between two chunks"), []
        async for chunk in one:
            texts += [_text(chunk), _text(await anext(other))]
            look.again()
        assert [chunk async for chunk in other] == []
        return texts

    return asyncio.run(in_turn())


@STREAMS(
    "a stream that one thread begins and another one reads on stays whole",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
      chat toy
    """,
    modes=(Mode.STREAM,),
)
def in_two_threads(stage: Stage) -> Any:
    stream: Iterator[Any] = _agent(stage).stream(QUESTION, stage.config(), stream_mode="messages")
    texts = [_text(next(stream))]

    def read_on() -> None:
        with stage.looking("in the other thread"):
            texts.extend(map(_text, stream))

    reader = threading.Thread(target=read_on)
    reader.start()
    reader.join()
    return texts


@STREAMS(
    "a stream that one task begins and another one reads on stays whole",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
      chat toy
    """,
    modes=(Mode.ASTREAM,),
)
def in_two_tasks(stage: Stage) -> Any:
    stream: AsyncIterator[Any] = _agent(stage).astream(QUESTION, stage.config(), stream_mode="messages")

    async def read_one() -> list[str]:
        return [_text(await anext(stream))]

    async def read_on() -> list[str]:
        with stage.looking("in the other task"):
            return [_text(chunk) async for chunk in stream]

    async def read() -> list[str]:
        return await asyncio.create_task(read_one()) + await asyncio.create_task(read_on())

    return asyncio.run(read())


_POST_OUTSIDE = """
    invoke_workflow answering
      chat toy
    POST /v1/chat
    """
_POST_INSIDE = """
    invoke_workflow answering
      chat toy
        POST /v1/chat
    """


@STREAMS(
    "the span of a model's client nests in the call where the frames of calls are known",
    _POST_INSIDE,
    other_trees={"handler": _POST_OUTSIDE, "handler+middleware": _POST_OUTSIDE},
    has_agent_or_graph=False,
)
def client_span(stage: Stage) -> Any:
    answering = stage.model(says(), streams=True, request=lambda: stage.span("POST /v1/chat")) | StrOutputParser()
    return stage.run(answering.with_config(run_name="answering"), SECRET)


_IN_NODE_OUTSIDE = """
    invoke_workflow office
      run_node work
        chat toy
        POST /v1/chat
    """
_IN_NODE_INSIDE = """
    invoke_workflow office
      run_node work
        chat toy
          POST /v1/chat
    """


@STREAMS(
    "the span of a model's client nests at least in the node that makes the call",
    _IN_NODE_INSIDE,
    other_trees={name: _IN_NODE_OUTSIDE for name in ("handler", "middleware", "handler+middleware")},
)
def client_span_in_node(stage: Stage) -> Any:
    toy = stage.model(says(), request=lambda: stage.span("POST /v1/chat"))
    return stage.run(stage.sequence("office", {"work": stage.asking(toy)}), QUESTION)
