"""Runs that are cancelled: every span ends, in time, with `CancelledError`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableParallel
from langgraph.graph import MessagesState

from scenarios.models import LONG_S, SECRET, ScriptedModel, calls, says
from scenarios.scenario import ON_LOOP, Scenarios
from scenarios.stage import QUESTION, Mode, Stage

__all__ = ["CANCELLATIONS"]

CANCELLATIONS = Scenarios("cancellations")


def _cancel(
    stage: Stage,
    runnable: Any,
    given: Any,
    begun: asyncio.Event | threading.Event,
    *,
    at_end: Callable[[], None] = lambda: None,
) -> Any:
    """Run something, and cancel it when it has begun."""

    async def run_and_cancel() -> Any:
        run = asyncio.create_task(stage.arun(runnable, given, stage.config()))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        run.cancel()
        try:
            return await run
        finally:
            at_end()

    return asyncio.run(run_and_cancel())


def _waiting_tool(stage: Stage, begun: asyncio.Event) -> Any:
    async def wait(topic: str) -> str:
        """Wait."""
        with stage.span("wait for the database"):
            begun.set()
            await asyncio.sleep(LONG_S)
        return topic

    return stage.tool_of(_never, wait, name="wait")


def _never() -> None:
    raise AssertionError("the program runs in an event loop")


class SlowModel(ScriptedModel):
    """Says when it has begun, and takes long."""

    begun: Any

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        await asyncio.sleep(LONG_S)


def _slow_model(begun: asyncio.Event, model: str = "toy") -> SlowModel:
    return SlowModel(script=[says()], report=lambda _: None, begun=begun, model=model)


@CANCELLATIONS(
    "a deadline passes during a tool",
    """
    invoke_agent clerk !CancelledError [cancelled]
      chat toy
      execute_tool wait !CancelledError [cancelled]
        wait for the database
    """,
    modes=ON_LOOP,
    raises=TimeoutError,
)
def deadline(stage: Stage) -> Any:
    begun = asyncio.Event()
    agent = stage.agent(stage.model(calls("wait"), says()), [_waiting_tool(stage, begun)])

    async def wait() -> Any:
        run = asyncio.create_task(stage.arun(agent, QUESTION, stage.config()))
        await begun.wait()
        return await asyncio.wait_for(run, 0.005)

    return asyncio.run(wait())


@CANCELLATIONS(
    "a task is cancelled during a tool",
    """
    invoke_agent clerk !CancelledError [cancelled]
      chat toy
      execute_tool wait !CancelledError [cancelled]
        wait for the database
    """,
    modes=ON_LOOP,
    raises=asyncio.CancelledError,
)
def amid_tool(stage: Stage) -> Any:
    begun = asyncio.Event()
    agent = stage.agent(stage.model(calls("wait"), says()), [_waiting_tool(stage, begun)])
    return _cancel(stage, agent, QUESTION, begun)


@CANCELLATIONS(
    "a task is cancelled during a tool that runs in a thread, which goes on",
    """
    invoke_agent clerk !CancelledError [cancelled]
      chat toy
      execute_tool wait !CancelledError [cancelled]
        wait for the database
    """,
    modes=ON_LOOP,
    raises=asyncio.CancelledError,
    has_stragglers=True,
)
def amid_tool_in_thread(stage: Stage) -> Any:
    begun, is_over = threading.Event(), threading.Event()

    def wait(topic: str) -> str:
        """Wait."""
        with stage.span("wait for the database"):
            begun.set()
            is_over.wait(LONG_S)
        return topic

    agent = stage.agent(stage.model(calls("wait"), says()), [wait])
    return _cancel(stage, agent, QUESTION, begun, at_end=is_over.set)


@CANCELLATIONS(
    "a task is cancelled during a model call",
    """
    invoke_agent clerk !CancelledError [cancelled] [1 of unknown usage]
      chat toy !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    shows=("usage",),
    raises=asyncio.CancelledError,
)
def amid_model(stage: Stage) -> Any:
    begun = asyncio.Event()
    return _cancel(stage, stage.agent(_slow_model(begun)), QUESTION, begun)


