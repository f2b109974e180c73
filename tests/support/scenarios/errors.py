"""What fails, and what only stands in the place of what did not run."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Annotated, Any

from langchain.agents.middleware import (
    AgentMiddleware,
    ModelCallLimitMiddleware,
    ToolCallLimitMiddleware,
)
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import InjectedToolCallId, ToolException
from langgraph.errors import GraphRecursionError, NodeCancelledError, NodeTimeoutError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, TimeoutPolicy

from scenarios.models import ANSWER, LONG_S, SECRET, Unavailable, calls, says
from scenarios.scenario import ON_LOOP, WITHOUT_LOOP, Scenarios
from scenarios.stage import QUESTION, Mode, Stage

__all__ = ["ERRORS"]

ERRORS = Scenarios("errors")

_DEADLINE_S = 0.05
"""Long enough for a node to begin on a busy machine."""

_AGENT_GOES_ON = """
    invoke_agent clerk
      chat toy
      execute_tool look_up !{}
      chat toy
    """


@ERRORS(
    "a tool that raises ends the agent",
    """
    invoke_agent clerk !Unavailable
      chat toy
      execute_tool look_up !Unavailable
        query the database
    """,
    raises=Unavailable,
)
def tool_raises(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            raise Unavailable

    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)]), QUESTION)


@ERRORS("a tool whose exception becomes a message has failed", _AGENT_GOES_ON.format("tool_error"))
def tool_exception(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        raise ToolException(f"nothing on {topic}")

    tool = stage.tool(look_up, handle_tool_error=True)
    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [tool]), QUESTION)


@ERRORS("a tool that answers with an error has failed", _AGENT_GOES_ON.format("tool_error"))
def tool_message(stage: Stage) -> Any:
    def look_up(topic: str, call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Look something up."""
        return ToolMessage(f"nothing on {topic}", tool_call_id=call_id, status="error")

    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [stage.tool(look_up)]), QUESTION)


