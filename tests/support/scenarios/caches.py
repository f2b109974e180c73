"""What is answered from a cache: a node does not run, and a model's tokens are not counted again."""

from __future__ import annotations

from typing import Any

from langchain_core.caches import InMemoryCache
from langgraph.cache.memory import InMemoryCache as InMemoryNodeCache
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy

from scenarios.models import SECRET, says
from scenarios.scenario import CALLS, Scenarios
from scenarios.stage import QUESTION, Stage

__all__ = ["CACHES"]

CACHES = Scenarios("caches")


@CACHES(
    "a node whose result is cached does not run",
    """
    invoke_workflow office
      run_node greet
      run_node work
    invoke_workflow office
      run_node greet
    """,
)
def node(stage: Stage) -> Any:
    def tell(_: MessagesState) -> Any:
        return {"messages": [("ai", SECRET)]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("greet", stage.function(tell))
    builder.add_node("work", stage.function(tell), cache_policy=CachePolicy(key_func=lambda _: "always"))
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "work")
    graph = stage.compile(builder, name="office", cache=InMemoryNodeCache())
    return [stage.run(graph, QUESTION) for _ in range(2)]


@CACHES(
    "an answer that LangChain's cache repeats costs nothing",
    """
    chat toy [in 20 out 5]
    chat toy [cache hit] [in 0 out 0]
    """,
    modes=CALLS,
    shows=("usage",),
    has_agent_or_graph=False,
)
def model(stage: Stage) -> Any:
    toy = stage.model(says(), cache=InMemoryCache())
    return [stage.run(toy, SECRET) for _ in range(2)]


@CACHES(
    "an agent whose answers are cached costs nothing the second time",
    """
    invoke_agent clerk [in 20 out 5]
      chat toy [in 20 out 5]
    invoke_agent clerk [in 0 out 0]
      chat toy [cache hit] [in 0 out 0]
    """,
    shows=("usage",),
)
def agent(stage: Stage) -> Any:
    clerk = stage.agent(stage.model(says(), cache=InMemoryCache()))
    question = {"messages": [{"role": "user", "content": SECRET, "id": "message-1"}]}
    return [stage.run(clerk, question) for _ in range(2)]
