"""What runs at the same time: tool calls, branches, nodes, batches and threads. Nobody's spans get mixed up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import add
from typing import Annotated, Any, TypedDict

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send

from scenarios.models import SECRET, Unavailable, calls, says
from scenarios.scenario import CALLS, ON_LOOP, Scenarios
from scenarios.stage import QUESTION, Stage

__all__ = ["PARALLEL"]

PARALLEL = Scenarios("parallel")


def _tools(stage: Stage) -> list[Any]:
    """Two tools that wait for each other, each with a span of its own."""
    both, async_both = threading.Barrier(2), _AsyncBarrier()

    def search(topic: str) -> str:
        """Search."""
        with stage.span("query the index"):
            both.wait(5)
        return topic

    def ask(topic: str) -> str:
        """Ask."""
        with stage.span("query the database"):
            both.wait(5)
        return topic

    async def search_async(topic: str) -> str:
        """Search."""
        with stage.span("query the index"):
            await async_both.wait()
        return topic

    async def ask_async(topic: str) -> str:
        """Ask."""
        with stage.span("query the database"):
            await async_both.wait()
        return topic

    return [stage.tool_of(search, search_async, name="search"), stage.tool_of(ask, ask_async, name="ask")]


class _AsyncBarrier:
    """Has two coroutines wait for each other."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._count = 0

    async def wait(self) -> None:
        self._count += 1
        if self._count == 2:
            self._arrived.set()
        await self._arrived.wait()


@PARALLEL(
    "tools that an agent calls at once keep their spans apart",
    """
    invoke_agent clerk
      chat toy
      execute_tool ask
        query the database
      execute_tool search
        query the index
      chat toy
    """,
    in_any_order=("execute_tool",),
)
def agents_tools(stage: Stage) -> Any:
    return stage.run(stage.agent(stage.model(calls("search", "ask"), says()), _tools(stage)), QUESTION)


@PARALLEL(
    "tools of a tool node keep their spans apart",
    """
    invoke_workflow desk
      run_node think
        chat toy
      run_node tools
        execute_tool ask
          query the database
        execute_tool search
          query the index
    """,
    in_any_order=("execute_tool",),
)
def tool_node(stage: Stage) -> Any:
    think, tools = stage.asking(stage.model(calls("search", "ask"))), ToolNode(_tools(stage))
    return stage.run(stage.sequence("desk", {"think": think, "tools": tools}), QUESTION)


class Notes(TypedDict):
    """What nodes write down."""

    notes: Annotated[list[str], add]


@PARALLEL(
    "nodes that a node sends work to run at once",
    """
    invoke_workflow office
      run_node split
      run_node work
        chat toy
      run_node work
        chat toy
      run_node work
        chat toy
      run_node join
    """,
    in_any_order=("run_node work",),
)
def sends(stage: Stage) -> Any:
    model = stage.model(says())

    def work(state: Notes) -> Any:
        return {"notes": [str(model.invoke(state["notes"][-1]).content)]}

    async def work_async(state: Notes) -> Any:
        return {"notes": [str((await model.ainvoke(state["notes"][-1])).content)]}

    def split(_: Notes) -> Any:
        return {"notes": [SECRET]}

    builder: Any = StateGraph(Notes)
    builder.add_node("split", stage.function(split))
    builder.add_node("work", stage.either(work, work_async))
    builder.add_node("join", stage.function(split))
    builder.add_edge(START, "split")
    builder.add_conditional_edges(
        "split", lambda state: [Send("work", {"notes": [f"{SECRET} {i}"]}) for i in range(3)], ["work"]
    )
    builder.add_edge("work", "join")
    return stage.run(stage.compile(builder, name="office"), {"notes": []})


@PARALLEL(
    "tasks of a functional workflow are its nodes",
    """
    invoke_workflow
      run_node flow
        run_node work
          print
        run_node work
          print
    """,
    in_any_order=("run_node work",),
    has_agent_or_graph=False,
    modes=CALLS,
)
def functional(stage: Stage) -> Any:
    def print_text(text: str) -> str:
        with stage.span("print"):
            return text.upper()

    work: Any = task(name="work")(stage.function(print_text))

    def flow(texts: list[str]) -> list[str]:
        return [future.result() for future in [work(text) for text in texts]]

    async def flow_async(texts: list[str]) -> list[str]:
        return list(await asyncio.gather(*(work(text) for text in texts)))

    flow_async.__name__ = flow.__name__
    return stage.run(entrypoint()(stage.either(flow, flow_async)), [SECRET, f"{SECRET} too"])


@PARALLEL(
    "branches of a chain keep their spans apart",
    """
    invoke_workflow compare
      run_branch left
        prepare left
        chat a
      run_branch right
        prepare right
        chat b
    """,
    in_any_order=("run_branch",),
    has_agent_or_graph=False,
    modes=CALLS,
)
def branches(stage: Stage) -> Any:
    both, async_both = threading.Barrier(2), _AsyncBarrier()

    def preparing(side: str) -> Any:
        def prepare(text: str) -> str:
            with stage.span(f"prepare {side}"):
                both.wait(5)
            return text

        async def prepare_async(text: str) -> str:
            with stage.span(f"prepare {side}"):
                await async_both.wait()
            return text

        return RunnableLambda(prepare, afunc=prepare_async)

    sides = {
        "left": preparing("left") | stage.model(says(), model="a") | StrOutputParser(),
        "right": preparing("right") | stage.model(says(), model="b") | StrOutputParser(),
    }
    return stage.run(RunnableParallel(sides).with_config(run_name="compare"), SECRET)


_THREE_AGENTS = """
    invoke_agent clerk
      chat toy
    invoke_agent clerk
      chat toy
    invoke_agent clerk
      chat toy
    """