@ERRORS("a tool that is called with wrong arguments has failed", _AGENT_GOES_ON.format("ValidationError"))
def wrong_arguments(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    model = stage.model(calls(("look_up", {"subject": SECRET})), says())
    return stage.run(stage.agent(model, [stage.tool(look_up)]), QUESTION)


@ERRORS(
    "a tool that does not exist has failed, though it never ran",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_down !unknown_tool
      chat toy
    """,
)
def unknown_tool(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    return stage.run(stage.agent(stage.model(calls("look_down"), says()), [stage.tool(look_up)]), QUESTION)


@ERRORS(
    "a tool that a graph's tool node does not know has failed, beside one that has not",
    """
    invoke_workflow desk
      run_node ask
        chat toy
      run_node tools
        execute_tool look_down !unknown_tool
        execute_tool look_up
    """,
    in_any_order=("execute_tool",),
)
def unknown_tool_in_graph(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    ask, tools = stage.asking(stage.model(calls("look_up", "look_down"))), ToolNode([stage.tool(look_up)])
    return stage.run(stage.sequence("desk", {"ask": ask, "tools": tools}), QUESTION)


@ERRORS(
    "a model that raises ends the agent",
    """
    invoke_agent clerk !Unavailable [1 of unknown usage]
      chat toy !Unavailable
    """,
    shows={"usage"},
    raises=Unavailable,
)
def model_raises(stage: Stage) -> Any:
    return stage.run(stage.agent(stage.model(says(fails=1))), QUESTION)


@ERRORS(
    "a node that raises ends the graph",
    """
    invoke_workflow office !Unavailable
      run_node greet
      run_node work !Unavailable
        think
    """,
    raises=Unavailable,
)
def node_raises(stage: Stage) -> Any:
    def greet(_: MessagesState) -> Any:
        return {"messages": [("ai", SECRET)]}

    def work(_: MessagesState) -> Any:
        with stage.span("think"):
            raise Unavailable

    return stage.run(stage.sequence("office", {"greet": greet, "work": work}), QUESTION)


@ERRORS(
    "an error that a node's error handler takes over ends the node alone",
    """
    invoke_workflow office
      run_node work !Unavailable
      run_node __error_handler__work
    """,
)
def error_handler(stage: Stage) -> Any:
    def work(_: MessagesState) -> Any:
        raise Unavailable

    def apologise(_: MessagesState) -> Any:
        return {"messages": [("ai", f"Sorry for {SECRET}")]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("work", stage.function(work), error_handler=stage.function(apologise))
    builder.add_edge(START, "work")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


@ERRORS(
    "the recursion limit ends the graph and none of its nodes",
    """
    invoke_workflow office !GraphRecursionError
      run_node work
      run_node work
      run_node work
    """,
    raises=GraphRecursionError,
)
def recursion_limit(stage: Stage) -> Any:
    def work(_: MessagesState) -> Any:
        return {"messages": [("ai", SECRET)]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("work", stage.function(work))
    builder.add_edge(START, "work")
    builder.add_edge("work", "work")
    return stage.run(stage.compile(builder, name="office"), QUESTION, stage.config(recursion_limit=3))


@ERRORS(
    "a node that fails ends the one beside it only in an event loop",
    """
    invoke_workflow office !Unavailable
      run_node fast !Unavailable
      run_node slow
    """,
    other_trees={
        mode.value: """
    invoke_workflow office !Unavailable
      run_node fast !Unavailable
      run_node slow !CancelledError [cancelled]
    """
        for mode in ON_LOOP
    },
    raises=Unavailable,
    in_any_order=("run_node",),
)
def parallel_failure(stage: Stage) -> Any:
    has_begun, async_has_begun = threading.Event(), asyncio.Event()

    def fast(_: MessagesState) -> Any:
        has_begun.wait(LONG_S)
        raise Unavailable

    def slow(_: MessagesState) -> Any:
        has_begun.set()
        time.sleep(0.02)
        return {"messages": [("ai", SECRET)]}

    async def fast_async(_: MessagesState) -> Any:
        await async_has_begun.wait()
        raise Unavailable

    async def slow_async(_: MessagesState) -> Any:
        async_has_begun.set()
        await asyncio.sleep(LONG_S)

    builder: Any = StateGraph(MessagesState)
    builder.add_node("fast", stage.either(fast, fast_async))
    builder.add_node("slow", stage.either(slow, slow_async))
    builder.add_edge(START, "fast")
    builder.add_edge(START, "slow")
    return stage.run(stage.compile(builder, name="office"), QUESTION)


def _sleepers(stage: Stage, **more: Any) -> Any:
    async def sleep(_: MessagesState) -> Any:
        await asyncio.sleep(LONG_S)

    builder: Any = StateGraph(MessagesState)
    builder.add_node("sleep", sleep, **more)
    builder.add_edge(START, "sleep")
    return stage.compile(builder, name="office")


@ERRORS(
    "a step that takes too long is cancelled, and the graph has timed out",
    """
    invoke_workflow office !TimeoutError
      run_node sleep !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    raises=TimeoutError,
)
def step_timeout(stage: Stage) -> Any:
    graph = _sleepers(stage)
    graph.step_timeout = _DEADLINE_S
    return stage.run(graph, QUESTION)


@ERRORS(
    "a step that takes too long cannot be stopped without an event loop, and the graph has timed out",
    """
    invoke_workflow office !TimeoutError
      run_node sleep
    """,
    modes=WITHOUT_LOOP,
    raises=TimeoutError,
)
def step_timeout_in_thread(stage: Stage) -> Any:
    def sleep(_: MessagesState) -> Any:
        time.sleep(2 * _DEADLINE_S)
        return {"messages": [("ai", SECRET)]}

    graph = stage.sequence("office", {"sleep": sleep})
    graph.step_timeout = _DEADLINE_S
    return stage.run(graph, QUESTION)


@ERRORS(
    "a node that takes too long is cancelled, and the graph has timed out",
    """
    invoke_workflow office !NodeTimeoutError
      run_node sleep !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    raises=NodeTimeoutError,
)
def node_timeout(stage: Stage) -> Any:
    return stage.run(_sleepers(stage, timeout=TimeoutPolicy(run_timeout=_DEADLINE_S)), QUESTION)


@ERRORS(
    "a node that cancels itself is cancelled, and the graph has failed",
    """
    invoke_workflow office !NodeCancelledError
      run_node give_up !CancelledError [cancelled]
    """,
    modes=ON_LOOP,
    raises=NodeCancelledError,
)
def node_cancels_itself(stage: Stage) -> Any:
    def give_up(_: MessagesState) -> Any:
        raise asyncio.CancelledError

    return stage.run(stage.sequence("office", {"give_up": give_up}), QUESTION)


@ERRORS(
    "a tool that exits the process ends everything around it",
    """
    invoke_agent clerk !SystemExit
      chat toy
      execute_tool quit !SystemExit
    """,
    modes=(Mode.INVOKE,),
    raises=SystemExit,
)
def system_exit(stage: Stage) -> Any:
    def leave(topic: str) -> str:
        """Leave."""
        raise SystemExit(f"no more {SECRET}")

    tool = stage.tool(leave, name="quit")
    return stage.run(stage.agent(stage.model(calls("quit"), says()), [tool]), QUESTION)


@ERRORS(
    "a key that the user presses ends everything around a tool",
    """
    invoke_agent clerk !KeyboardInterrupt
      chat toy
      execute_tool wait !KeyboardInterrupt
    """,
    modes=(Mode.INVOKE,),
)
def keyboard_interrupt(stage: Stage) -> Any:
    def wait(topic: str) -> str:
        """Wait."""
        raise KeyboardInterrupt

    try:
        return stage.run(stage.agent(stage.model(calls("wait"), says()), [stage.tool(wait)]), QUESTION)
    except KeyboardInterrupt:
        return "interrupted"


class NoDocuments(BaseRetriever):
    """Finds nothing, and says so by raising."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        raise Unavailable


@ERRORS(
    "a retriever that raises has failed, and the tool that asked it answers",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
        retrieval !Unavailable
      chat toy
    """,
)
def retriever_raises(stage: Stage) -> Any:
    retriever = NoDocuments()

    def look_up(topic: str) -> str:
        """Look something up."""
        try:
            return str(retriever.invoke(topic))
        except Unavailable:
            return "nothing"

    async def look_up_async(topic: str) -> str:
        """Look something up."""
        try:
            return str(await retriever.ainvoke(topic))
        except Unavailable:
            return "nothing"

    tool = stage.tool_of(look_up, look_up_async, name="look_up")
    return stage.run(stage.agent(stage.model(calls("look_up"), says()), [tool]), QUESTION)


class Answering(AgentMiddleware[Any, Any]):
    """Answers in the place of the model's second call, and of the tool `guess`."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        """Answer once a tool has."""
        return AIMessage(ANSWER) if _tool_answered(request) else handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        """Answer once a tool has."""
        return AIMessage(ANSWER) if _tool_answered(request) else await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Answer in the tool's place."""
        return _guess(request) or handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Answer in the tool's place."""
        return _guess(request) or await handler(request)


def _tool_answered(request: Any) -> bool:
    return any(isinstance(message, ToolMessage) for message in request.messages)


def _guess(request: Any) -> ToolMessage | Command[Any] | None:
    call = request.tool_call
    return ToolMessage(SECRET, name=call["name"], tool_call_id=call["id"]) if call["name"] == "guess" else None


@ERRORS(
    "what a middleware answers in the place of a model or tool was no call",
    """
    invoke_agent clerk [in 20 out 5]
      chat toy [in 20 out 5]
      execute_tool guess [by middleware]
      execute_tool look_up
      skip_model_call [by middleware]
    """,
    shows={"usage"},
    in_any_order=("execute_tool",),
)
def middleware_answers(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    def guess(topic: str) -> str:
        """Guess something."""
        raise AssertionError("is answered by the middleware")

    tools = [stage.tool(look_up), stage.tool(guess)]
    return stage.run(stage.agent(stage.model(calls("look_up", "guess")), tools, middleware=[Answering()]), QUESTION)


@ERRORS(
    "a limit of model calls ends an agent without an error",
    """
    invoke_agent clerk
      run_node ModelCallLimitMiddleware.before_model
      chat toy
      run_node ModelCallLimitMiddleware.after_model
      execute_tool look_up
      run_node ModelCallLimitMiddleware.before_model
    """,
)
def model_call_limit(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    limit = ModelCallLimitMiddleware(run_limit=1)
    return stage.run(stage.agent(stage.model(calls("look_up")), [stage.tool(look_up)], middleware=[limit]), QUESTION)


@ERRORS(
    "a limit of tool calls answers in the place of the tool",
    """
    invoke_agent clerk
      chat toy
      run_node ToolCallLimitMiddleware.after_model
      execute_tool look_up
      chat toy
      run_node ToolCallLimitMiddleware.after_model
        execute_tool look_up !tool_error [by middleware]
      chat toy
      run_node ToolCallLimitMiddleware.after_model
    """,
)
def tool_call_limit(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    model = stage.model(calls("look_up"), calls("look_up"), says())
    limit = ToolCallLimitMiddleware(run_limit=1)
    return stage.run(stage.agent(model, [stage.tool(look_up)], middleware=[limit]), QUESTION)