@CANCELLATIONS(
    "a task is cancelled while a model speaks, and what it said is estimated",
    """
    invoke_agent clerk !CancelledError [cancelled] [1 of unknown usage]
      chat toy !CancelledError [cancelled] [estimated] [out 3]
    """,
    modes=(Mode.ASTREAM,),
    shows=("usage",),
    raises=asyncio.CancelledError,
)
def amid_words(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says(stalls_after=2), streams=True))

    async def read_until_cancelled(enough: asyncio.Event) -> None:
        words = 0
        async for _ in agent.astream(QUESTION, stage.config(), stream_mode="messages"):
            words += 1
            if words == 2:
                enough.set()

    async def run_and_cancel() -> Any:
        enough = asyncio.Event()
        run = asyncio.create_task(read_until_cancelled(enough))
        await enough.wait()
        run.cancel()
        return await run

    return asyncio.run(run_and_cancel())


@CANCELLATIONS(
    "a task is cancelled during a model call of a node",
    """
    invoke_workflow office !CancelledError [cancelled]
      run_node greet
      run_node work !CancelledError [cancelled]
        chat toy !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    raises=asyncio.CancelledError,
)
def amid_node(stage: Stage) -> Any:
    begun = asyncio.Event()

    def greet(_: MessagesState) -> Any:
        return {"messages": [("ai", SECRET)]}

    office = stage.sequence("office", {"greet": greet, "work": stage.asking(_slow_model(begun))})
    return _cancel(stage, office, QUESTION, begun)


@CANCELLATIONS(
    "a task is cancelled during a branch of a chain, and so is the other branch",
    """
    invoke_workflow compare !CancelledError [cancelled]
      run_branch left !CancelledError [cancelled]
        chat toy !CancelledError [cancelled]
      run_branch right !CancelledError [cancelled]
        chat toy !CancelledError [cancelled]
    """,
    modes=(Mode.AINVOKE,),
    in_any_order=("run_branch",),
    has_agent_or_graph=False,
    raises=asyncio.CancelledError,
)
def amid_branches(stage: Stage) -> Any:
    left, right = asyncio.Event(), asyncio.Event()
    sides = {side: _slow_model(begun) | StrOutputParser() for side, begun in (("left", left), ("right", right))}
    return _cancel(stage, RunnableParallel(sides).with_config(run_name="compare"), SECRET, right)


@CANCELLATIONS(
    "a tool gives up its sub-agent, and goes on",
    """
    invoke_agent clerk
      chat toy
      execute_tool ask
        invoke_agent researcher !CancelledError [cancelled]
          chat small !CancelledError [cancelled]
      chat toy
    """,
    modes=ON_LOOP,
)
def of_sub_agent(stage: Stage) -> Any:
    begun = asyncio.Event()
    researcher = stage.agent(_slow_model(begun, "small"), name="researcher")

    async def ask(topic: str) -> str:
        """Ask somebody who knows, if it is quick."""
        answer = asyncio.create_task(researcher.ainvoke({"messages": [("user", topic)]}))
        await begun.wait()
        try:
            await asyncio.wait_for(answer, 0.005)
        except TimeoutError:
            return f"nothing on {topic}"
        raise AssertionError("the sub-agent takes long")

    tool = stage.tool_of(_never, ask, name="ask")
    return stage.run(stage.agent(stage.model(calls("ask"), says()), [tool]), QUESTION)


class SelfCancellingModel(ScriptedModel):
    """Is cancelled by its own client, as one is whose connection pool shuts down."""

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        raise asyncio.CancelledError


@CANCELLATIONS(
    "a model call is cancelled from inside, which LangChain makes another error of",
    """
    invoke_agent clerk !AttributeError
      chat toy !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    raises=AttributeError,
)
def from_inside(stage: Stage) -> Any:
    return stage.run(stage.agent(SelfCancellingModel(script=[says()], report=lambda _: None)), QUESTION)


@CANCELLATIONS(
    "one of two runs in an event loop is cancelled, and the other one is not",
    """
    invoke_agent clerk !CancelledError [cancelled]
      chat toy
      execute_tool wait !CancelledError [cancelled]
        wait for the database
    invoke_agent other
      chat toy
    """,
    modes=ON_LOOP,
)
def one_of_two(stage: Stage) -> Any:
    begun = asyncio.Event()
    one = stage.agent(stage.model(calls("wait"), says()), [_waiting_tool(stage, begun)])
    other = stage.agent(stage.model(says(lasts_s=0.01)), name="other")

    async def run_both() -> Any:
        cancelled = asyncio.create_task(stage.arun(one, QUESTION, stage.config()))
        await begun.wait()
        kept = asyncio.create_task(stage.arun(other, QUESTION, stage.config()))
        await asyncio.sleep(0)
        cancelled.cancel()
        return [type(result).__name__ for result in await asyncio.gather(cancelled, kept, return_exceptions=True)]

    return asyncio.run(run_both())