_THREE_QUESTIONS = [QUESTION, QUESTION, QUESTION]


@PARALLEL("the items of a batch are traces of their own", _THREE_AGENTS, modes=CALLS)
def batch(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says()))
    if stage.mode.is_async:
        return asyncio.run(agent.abatch(_THREE_QUESTIONS, stage.config()))
    return agent.batch(_THREE_QUESTIONS, stage.config())


@PARALLEL("the items of a batch that comes as it is completed are traces of their own", _THREE_AGENTS, modes=CALLS)
def batch_as_completed(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says()))

    async def all_of_them() -> list[Any]:
        return [item async for item in agent.abatch_as_completed(_THREE_QUESTIONS, stage.config(max_concurrency=2))]

    if stage.mode.is_async:
        return sorted(asyncio.run(all_of_them()), key=lambda item: item[0])
    return sorted(agent.batch_as_completed(_THREE_QUESTIONS, stage.config(max_concurrency=2)), key=lambda item: item[0])


@PARALLEL(
    "an item of a batch fails alone",
    """
    invoke_workflow checking !Unavailable
    invoke_workflow checking
      chat toy
    invoke_workflow checking
      chat toy
    """,
    in_any_order=("invoke_workflow",),
    has_agent_or_graph=False,
    modes=CALLS,
)
def batch_with_failure(stage: Stage) -> Any:
    def check(text: str) -> str:
        if text == "bad":
            raise Unavailable
        return text

    chain = (RunnableLambda(check) | stage.model(says())).with_config(run_name="checking")
    texts = [SECRET, "bad", SECRET]
    if stage.mode.is_async:
        return asyncio.run(chain.abatch(texts, stage.config(), return_exceptions=True))
    return chain.batch(texts, stage.config(), return_exceptions=True)


@PARALLEL(
    "prompts that a model is given at once are calls of their own",
    """
    chat toy [in 20 out 5]
    chat toy [in 20 out 5]
    """,
    shows={"usage"},
    has_agent_or_graph=False,
    modes=CALLS,
)
def generate(stage: Stage) -> Any:
    model, prompts = stage.model(says()), [[("user", SECRET)], [("user", f"{SECRET} too")]]
    messages = [model._convert_input(prompt).to_messages() for prompt in prompts]
    callbacks = stage.config()["callbacks"]
    if stage.mode.is_async:
        return asyncio.run(model.agenerate(messages, callbacks=callbacks))
    return model.generate(messages, callbacks=callbacks)


@PARALLEL("threads that share a handler keep their traces apart", _THREE_AGENTS, modes=CALLS)
def threads(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says()))
    together, results = threading.Barrier(3), []

    def ask() -> None:
        together.wait(5)
        if stage.mode.is_async:
            results.append(asyncio.run(agent.ainvoke(QUESTION, stage.config())))
        else:
            results.append(agent.invoke(QUESTION, stage.config()))

    _in_threads(ask, ask, ask)
    return results


def _in_threads(*functions: Callable[[], None]) -> None:
    started = [threading.Thread(target=function) for function in functions]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


@PARALLEL(
    "runs that share an event loop keep their traces apart",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
        query the database
      chat toy
    invoke_agent clerk
      chat toy
      execute_tool look_up
        query the database
      chat toy
    """,
    modes=ON_LOOP,
)
def event_loop(stage: Stage) -> Any:
    both = _AsyncBarrier()

    async def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            await both.wait()
        return topic

    tool = stage.tool_of(_never, look_up, name="look_up")
    agent = stage.agent(stage.model(calls("look_up"), says()), [tool])

    async def both_of_them() -> Any:
        return await asyncio.gather(*(stage.arun(agent, QUESTION, stage.config()) for _ in range(2)))

    return asyncio.run(both_of_them())


def _never() -> None:
    raise AssertionError("the program runs in an event loop")


@PARALLEL(
    "a thread that is given the context nests under the tool that started it",
    """
    invoke_agent clerk
      chat toy
      execute_tool ask
        chat small
      chat toy
    """,
)
def thread_with_context(stage: Stage) -> Any:
    small = stage.model(says(), model="small")

    def ask(topic: str) -> str:
        """Ask another model."""
        with ContextThreadPoolExecutor(1) as pool:
            return str(pool.submit(small.invoke, topic).result().content)

    async def ask_async(topic: str) -> str:
        """Ask another model."""
        return str((await asyncio.to_thread(small.invoke, topic)).content)

    tool = stage.tool_of(ask, ask_async, name="ask")
    return stage.run(stage.agent(stage.model(calls("ask"), says()), [tool]), QUESTION)


_WITHOUT = """
    invoke_agent clerk
      chat toy
      execute_tool ask
      chat toy
    """
_APART = f"""{_WITHOUT.rstrip()}
    chat small
    """


@PARALLEL(
    "a thread that is given no context is not known to belong to the tool that started it",
    _WITHOUT,
    other_trees={
        "instrumentor": _APART,
        "handler+instrumentor": _APART,
        "middleware+instrumentor": _APART,
        "all": _APART,
    },
)
def thread_without_context(stage: Stage) -> Any:
    small = stage.model(says(usage=None), model="small")

    def ask(topic: str) -> str:
        """Ask another model."""
        with ThreadPoolExecutor(1) as pool:
            return str(pool.submit(small.invoke, topic).result().content)

    async def ask_async(topic: str) -> str:
        """Ask another model."""
        loop = asyncio.get_running_loop()
        return str((await loop.run_in_executor(None, small.invoke, topic)).content)

    tool = stage.tool_of(ask, ask_async, name="ask")
    return stage.run(stage.agent(stage.model(calls("ask"), says()), [tool]), QUESTION)
