"""Agents that do what they should: with tools, inside graphs, inside each other."""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_config
from langgraph.graph import START, MessagesState, StateGraph

from scenarios.models import SECRET, calls, says
from scenarios.scenario import Scenarios
from scenarios.stage import QUESTION, THREAD, Stage

__all__ = ["AGENTS"]

AGENTS = Scenarios("agents")


@AGENTS(
    "the spans of a tool and of a model's client nest",
    """
    invoke_agent clerk [in 50 out 12]
      chat toy [in 20 out 5]
        POST /v1/chat
      execute_tool look_up
        query the database
      chat toy [in 30 out 7]
        POST /v1/chat
    """,
    shows={"usage"},
)
def tool_with_span(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            return f"nothing on {topic}"

    model = stage.model(calls("look_up"), says(usage=(30, 7)), request=lambda: stage.span("POST /v1/chat"))
    return stage.run(stage.agent(model, [stage.tool(look_up)]), QUESTION)


@AGENTS(
    "a tool that is no coroutine function nests its spans in an event loop too",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
        query the database
      chat toy
    """,
)
def sync_tool(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            return f"nothing on {topic}"

    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [look_up]), QUESTION)


@AGENTS(
    "an agent runs under the application's own span",
    """
    GET /answers
      invoke_agent clerk
        chat toy
    """,
)
def under_own_span(stage: Stage) -> Any:
    agent = stage.agent(stage.model(says()))
    with stage.span("GET /answers"):
        return stage.run(agent, QUESTION)


@AGENTS(
    "an agent without a name is an agent",
    """
    invoke_agent
      chat toy
      execute_tool look_up
      chat toy
    """,
)
def unnamed_agent(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)], name=None), QUESTION)


class Guarded(AgentMiddleware[Any, Any]):
    """Has every hook that becomes a node."""

    def before_agent(self, state: Any, runtime: Any) -> None:
        """Nothing."""

    def before_model(self, state: Any, runtime: Any) -> None:
        """Nothing."""

    def after_model(self, state: Any, runtime: Any) -> None:
        """Nothing."""

    def after_agent(self, state: Any, runtime: Any) -> None:
        """Nothing."""


@AGENTS(
    "hooks of a middleware are nodes of the agent",
    """
    invoke_agent clerk
      run_node Guarded.before_agent
      run_node Guarded.before_model
      chat toy
      run_node Guarded.after_model
      run_node Guarded.after_agent
    """,
)
def hooks(stage: Stage) -> Any:
    return stage.run(stage.agent(stage.model(says()), middleware=[Guarded()]), QUESTION)


@AGENTS(
    "a sub-agent that is a tool nests under the tool",
    """
    invoke_agent clerk [agent clerk] [in 130 out 20]
      chat toy [agent clerk] [in 20 out 5]
      execute_tool ask_researcher [agent clerk]
        invoke_agent researcher [agent researcher] [in 80 out 8]
          chat small [agent researcher] [in 40 out 4]
          execute_tool look_up [agent researcher]
          chat small [agent researcher] [in 40 out 4]
      chat toy [agent clerk] [in 30 out 7]
    """,
    shows={"agent", "usage"},
)
def sub_agent(stage: Stage) -> Any:
    researcher = _researcher(stage)

    def ask_researcher(topic: str) -> str:
        """Ask somebody who knows."""
        return str(researcher.invoke({"messages": [("user", topic)]})["messages"][-1].content)

    async def ask_researcher_async(topic: str) -> str:
        """Ask somebody who knows."""
        return str((await researcher.ainvoke({"messages": [("user", topic)]}))["messages"][-1].content)

    tool = stage.tool_of(ask_researcher, ask_researcher_async, name="ask_researcher")
    model = stage.model(calls("ask_researcher"), says(usage=(30, 7)))
    return stage.run(stage.agent(model, [tool]), QUESTION)


def _researcher(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    model = stage.model(calls("look_up", usage=(40, 4)), says(usage=(40, 4)), model="small")
    return stage.agent(model, [stage.tool(look_up)], name="researcher")


@AGENTS(
    "what a tool calls with the configuration that it was given nests under the tool",
    """
    invoke_agent clerk
      chat toy
      execute_tool ask
        chat small
      chat toy
    """,
)
def explicit_config(stage: Stage) -> Any:
    small = stage.model(says(), model="small")

    def ask(topic: str, config: RunnableConfig) -> str:
        """Ask another model."""
        return str(small.invoke(topic, config).content)

    async def ask_async(topic: str, config: RunnableConfig) -> str:
        """Ask another model."""
        return str((await small.ainvoke(topic, config)).content)

    tool = stage.tool_of(ask, ask_async, name="ask")
    return stage.run(stage.agent(stage.model(calls("ask"), says()), [tool]), QUESTION)


@AGENTS(
    "an agent that is a node of a graph nests under the node",
    """
    invoke_workflow office
      run_node greet
      run_node clerk
        invoke_agent clerk
          chat toy
          execute_tool look_up
            query the database
          chat toy
    """,
)
def agent_in_graph(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            return topic

    def greet(_: MessagesState) -> Any:
        return {"messages": [("ai", f"Hello {SECRET}")]}

    clerk = stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)])
    return stage.run(stage.sequence("office", {"greet": greet, "clerk": clerk}), QUESTION)


@AGENTS(
    "a graph inside a graph has a workflow of its own, and its nodes nest their spans",
    """
    invoke_workflow office
      run_node desk
        invoke_workflow desk
          run_node stamp
            print
    """,
)
def graph_in_graph(stage: Stage) -> Any:
    def stamp(_: MessagesState) -> Any:
        with stage.span("print"):
            return {"messages": [("ai", SECRET)]}

    desk = stage.sequence("desk", {"stamp": stamp})
    return stage.run(stage.sequence("office", {"desk": desk}), QUESTION)


@AGENTS(
    "all spans of a thread carry its id as the conversation",
    """
    invoke_agent clerk [conversation thread-1]
      chat toy [conversation thread-1]
      execute_tool look_up [conversation thread-1]
      chat toy [conversation thread-1]
    """,
    shows={"conversation"},
)
def conversation(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        assert get_config()["configurable"]["thread_id"] == THREAD
        return topic

    agent = stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)])
    return stage.run(agent, QUESTION, stage.config(has_thread=True))


@AGENTS(
    "edges are no nodes, not even those of the start",
    """
    invoke_workflow office
      run_node greet
      run_node work
    """,
)
def edges(stage: Stage) -> Any:
    def greet(_: MessagesState) -> Any:
        return {"messages": [("ai", f"Hello {SECRET}")]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("greet", stage.function(greet))
    builder.add_node("work", stage.function(greet))
    builder.add_conditional_edges(START, lambda _: "greet", ["greet"])
    builder.add_conditional_edges("greet", lambda _: "work", ["work"])
    return stage.run(stage.compile(builder, name="office"), QUESTION)


class Shelf(BaseRetriever):
    """Has one document."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document(f"all about {query}", id="document-1")]


@AGENTS(
    "a chain finds documents and completes a text",
    """
    invoke_workflow answering
      retrieval
      text_completion
    """,
    has_agent_or_graph=False,
)
def chain(stage: Stage) -> Any:
    def as_prompt(documents: list[Document]) -> str:
        return documents[0].page_content

    answering = Shelf() | RunnableLambda(as_prompt) | FakeListLLM(responses=[SECRET])
    return stage.run(answering.with_config(run_name="answering"), SECRET)
