"""Streams that are not read to their end: an abandoned run is no error, and what it used is counted or estimated."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.rate_limiters import BaseRateLimiter
from langgraph.graph import MessagesState

from scenarios.models import SECRET, Unavailable, calls, says
from scenarios.scenario import STREAMED, Scenarios
from scenarios.stage import QUESTION, Mode, Stage

__all__ = ["CLOSINGS"]

CLOSINGS = Scenarios("closings")


def _agent(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    return stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)])


def _close(stage: Stage, runnable: Any, given: Any, *, after: int, **options: Any) -> int:
    """Read so many chunks, then close the stream."""

    async def read_and_close() -> int:
        stream = runnable.astream(given, stage.config(), **options)
        with stage.looking("after the stream"):
            read = [await anext(stream) for _ in range(after)]
            await stream.aclose()
        return len(read)

    if stage.mode.is_async:
        return asyncio.run(read_and_close())
    with stage.looking("after the stream"):
        stream = runnable.stream(given, stage.config(), **options)
        read = [next(stream) for _ in range(after)]
        stream.close()
    return len(read)


_ABANDONED_AGENT = """
    invoke_agent clerk [abandoned] [in 20 out 5]
      chat toy [in 20 out 5]
    """


@CLOSINGS("an agent's stream is closed between two steps", _ABANDONED_AGENT, shows=("usage",), modes=STREAMED)
def closed(stage: Stage) -> Any:
    return _close(stage, _agent(stage), QUESTION, after=2, stream_mode="values")


@CLOSINGS("an agent's stream is dropped, and nobody closes it", _ABANDONED_AGENT, shows=("usage",), modes=STREAMED)
def dropped(stage: Stage) -> Any:
    agent = _agent(stage)

    async def read_and_drop() -> None:
        async for state in agent.astream(QUESTION, stage.config(), stream_mode="values"):
            if len(state["messages"]) == 2:
                break
        gc.collect()
        await asyncio.sleep(0.01)  # the event loop closes what the collector found

    def read_and_drop_sync() -> None:
        for state in agent.stream(QUESTION, stage.config(), stream_mode="values"):
            if len(state["messages"]) == 2:
                break
        gc.collect()

    with stage.looking("after the stream"):
        if stage.mode.is_async:
            return asyncio.run(read_and_drop())
        return read_and_drop_sync()


@CLOSINGS(
    "an agent's stream is neither read on nor let go, until the process ends",
    _ABANDONED_AGENT,
    shows=("usage",),
    modes=(Mode.STREAM,),
    is_kept_open=True,
)
def kept(stage: Stage) -> Any:
    stream = _agent(stage).stream(QUESTION, stage.config(), stream_mode="values")
    stage.kept.append(stream)
    with stage.looking("after the stream"):
        return [len(next(stream)["messages"]) for _ in range(2)]


@CLOSINGS(
    "another thread closes an agent's stream",
    _ABANDONED_AGENT,
    shows=("usage",),
    modes=(Mode.STREAM,),
)
def closed_in_another_thread(stage: Stage) -> Any:
    stream = _agent(stage).stream(QUESTION, stage.config(), stream_mode="values")
    read = [len(next(stream)["messages"]) for _ in range(2)]
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join()
    return read


@CLOSINGS(
    "another task closes an agent's stream",
    _ABANDONED_AGENT,
    shows=("usage",),
    modes=(Mode.ASTREAM,),
)
def closed_in_another_task(stage: Stage) -> Any:
    stream = _agent(stage).astream(QUESTION, stage.config(), stream_mode="values")

    async def read() -> list[int]:
        return [len((await anext(stream))["messages"]) for _ in range(2)]

    async def read_and_close() -> list[int]:
        numbers = await asyncio.create_task(read())
        await asyncio.create_task(stream.aclose())
        return numbers

    return asyncio.run(read_and_close())


@CLOSINGS(
    "an agent's stream is closed while its model speaks",
    """
    invoke_agent clerk [abandoned] [in 20 out 5]
      chat toy [in 20 out 5]
    """,
    other_trees={
        "astream": """
    invoke_agent clerk [abandoned] [1 of unknown usage]
      chat toy !CancelledError [cancelled] [estimated] [out 3]
    """
    },
    shows=("usage",),
    modes=STREAMED,
)
def closed_amid_words(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says(lasts_s=0.002, stalls_after=2), streams=True))
    return _close(stage, agent, QUESTION, after=2, stream_mode="messages")


@CLOSINGS(
    "an agent's events are no longer read while its model speaks",
    """
    invoke_agent clerk !CancelledError [cancelled]
      chat toy !CancelledError [cancelled] [estimated]
    """,
    modes=(Mode.ASTREAM,),
)
def events_closed(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says(stalls_after=1), streams=True))

    async def read_and_break() -> str:
        stream = agent.astream_events(QUESTION, stage.config(), version="v2")
        async for event in stream:
            if event["event"] == "on_chat_model_stream":
                break
        await stream.aclose()
        return str(event["event"])

    return asyncio.run(read_and_break())


@CLOSINGS(
    "a model's stream is closed, and what it said is estimated",
    """
    chat toy [abandoned] [estimated] [out 3]
    """,
    shows=("usage",),
    modes=STREAMED,
    has_agent_or_graph=False,
)
def model_closed(stage: Stage) -> Any:
    return _close(stage, stage.model(says(), streams=True), SECRET, after=2)


@CLOSINGS(
    "a model's stream is closed that told the input's usage first",
    """
    chat toy [abandoned] [estimated] [in 20 out 3]
    """,
    shows=("usage",),
    modes=STREAMED,
    has_agent_or_graph=False,
)
def model_closed_after_input(stage: Stage) -> Any:
    return _close(stage, stage.model(says(), streams=True, tells_input_first=True), SECRET, after=2)


@CLOSINGS(
    "a model's stream is closed in a node that goes on",
    """
    invoke_workflow office
      run_node work
        chat toy [abandoned] [estimated] [out 3]
    """,
    shows=("usage",),
)
def model_closed_in_node(stage: Stage) -> Any:
    model = stage.model(says(), streams=True)

    def work(_: MessagesState) -> Any:
        stream = model.stream(SECRET)
        words = [str(next(stream).content) for _ in range(2)]
        stream.close()  # type: ignore[attr-defined] # is a generator
        return {"messages": [("ai", "".join(words))]}

    async def work_async(_: MessagesState) -> Any:
        stream = model.astream(SECRET)
        words = [str((await anext(stream)).content) for _ in range(2)]
        await stream.aclose()  # type: ignore[attr-defined] # is a generator
        return {"messages": [("ai", "".join(words))]}

    return stage.run(stage.sequence("office", {"work": stage.either(work, work_async)}), QUESTION)


@CLOSINGS(
    "a chain's stream is closed, which LangChain drains without an event loop",
    """
    invoke_workflow answering
      chat toy [in 20 out 5]
    """,
    other_trees={
        "astream": """
    invoke_workflow answering [abandoned]
      chat toy [abandoned] [estimated] [out 3]
    """
    },
    shows=("usage",),
    modes=STREAMED,
    has_agent_or_graph=False,
)
def chain_closed(stage: Stage) -> Any:
    chain = (stage.model(says(), streams=True) | StrOutputParser()).with_config(run_name="answering")
    return _close(stage, chain, SECRET, after=2)


class NoCapacity(BaseRateLimiter):
    """Lets nobody pass."""

    def acquire(self, *, blocking: bool = True) -> bool:
        """Raise."""
        raise Unavailable

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Raise."""
        raise Unavailable


@CLOSINGS(
    "a stream whose rate limiter raises ends with the node around it",
    """
    invoke_workflow office !Unavailable
      run_node work !Unavailable
        chat toy !Unavailable
    """,
    raises=Unavailable,
)
def rate_limiter_in_node(stage: Stage) -> Any:
    model = stage.model(says(), streams=True, rate_limiter=NoCapacity())

    def work(_: MessagesState) -> Any:
        return {"messages": list(model.stream(SECRET))}

    async def work_async(_: MessagesState) -> Any:
        return {"messages": [chunk async for chunk in model.astream(SECRET)]}

    return stage.run(stage.sequence("office", {"work": stage.either(work, work_async)}), QUESTION)


@CLOSINGS(
    "a stream whose rate limiter raises ends with the process, if nothing is around it",
    """
    chat toy [abandoned]
    """,
    modes=STREAMED,
    has_agent_or_graph=False,
    is_kept_open=True,
    raises=Unavailable,
)
def rate_limiter(stage: Stage) -> Any:
    return stage.run(stage.model(says(), streams=True, rate_limiter=NoCapacity()), SECRET)
